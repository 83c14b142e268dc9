// How a row looks: an image pixel by pixel, a table with names, a sequence as lines, counts as bars.

import { h, number, whole } from "./dom";
import type { Decoded } from "./decoder";
import type { About, Column, ValueAbout } from "./page";

type Numbers = ArrayLike<number>;

export class Show {
  readonly #data: About["data"];

  constructor(about: About) { this.#data = about.data; }

  /** A cell as the data write it. */
  text(column: Column, v: number): string {
    if (Number.isNaN(v)) return "missing";
    if (column.levels.length) return column.levels[v] ?? number(v);
    if (column.kind === "datetime") return moment(column, v) ?? number(v);
    const { decimals, places } = column;
    if (decimals === null || (column.kind === "count" && !Number.isInteger(v)) || Math.abs(v) >= 1e15) return number(v, 4);
    const digits = (v || 0).toLocaleString("en", { minimumFractionDigits: places ?? 0, maximumFractionDigits: places ?? decimals, useGrouping: Math.abs(v) > 9999 });
    return (column.before + digits + column.after).replace("-", "−");
  }

  isDate(name: string): boolean { return !!this.#data.columns?.some((c) => c.name === name && c.kind === "datetime" && c.time !== "durations"); }

  /** A value by which rows are coloured, of its column if it is one of a column. */
  said(value: ValueAbout, v: number): string {
    const column = this.#data.columns?.find((c) => c.name === value.name);
    return value.levels.length ? value.levels[v] ?? "missing" : column ? this.text(column, v) : number(v);
  }

  name(j: number): string { return this.#data.columns?.[j]?.name ?? this.#data.names[j] ?? `column ${j}`; }

  /** A row as a user knows it: an object of columns, or its numbers. */
  plain(x: Numbers): Record<string, unknown> | number[] {
    const { columns } = this.#data;
    if (!columns) return Array.from(x);
    return Object.fromEntries(columns.map((c, j) => {
      const v = x[j]!;
      return [c.name, Number.isNaN(v) ? null : c.levels.length ? c.levels[v] : c.kind === "datetime" ? moment(c, v) ?? v : v];
    }));
  }

  /** The whole row, large. `beside` is another row, to compare with. */
  full(x: Numbers, label: string, beside?: Numbers | null, spread?: Decoded): HTMLElement {
    if (this.#data.kind === "image") return this.picture(x, label, "large");
    if (this.#data.kind === "table") return this.#table(x, beside, spread);
    if (this.#data.kind === "sequence") return this.#lines(x, label, 420, 200, beside);
    return this.#bars(x, label, beside);
  }

  /** Whether a small row consists of names and values: a picture of many columns would not say which they are. */
  get inWords(): boolean { return this.#data.kind === "table" || this.#data.kind === "counts" || this.#data.names.length > 0; }

  /** The columns that tell these rows apart: at most four in which they differ most. */
  telling(rows: readonly Numbers[]): number[] {
    const { columns } = this.#data;
    const apart = columns ? this.#apart(columns, rows) : this.inWords ? this.#spreads(rows) : [];
    return apart.map((_, j) => j).sort((a, b) => apart[b]! - apart[a]!).slice(0, 4).sort((a, b) => a - b);
  }

  /** How far rows are apart in each column, counts as square roots; of one row, how large its cells are. */
  #spreads(rows: readonly Numbers[]): number[] {
    const root = (v: number): number => (this.#data.kind === "counts" ? Math.sqrt(Math.max(0, v)) : v);
    return Array.from({ length: rows[0]?.length ?? 0 }, (_, j) => {
      const seen = rows.map((x) => root(x[j]!)).filter((v) => !Number.isNaN(v));
      return rows.length === 1 ? Math.abs(seen[0] ?? 0) : seen.length ? Math.max(...seen) - Math.min(...seen) : 0;
    });
  }

  #apart(columns: readonly Column[], rows: readonly Numbers[]): number[] {
    return columns.map((c, j) => {
      const seen = rows.map((x) => x[j]!).filter((v) => !Number.isNaN(v));
      const gaps = Number(seen.length > 0 && seen.length < rows.length) / 2;
      if (!c.levels.length) return gaps + (Math.max(...seen) - Math.min(...seen)) / ((c.high ?? 1) - (c.low ?? 0) || 1);
      return gaps + 1 - Math.max(0, ...seen.map((v) => seen.filter((w) => w === v).length)) / seen.length;
    }).map((v) => (Number.isFinite(v) ? v : 0));
  }

  /** The row as small as a word; in words, only some columns. */
  small(x: Numbers, label: string, columns: readonly number[] = this.telling([x])): HTMLElement {
    if (this.#data.kind === "image") return this.picture(x, label, "small");
    if (this.#data.kind === "sequence") return this.#lines(x, label, 96, 48);
    if (this.inWords) {
      const text = (j: number): string => (this.#data.columns ? this.text(this.#data.columns[j]!, x[j]!) : number(x[j]!));
      return h("span.words", ...columns.map((j) => h("span", h("small", this.name(j)), " ", text(j))));
    }
    return this.#spark(x, label);
  }

  picture(x: Numbers, label: string, size: string): HTMLCanvasElement {
    const [channels, height, width] = this.#data.shape as [number, number, number];
    const canvas = h("canvas", { width, height, className: `picture ${size}`, role: "img", "aria-label": label });
    this.paint(canvas, x, channels, height, width);
    return canvas;
  }

  paint(canvas: HTMLCanvasElement, x: Numbers, channels = this.#data.shape[0]!, height = this.#data.shape[1]!, width = this.#data.shape[2]!): void {
    const image = new ImageData(width, height);
    const [low, by] = [this.#data.low, 255 / (this.#data.high - this.#data.low)];
    const plane = height * width;
    const colours = channels === 3 || channels === 4;
    for (let i = 0; i < plane; i++) {
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = Math.round((x[i + (colours ? k * plane : 0)]! - low) * by);
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d")!.putImageData(image, 0, 0);
  }

  /** The error of each pixel, blue where the reconstruction is darker and orange where it is lighter. */
  errors(x: Numbers, guess: Numbers, label: string): HTMLElement {
    const [channels, height, width] = this.#data.shape as [number, number, number];
    const canvas = h("canvas.picture.medium", { width, height, role: "img", "aria-label": label });
    const image = new ImageData(width, height);
    const plane = height * width;
    for (let i = 0; i < plane; i++) {
      let off = 0;
      for (let k = 0; k < channels; k++) off += (guess[i + k * plane]! - x[i + k * plane]!) / channels;
      const t = Math.min(1, Math.abs(off) / (0.5 * (this.#data.high - this.#data.low)));
      const to = off < 0 ? [0, 114, 178] : [213, 94, 0];
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = 245 + t * (to[k]! - 245);
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d")!.putImageData(image, 0, 0);
    return canvas;
  }

  #table(x: Numbers, beside?: Numbers | null, spread?: Decoded): HTMLElement {
    const rows = this.#data.columns!.map((c, j) => {
      const [low, high] = [c.low ?? 0, c.high ?? 1];
      const left = (v: number): string => `left:${100 * Math.min(1, Math.max(0, c.levels.length ? (v + 0.5) / c.levels.length : (v - low) / (high - low || 1)))}%`;
      const bar = h("td.bar", h("span", h("i", { style: left(x[j]!) }), beside && !Number.isNaN(beside[j]!) && h("b", { style: left(beside[j]!) })));
      const ends = [`${this.text(c, low)} to`, this.text(c, high)];
      const range = c.levels.length ? [`${c.levels.length} levels`] : ends.join(" ").length < 20 ? [h("span", ends.join(" "))] : [h("span", ends[0]!), " ", h("span", ends[1]!)];
      const s = c.deviation === null ? undefined : spread?.deviation?.[c.deviation];
      const shares = c.levels_at === null ? undefined : spread?.probabilities?.subarray(c.levels_at, c.levels_at + c.levels.length);
      return h("tr",
        h("th", { scope: "row", title: c.kind }, c.name),
        beside && h("td.value", ...this.#whole(c, beside[j]!)),
        h("td.value", ...this.#whole(c, x[j]!),
          shares ? h("small", { title: c.levels.map((l, k) => `${l}: ${(100 * shares[k]!).toFixed(1)} %`).join("\n") }, ` ${(100 * shares[x[j]!]!).toFixed(0)} %`)
            : s !== undefined && s > 0 && h("small", { title: "standard deviation" }, ` ± ${number(s, 2)}${c.kind === "datetime" ? " days" : ""}`)),
        beside && h("td.value", this.#difference(c, x[j]!, beside[j]!)),
        bar, !beside && h("td.range", ...range));
    });
    const head = beside && h("thead", h("tr", h("td"), h("th", "datum"), h("th", "decoded"), h("th", "difference"), h("td")));
    return h("div.scroll", h("table.cells", head, h("tbody", ...rows)));
  }

  /** A cell as text that does not break within a date. */
  #whole(column: Column, v: number): (string | HTMLElement)[] {
    const text = this.text(column, v);
    return column.kind === "datetime" ? text.split(" ").flatMap((word, i) => (i ? [" ", h("span", word)] : [h("span", word)])) : [text];
  }

  /** Decoded less datum; of levels, whether they differ. */
  #difference(column: Column, x: number, datum: number): string {
    if (column.levels.length) return Number.isNaN(datum) || x === datum ? "" : "≠";
    return Number.isNaN(x - datum) ? "" : signed(x - datum) + (column.kind === "datetime" ? " days" : "");
  }

  #lines(x: Numbers, label: string, width: number, height: number, beside?: Numbers | null): HTMLElement {
    const [steps, channels] = this.#data.shape as [number, number];
    const all = [...Array.from(x), ...Array.from(beside ?? [])];
    const [low, high] = [Math.min(this.#data.low, ...all), Math.max(this.#data.high, ...all)];
    const path = (values: Numbers, c: number): string => Array.from({ length: steps }, (_, t) =>
      `${t ? "L" : "M"}${((t / Math.max(1, steps - 1)) * (width - 4) + 2).toFixed(1)} ${(height - 2 - ((values[t * channels + c]! - low) / (high - low || 1)) * (height - 4)).toFixed(1)}`).join("");
    return svg(width, height, label, [beside, x].flatMap((values, k) => (values ? Array.from({ length: Math.min(channels, 10) }, (_, c) =>
      `<path d="${path(values, c)}" fill="none" stroke="var(--c${c})" stroke-width="1.6"${k ? "" : ' stroke-dasharray="3 3"'} vector-effect="non-scaling-stroke"/>`) : [])).join(""));
  }

  #spark(x: Numbers, label: string): HTMLElement {
    const n = Math.min(x.length, 48); // of more columns, each bar is the largest of its part
    const bars = Array.from({ length: n }, (_, i) => {
      const part = Array.from({ length: Math.ceil(x.length / n) }, (_, k) => x[Math.floor((i * x.length) / n) + k]!).filter(Number.isFinite);
      return part.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
    });
    const [low, high] = [Math.min(0, ...bars), Math.max(0, ...bars)];
    const y = (v: number): number => 39 - (38 * (v - low)) / (high - low || 1);
    return svg(96, 40, label, bars.map((v, i) =>
      `<rect x="${(i * 96) / n}" width="${90 / n}" y="${y(Math.max(0, v))}" height="${Math.abs(y(v) - y(0))}" fill="var(--c0)"/>`).join(""));
  }

  #bars(x: Numbers, label: string, beside?: Numbers | null): HTMLElement {
    const order = Array.from({ length: x.length }, (_, i) => i);
    if (this.#data.kind === "counts") order.sort((a, b) => (beside?.[b] ?? x[b]!) - (beside?.[a] ?? x[a]!));
    else if (beside && x.length > 24) order.sort((a, b) => Math.abs(x[b]! - beside[b]!) - Math.abs(x[a]! - beside[a]!));
    const shown = order.slice(0, 24);
    const top = Math.max(1e-9, ...shown.map((i) => Math.max(Math.abs(x[i]!), Math.abs(beside?.[i] ?? 0))));
    const rows = shown.map((i) => h("tr", h("th", { scope: "row" }, this.name(i)),
      beside && h("td.value", number(beside[i]!)),
      h("td.value", number(x[i]!)),
      beside && h("td.value", signed(x[i]! - beside[i]!)),
      h("td.fill", h("span", h("i", { style: `width:${(100 * Math.abs(x[i]!)) / top}%` }), beside && h("b", { style: `left:${(100 * Math.abs(beside[i]!)) / top}%` })))));
    const more = order.length - shown.length;
    return h("div.scroll", { "aria-label": label }, h("table.cells",
      beside && h("thead", h("tr", h("td"), h("th", "datum"), h("th", "decoded"), h("th", "difference"), h("td"))),
      h("tbody", ...rows)), more > 0 && h("p.note", `${whole(more)} more columns are not shown.`));
  }
}

const signed = (v: number): string => (v > 0 ? "+" : "") + number(v);

/** Days since 1970-01-01 as a date, a date with its time, a time of day or a length of time. */
function moment(column: Column, v: number): string | null {
  if (column.time === "durations") return `${number(v, 4)} days`;
  const date = new Date(Math.round(v * 86_400_000));
  if (Number.isNaN(date.getTime())) return null;
  const [day, clock] = date.toISOString().split("T") as [string, string];
  const time = clock.replace(/(:00)?(\.000)?Z$/, "");
  return column.time === "times of day" ? time : column.type.startsWith("date") || time === "00:00" ? day : `${day} ${time}`;
}

function svg(width: number, height: number, label: string, inside: string): HTMLElement {
  const box = h("div.chart", { role: "img", "aria-label": label });
  box.innerHTML = `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true">${inside}</svg>`;
  return box;
}
