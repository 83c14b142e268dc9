// How a row looks: an image pixel by pixel, a table with names, a sequence as lines, counts as bars.

import { h, number } from "./dom";
import type { Decoded } from "./decoder";
import type { About, Column } from "./page";

type Numbers = ArrayLike<number>;

export class Show {
  private readonly data: About["data"];

  constructor(about: About) { this.data = about.data; }

  /** Cells as the data would write them. */
  settled(x: Numbers): number[] {
    const { columns, span, kind } = this.data;
    return Array.from(x, (v, j) => {
      const column = columns?.[j];
      if (!column) return kind === "counts" ? Math.max(0, v) : span.length ? Math.min(Math.max(v, span[0]!), span[1]!) : v;
      if (column.levels.length) return Math.min(Math.max(Math.round(v), 0), column.levels.length - 1);
      if (column.kind === "count") return Math.max(0, v);
      const cut = column.decimals !== null ? Number(v.toFixed(Math.min(column.decimals, 12))) : v;
      return column.rule || column.low === null ? cut : Math.min(Math.max(cut, column.low), column.high!);
    });
  }

  text(column: Column, v: number): string {
    if (Number.isNaN(v)) return "missing";
    if (column.levels.length) return column.levels[Math.round(v)] ?? "missing";
    if (column.kind === "datetime" && column.time === "dates" && !column.rule) {
      const date = new Date(v * 86_400_000);
      if (Number.isNaN(date.getTime())) return number(v);
      const text = date.toISOString();
      return column.type.startsWith("date") || text.endsWith("T00:00:00.000Z") ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
    }
    if (column.kind === "count") return number(v, 3);
    return column.decimals === 0 ? Math.round(v).toLocaleString("en", { useGrouping: Math.abs(v) > 9999 }).replace("-", "−") : number(v, 4);
  }

  name(j: number): string { return this.data.columns?.[j]?.name ?? this.data.names[j] ?? `column ${j}`; }

  /** A row as a user knows it: an object of columns, or its numbers. */
  plain(x: Numbers): Record<string, unknown> | number[] {
    const { columns } = this.data;
    if (!columns) return Array.from(x);
    const found = this.settled(x);
    return Object.fromEntries(columns.map((c, j) => [c.name, c.levels.length ? c.levels[found[j]!] : found[j]]));
  }

  /** The whole row, large. `beside` is another row, to compare with. */
  full(x: Numbers, label: string, beside?: Numbers | null, spread?: Decoded): HTMLElement {
    if (this.data.kind === "image") return this.picture(x, label, "large");
    if (this.data.kind === "table") return this.table(x, beside, spread);
    if (this.data.kind === "sequence") return this.lines(x, label, 420, 200);
    return this.bars(x, label, beside);
  }

  /** The row as small as a word. */
  small(x: Numbers, label: string): HTMLElement {
    if (this.data.kind === "image") return this.picture(x, label, "small");
    if (this.data.kind === "sequence") return this.lines(x, label, 96, 48);
    if (this.data.kind === "table") {
      const settled = this.settled(x);
      return h("span", { className: "words" }, ...this.data.columns!.slice(0, 3).map((c, j) =>
        h("span", {}, h("small", {}, c.name), " ", this.text(c, Number.isNaN(x[j]!) ? NaN : settled[j]!))));
    }
    return this.spark(x, label);
  }

  picture(x: Numbers, label: string, size: string): HTMLCanvasElement {
    const [channels, height, width] = this.data.shape as [number, number, number];
    const canvas = h("canvas", { width, height, className: `picture ${size}`, role: "img", "aria-label": label });
    this.paint(canvas, x, channels, height, width);
    return canvas;
  }

  paint(canvas: HTMLCanvasElement, x: Numbers, channels = this.data.shape[0]!, height = this.data.shape[1]!, width = this.data.shape[2]!): void {
    const image = new ImageData(width, height);
    const [low, by] = [this.data.low, 255 / (this.data.high - this.data.low)];
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
    const [channels, height, width] = this.data.shape as [number, number, number];
    const canvas = h("canvas", { width, height, className: "picture medium", role: "img", "aria-label": label });
    const image = new ImageData(width, height);
    const plane = height * width;
    for (let i = 0; i < plane; i++) {
      let off = 0;
      for (let k = 0; k < channels; k++) off += (guess[i + k * plane]! - x[i + k * plane]!) / channels;
      const t = Math.min(1, Math.abs(off) / (0.5 * (this.data.high - this.data.low)));
      const to = off < 0 ? [0, 114, 178] : [213, 94, 0];
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = 245 + t * (to[k]! - 245);
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d")!.putImageData(image, 0, 0);
    return canvas;
  }

  private table(x: Numbers, beside?: Numbers | null, spread?: Decoded): HTMLElement {
    const settled = this.settled(x);
    const levels = spread?.probabilities ? this.levels(spread.probabilities) : [];
    const rows = this.data.columns!.map((c, j) => {
      const [low, high] = [c.low ?? 0, c.high ?? 1];
      const share = c.levels.length ? (settled[j]! + 0.5) / c.levels.length : (settled[j]! - low) / (high - low || 1);
      const bar = h("td", { className: "bar" }, h("i", { style: `left:${100 * Math.min(1, Math.max(0, share))}%` }));
      const range = c.levels.length ? `${c.levels.length} levels` : `${this.text(c, low)} to ${this.text(c, high)}`;
      const s = spread?.deviation?.[j];
      const shares = levels[j];
      return h("tr", {},
        h("th", { scope: "row", title: c.kind }, c.name, c.rule && h("small", {}, ` ${c.rule}`)),
        beside && h("td", { className: "value" }, this.text(c, beside[j]!)),
        h("td", { className: "value" }, this.text(c, settled[j]!),
          shares ? h("small", { title: c.levels.map((l, k) => `${l}: ${(100 * shares[k]!).toFixed(1)} %`).join("\n") }, ` ${(100 * shares[settled[j]!]!).toFixed(0)} %`)
            : s !== undefined && s > 0 && h("small", { title: "standard deviation" }, ` ± ${number(s, 2)}`)),
        bar, h("td", { className: "range" }, range));
    });
    const head = beside && h("thead", {}, h("tr", {}, h("td"), h("th", {}, "datum"), h("th", {}, "decoded"), h("td"), h("td")));
    return h("div", { className: "scroll" }, h("table", { className: "cells" }, head, h("tbody", {}, ...rows)));
  }

  /** The probabilities of each column's levels, by column. */
  private levels(all: Numbers): (number[] | null)[] {
    let at = 0;
    return this.data.columns!.map((c) => (c.levels.length ? Array.from({ length: c.levels.length }, () => all[at++]!) : null));
  }

  private lines(x: Numbers, label: string, width: number, height: number): HTMLElement {
    const [steps, channels] = this.data.shape as [number, number];
    const values = Array.from(x);
    const [low, high] = [Math.min(this.data.low, ...values), Math.max(this.data.high, ...values)];
    const path = (c: number): string => Array.from({ length: steps }, (_, t) =>
      `${t ? "L" : "M"}${((t / Math.max(1, steps - 1)) * (width - 4) + 2).toFixed(1)} ${(height - 2 - ((values[t * channels + c]! - low) / (high - low || 1)) * (height - 4)).toFixed(1)}`).join("");
    return svg(width, height, label, Array.from({ length: Math.min(channels, 10) }, (_, c) =>
      `<path d="${path(c)}" fill="none" stroke="var(--c${c})" stroke-width="1.6" vector-effect="non-scaling-stroke"/>`).join(""));
  }

  private spark(x: Numbers, label: string): HTMLElement {
    const [n, top] = [Math.min(x.length, 48), Math.max(1e-9, ...Array.from(x, Math.abs))];
    return svg(96, 40, label, Array.from({ length: n }, (_, i) =>
      `<rect x="${(i * 96) / n}" width="${90 / n}" y="${40 - (38 * Math.abs(x[i]!)) / top}" height="${(38 * Math.abs(x[i]!)) / top}" fill="var(--c0)"/>`).join(""));
  }

  private bars(x: Numbers, label: string, beside?: Numbers | null): HTMLElement {
    const order = Array.from({ length: x.length }, (_, i) => i);
    if (this.data.kind === "counts") order.sort((a, b) => (beside?.[b] ?? x[b]!) - (beside?.[a] ?? x[a]!));
    const shown = order.slice(0, 24);
    const top = Math.max(1e-9, ...shown.map((i) => Math.max(Math.abs(x[i]!), Math.abs(beside?.[i] ?? 0))));
    const rows = shown.map((i) => h("tr", {}, h("th", { scope: "row" }, this.name(i)),
      beside && h("td", { className: "value" }, number(beside[i]!)),
      h("td", { className: "value" }, number(x[i]!)),
      h("td", { className: "fill" }, h("i", { style: `width:${(100 * Math.abs(x[i]!)) / top}%` }), beside && h("b", { style: `left:${(100 * Math.abs(beside[i]!)) / top}%` }))));
    const more = order.length - shown.length;
    return h("div", { className: "scroll", "aria-label": label }, h("table", { className: "cells" },
      beside && h("thead", {}, h("tr", {}, h("td"), h("th", {}, "datum"), h("th", {}, "decoded"), h("td"))),
      h("tbody", {}, ...rows)), more > 0 && h("p", { className: "note" }, `${more.toLocaleString("en")} more columns are not shown.`));
  }
}

function svg(width: number, height: number, label: string, inside: string): HTMLElement {
  const box = h("div", { className: "chart", role: "img", "aria-label": label });
  box.innerHTML = `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true">${inside}</svg>`;
  return box;
}
