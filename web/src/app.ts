// The page: a map, the decoded code, and panels that relate the two.

import { palette, scaleOf, type Scale } from "./colours";
import type { Decoded, Decoder } from "./decoder";
import { $, button, csv, download, h, menu, whole } from "./dom";
import { PointMap, type Mark, type Mode } from "./map";
import { Metric } from "./metric";
import type { About, Page, ValueAbout } from "./page";
import { panels, type Panel } from "./panels";
import { Rows, type Plane } from "./rows";
import { Show } from "./show";
import { fromHash, short, toHash, type Rest, type State } from "./state";
import type { Data } from "./tensor";

export class App {
  readonly about: About;
  readonly show: Show;
  readonly state: State;
  map!: PointMap;
  /** Page indices of the selected rows. */
  selected: number[] = [];
  decoded: Data | null = null;
  #scale: Scale | null = null;
  #decoding = false;
  #asked = false;
  #framed = false;
  #failure = "";
  #saving = 0;
  #picture: HTMLCanvasElement | null = null;
  #tabs: Panel[] = [];
  #stale = 0;
  #lines: Mark[] = [];

  private constructor(readonly page: Page, readonly rows: Rows, readonly decoder: Decoder, readonly metric: Metric | null) {
    this.about = page.about;
    this.show = new Show(this.about);
    const { dimensions, rows: about } = this.about;
    const labelled = about.values[0];
    this.state = {
      z: Float64Array.from(dimensions.mean), conditions: this.about.conditions.map((c) => c.value),
      plane: about.maps.find((m) => m.name.startsWith("PCA"))?.name ?? (dimensions.active.length > 1 ? "0,1" : "0,-1"),
      colour: labelled?.name ?? "", rest: "local", tab: "code", row: -1, a: null, b: null, filter: null, view: null,
    };
    fromHash(location.hash, this.state);
    if (!(this.state.row < this.rows.coded)) this.state.row = -1;
  }

  static async start(page: Page, opening: Promise<Decoder>): Promise<App> {
    const [rows, decoder, metric] = await Promise.all([Rows.open(page), opening, Metric.open(page)]);
    await Promise.all(page.about.rows.maps.map((m) => rows.ready(m)));
    const app = new App(page, rows, decoder, metric);
    app.#build();
    await app.setPlane(app.state.plane, true);
    if (app.state.view) { app.map.view = app.state.view; app.map.draw(); }
    app.recolour();
    await app.update();
    return app;
  }

  get active(): number[] { return this.rows.active; }
  get plane(): Plane { return this.map.plane; }

  // The frame

  #build(): void {
    const { about } = this;
    const { rows, dimensions } = about;
    const facts = [
      `${whole(rows.count)}${rows.count < rows.total ? ` of ${whole(rows.total)}` : ""} rows` + (rows.count < rows.total ? ", drawn at random" : ""),
      `${dimensions.active.length} active of ${dimensions.count} dimensions`,
      `${whole(about.facts.parameters)} parameters`,
      about.address ? "decoded by a local process" : "decoded in this page",
    ].join(" · ");
    const tool = (mode: Mode, text: string, title: string): HTMLElement => h("label", { title },
      h("input", { type: "radio", name: "tool", id: `tool-${mode}`, checked: mode === "decode", onchange: () => { this.map.mode = mode; } }), h("span", text));
    this.#tabs = panels(this);
    const root = h("div#app", { className: about.data.kind },
      h("header",
        h("div", h("p.kicker", "latens explore"), h("h1", about.title), h("p.facts", facts)),
        button("theme", "Dark / light", () => this.#turn(), { className: "quiet", title: "Switch between light and dark" })),
      h("section#map-panel", { "aria-labelledby": "map-title" },
        h("h2#map-title", "Map of the codes"),
        h("div#map-menus.bar"),
        h("div#map",
          h("canvas.points", { "aria-hidden": "true" }),
          h("canvas#map-canvas.over", { tabIndex: 0, role: "application", "aria-label": "Map of the codes. Arrow keys move the code, with shift they move the map; plus and minus zoom; 0 shows all.", "aria-describedby": "map-help" }),
          h("div#axis-y.axis"), h("div#axis-x.axis")),
        h("div.bar.tools",
          h("div.radio", { role: "radiogroup", "aria-label": "What dragging on the map does" },
            tool("decode", "Decode", "Drag to decode under the pointer"), tool("move", "Move", "Drag to move the map"), tool("lasso", "Lasso", "Draw around points to select them (or hold shift)")),
          h("div.buttons",
            button("zoom-in", "+", () => this.map.zoom(1.4), { "aria-label": "Zoom in" }), button("zoom-out", "−", () => this.map.zoom(1 / 1.4), { "aria-label": "Zoom out" }),
            button("zoom-fit", "Show all", () => { this.map.fit(); this.save(); })),
          h("span#counted.note", { role: "status" })),
        h("div#legend"), h("div#filter.bar"),
        h("p#map-help.note", "")),
      h("section#side", { "aria-label": "Decoded" },
        h("div#decoded-panel.card",
          h("div.heading", h("h2", "Decoded here"), button("keep", "Keep", () => this.keep(), { title: "Collect this row under “Kept”" })),
          h("div#decoded", { role: "img", "aria-live": "off", "aria-label": "The decoded code" }),
          h("p#readout.note"),
          h("div#conditions.bar", ...this.#conditions())),
        h("div.card",
          h("div#tabs", { role: "tablist", "aria-label": "Panels" }, ...this.#tabs.map((t) => h("button", { type: "button", role: "tab", id: `tab-${t.id}`, "aria-controls": `panel-${t.id}`, onclick: () => this.open(t.id),
            onkeydown: (e: unknown) => this.#turnTab(e as KeyboardEvent, t.id), }, t.name))),
          ...this.#tabs.map((t) => h("div", { role: "tabpanel", id: `panel-${t.id}`, "aria-labelledby": `tab-${t.id}`, hidden: true }, t.body)))),
      h("div#tip", { hidden: true, role: "tooltip" }),
      h("footer", `Made by latens ${about.version}. `, about.address ? "Codes go to the process on this computer that wrote the page, and nowhere else." : "This page asks nothing of any network, and works from disk."));
    document.body.append(root);
    this.map = new PointMap(root.querySelector("#map")!, {
      point: (x, y) => this.#at(x, y),
      hover: (row, place) => this.#hover(row, place),
      pick: (row) => this.pick(row),
      lasso: (found) => this.select(found),
      moved: () => this.save(),
    });
    this.map.beyond = this.rows.beyond;
    this.#menus();
    this.#filters();
    this.open(this.#tabs.some((t) => t.id === this.state.tab) ? this.state.tab : "code");
    addEventListener("hashchange", () => this.#returned());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
  }

  #menus(): void {
    const { rows } = this.about;
    const maps = [...rows.maps.filter((m) => m.name !== "dimensions").map((m) => m.name), "two dimensions"];
    const chosen = maps.indexOf(this.state.plane);
    const axes = this.state.plane.match(/^(\d+),(-?\d+)$/)?.slice(1).map(Number) ?? [0, Math.min(1, this.active.length - 1)];
    const names = this.active.map((_, a) => this.rows.axisName(a));
    const pair = (): void => {
      const [x, y] = ["axis-menu-x", "axis-menu-y"].map((id) => ($(id) as HTMLSelectElement).selectedIndex) as [number, number];
      void this.setPlane(`${x},${this.active.length > 1 ? y : -1}`);
    };
    const isPair = chosen < 0;
    const rest: [Rest, string][] = [["local", "mean of nearby rows"], ["centre", "at the centre"], ["kept", "as they are"]];
    const bar = $("map-menus");
    bar.replaceChildren(...[
      maps.length > 1 && menu("map-plane", "Map", maps, isPair ? maps.length - 1 : chosen, (i) => {
        if (i < maps.length - 1) void this.setPlane(maps[i]!).then(() => this.#menus());
        else void this.setPlane("0,1").then(() => this.#menus());
      }),
      isPair && names.length > 1 && menu("axis-menu-x", "Across", names, axes[0]!, pair),
      isPair && names.length > 1 && menu("axis-menu-y", "Up", names, axes[1]!, pair),
      rows.values.length > 0 && menu("map-colour", "Colour", rows.values.map((v) => v.name), Math.max(0, rows.values.findIndex((v) => v.name === this.state.colour)), (i) => {
        this.state.colour = rows.values[i]!.name;
        this.recolour();
        this.save();
      }),
      this.active.length > 2 && menu("map-rest", "Other dimensions", rest.map((r) => r[1]), rest.findIndex((r) => r[0] === this.state.rest), (i) => {
        this.state.rest = rest[i]![0];
        this.save();
      }),
    ].filter((e): e is HTMLElement => e !== false));
  }

  #conditions(): HTMLElement[] {
    return this.about.conditions.map((c, i) => {
      const id = `condition-${i}`;
      const set = (v: number): void => { this.state.conditions[i] = v; void this.update(); };
      if (c.levels.length) return menu(id, c.name, c.levels, Math.round(this.state.conditions[i]!), set);
      return h("label.field", { htmlFor: id }, h("span", c.name),
        h("input", { id, type: "number", step: "any", value: short(this.state.conditions[i]!), min: String(c.low), max: String(c.high), oninput: (e: unknown) => {
          const v = (e as InputEvent & { target: HTMLInputElement }).target.valueAsNumber;
          if (Number.isFinite(v)) set(v);
        } }));
    });
  }

  /** A range or a level of one value; points outside it are hidden. */
  #filters(): void {
    const { values } = this.about.rows;
    const box = $("filter");
    if (!values.length) return;
    const names = ["all rows", ...values.map((v) => v.name)];
    const now = this.state.filter;
    const about = now && values.find((v) => v.name === now.name);
    const set = (low: number, high: number): void => { this.state.filter = { name: about!.name, low, high }; this.#mute(); this.save(); };
    const dated = !!about && this.show.isDate(about.name) && about.low > 1; // not times of the day
    const type = !dated ? "number" : about.step < 1 ? "datetime-local" : "date";
    const bound = (id: string, label: string, v: number, change: (v: number) => void): HTMLElement =>
      h("label.field", { htmlFor: id }, h("span", label), h("input", { id, type, step: "any", value: dated ? new Date(v * 864e5).toISOString().slice(0, type === "date" ? 10 : 16) : String(Number(v.toPrecision(6))), onchange: (e: unknown) => {
        const found = (e as Event & { target: HTMLInputElement }).target.valueAsNumber / (dated ? 864e5 : 1);
        if (Number.isFinite(found)) change(found);
      } }));
    box.replaceChildren(...[
      menu("filter-name", "Only rows by", names, about ? values.indexOf(about) + 1 : 0, (i) => {
        const v = values[i - 1];
        const high = v ? (v.levels.length ? 0 : v.high) : 0;
        this.state.filter = v ? { name: v.name, low: v.low, high } : null;
        this.#filters();
        this.#mute();
        this.save();
      }),
      about && now && (about.levels.length
        ? menu("filter-level", "Level", about.levels, Math.round(now.low), (i) => set(i, i))
        : bound("filter-low", "From", now.low, (v) => set(v, this.state.filter!.high))),
      about && now && !about.levels.length && bound("filter-high", "To", now.high, (v) => set(this.state.filter!.low, v)),
      about && button("filter-select", "Select these", () => this.select(this.passing())),
    ].filter((e): e is HTMLElement => !!e));
  }

  passing(): number[] {
    const found: number[] = [];
    for (let i = 0; i < this.rows.count; i++) if (this.passes(i)) found.push(i);
    return found;
  }

  passes(row: number): boolean {
    const f = this.state.filter;
    const about = f && this.about.rows.values.find((v) => v.name === f.name);
    if (!f || !about) return true;
    const v = this.rows.value(about, row);
    const slack = about.levels.length ? 0 : about.step / 2;
    return v >= f.low - slack && v <= f.high + slack;
  }

  #mute(): void {
    const filtered = this.state.filter !== null;
    if (!filtered && !this.selected.length) this.map.muted = null;
    else {
      const muted = new Uint8Array(this.rows.count).fill(this.selected.length ? 1 : 0);
      for (const i of this.selected) muted[i] = 0;
      if (filtered) for (let i = 0; i < muted.length; i++) if (!this.passes(i)) muted[i] = 2;
      this.map.muted = muted;
    }
    const shown = filtered ? this.passing().length : this.plane.count;
    const parts = [filtered || shown < this.rows.count ? `${whole(shown)} rows shown` : ""];
    if (this.selected.length) parts.push(`${whole(this.selected.length)} selected`);
    $("counted").textContent = parts.filter(Boolean).join(" · ");
    this.map.draw();
  }

  #turn(): void {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset["theme"] && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset["theme"] = dark ? "light" : "dark";
    this.recolour();
  }

  #turnTab(e: KeyboardEvent, id: string): void {
    const by = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    const at = this.#tabs.findIndex((t) => t.id === id);
    const next = this.#tabs[(at + by + this.#tabs.length) % this.#tabs.length]!;
    this.open(next.id);
    $(`tab-${next.id}`).focus();
  }

  open(id: string): void {
    this.state.tab = id;
    for (const t of this.#tabs) {
      const is = t.id === id;
      const tab = $(`tab-${t.id}`);
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      $(`panel-${t.id}`).hidden = !is;
    }
    if (this.map?.plane) { this.refresh(); this.save(); }
  }

  // The map

  async setPlane(name: string, first = false): Promise<void> {
    const about = this.about.rows.maps.find((m) => m.name === name);
    const pair = name.match(/^(\d+),(-?\d+)$/)?.slice(1).map(Number);
    const last = this.active.length - 1;
    const known = about || (pair && pair[0]! <= last && pair[1]! <= last);
    if (!known) name = last > 0 ? "0,1" : "0,-1";
    const [a, b] = known && pair ? pair : [0, last > 0 ? 1 : -1];
    this.map.plane = about ? await this.rows.ofMap(about) : this.rows.ofDimensions(a!, b!);
    this.state.plane = name;
    const names = this.plane.names;
    $("axis-x").textContent = names[0] + " →";
    $("axis-y").textContent = names[1] && names[1] + " →";
    this.map.circles = this.#circles();
    this.map.fit();
    this.#labels();
    this.mark();
    this.#mute();
    this.#help();
    if (!first) this.save();
  }

  /** One, two and three standard deviations of a standard normal prior. */
  #circles(): { x: number; y: number; r: number; text: string }[] {
    const { plane, about } = this;
    if (!about.prior.standard || !plane.axes || plane.axes.length < 2) return [];
    const at = plane.axes.map((axis) => -axis.reduce((s, v, i) => s + v * plane.origin[i]!, 0));
    return [1, 2, 3].map((r) => ({ x: at[0]!, y: at[1]!, r, text: r === 1 ? "prior: 1 sd" : `${r} sd` }));
  }

  #help(): void {
    const beyond = this.rows.beyond.reduce((a: number, b: number) => a + b, 0);
    const hidden = this.rows.count - this.plane.count;
    $("map-help").textContent =
      "Click or drag: the code under the pointer is decoded. Double click: the row next to it. Wheel or two fingers: zoom. " +
      (beyond ? `A cross marks the ${whole(beyond)} rows outside the prior's mass. ` : "") +
      (hidden > 0 ? `On these axes ${whole(this.plane.count)} of ${whole(this.rows.count)} rows have places.` : "");
  }

  colouring(): ValueAbout | undefined { return this.about.rows.values.find((v) => v.name === this.state.colour) ?? this.about.rows.values[0]; }

  recolour(): void {
    const about = this.colouring();
    if (!about) { this.map.colours = { tones: null, palette: palette() }; this.map.draw(); return; }
    this.#scale = scaleOf(this.rows, about);
    this.map.colours = this.#scale;
    this.#labels();
    this.#legend(about, this.#scale);
    this.map.draw();
  }

  /** The names of the levels, if they are few, at the medians of their points. */
  #labels(): void {
    const about = this.colouring();
    this.map.labels = [];
    if (!about || about.levels.length < 2 || about.levels.length > 10 || about.levels.some((l) => l.length > 14)) return;
    const groups: number[][] = about.levels.map(() => []);
    const step = Math.max(1, Math.floor(this.plane.count / 50_000));
    for (let i = 0; i < this.plane.count; i += step) { const v = this.rows.value(about, i); if (!Number.isNaN(v)) groups[v]?.push(i); }
    const middle = (of: Float32Array, g: number[]): number => Float32Array.from(g, (i) => of[i]!).sort()[Math.floor(g.length / 2)]!;
    this.map.labels = groups.flatMap((g, k) => (g.length ? [{ x: middle(this.plane.x, g), y: middle(this.plane.y, g), text: about.levels[k]! }] : []));
  }

  #legend(about: ValueAbout, scale: Scale): void {
    const css = (c: number[]): string => `rgb(${c.join(",")})`;
    const box = $("legend");
    if (about.levels.length) {
      box.replaceChildren(...about.levels.slice(0, 24).map((level, k) => h("button.chip", { type: "button", title: `Select the rows of ${level}`, onclick: () => {
        const found: number[] = [];
        for (let i = 0; i < this.rows.count; i++) if (this.rows.value(about, i) === k) found.push(i);
        this.select(found);
      } }, h("i", { style: `background:${css(scale.palette[k % 10]!)}` }), level)), ...(about.levels.length > 24 ? [h("span.note", `and ${about.levels.length - 24} more`)] : []));
      return;
    }
    const stops = [0, 16, 32, 48, 63].map((i) => css(scale.palette[i]!)).join(",");
    box.replaceChildren(h("span", this.show.said(about, scale.low)), h("i.ramp", { style: `background:linear-gradient(90deg,${stops})` }), h("span", this.show.said(about, scale.high)), h("span.note", about.name));
  }

  /** The position of a code on the map. */
  placeOf(z: ArrayLike<number>): { x: number; y: number } | null {
    const { plane } = this;
    if (plane.axes) {
      const [x, y] = [0, 1].map((k) => plane.axes![k]?.reduce((s, v, i) => s + v * (z[this.active[i]!]! - plane.origin[i]!), 0) ?? 0);
      return { x: x!, y: y! };
    }
    const near = this.rows.nearest(z, 3, (i) => i < plane.count);
    const weights = near.map((r) => 1 / (r.distance + 1e-6));
    const total = weights.reduce((a, b) => a + b, 0);
    if (!total) return null;
    const middle = (v: Float32Array): number => near.reduce((s, r, i) => s + (weights[i]! * v[r.row]!) / total, 0);
    return { x: middle(plane.x), y: middle(plane.y) };
  }

  /** The code at a position on the map: the axes fix some dimensions, and the reader chooses the others. */
  codeAt(x: number, y: number): Float64Array {
    const { plane, rows } = this;
    const z = this.state.rest === "kept" && plane.axes ? Float64Array.from(this.state.z) : Float64Array.from(this.about.dimensions.mean);
    const base = this.active.map((d) => (this.state.rest === "kept" ? this.state.z[d]! : this.about.dimensions.center[d]!));
    if (this.active.length > 2 && (this.state.rest === "local" || !plane.axes)) {
      const near = this.map.nearest(x, y, 16, (i) => i < rows.coded);
      const width = near.at(-1)?.square || 1e-12;
      let total = 0;
      base.fill(0);
      for (const { i, square } of near) {
        const w = Math.exp((-3 * square) / width);
        total += w;
        for (let a = 0; a < base.length; a++) base[a]! += w * rows.codes[a * rows.coded + i]!;
      }
      for (let a = 0; a < base.length; a++) base[a]! /= total;
    }
    plane.axes?.forEach((axis, k) => {
      const off = (k ? y : x) - axis.reduce((s, v, i) => s + v * (base[i]! - plane.origin[i]!), 0);
      axis.forEach((v, i) => (base[i]! += v * off));
    });
    this.active.forEach((d, i) => (z[d] = base[i]!));
    return z;
  }

  #at(x: number, y: number): void {
    this.#here = this.plane.axes ? null : { x, y };
    this.state.row = -1;
    this.setCode(this.codeAt(x, y), true);
  }

  #here: { x: number; y: number } | null = null;

  #hover(row: number, place: { x: number; y: number } | null): void {
    const tip = $("tip");
    tip.hidden = row < 0 || !place;
    if (row < 0 || !place) return;
    const datum = this.rows.datum(row);
    const coloured = this.colouring();
    const others = this.about.rows.values.filter((v) => v.cell === undefined && v !== coloured).slice(0, 4);
    const facts = [...(coloured ? [coloured] : []), ...others].map((v) => {
      return h("div", h("small", v.name), " ", this.show.said(v, this.rows.value(v, row)));
    });
    tip.replaceChildren(datum ? this.show.small(datum, this.rows.name(row)) : "", h("div", h("b", this.rows.name(row)), ...facts,
      this.rows.beyond[row] ? h("div", h("small", "outside the prior's mass")) : ""));
    const box = $("map").getBoundingClientRect();
    const left = Math.min(box.left + place.x + 16, innerWidth - tip.offsetWidth - 8);
    const below = box.top + place.y + 16 + tip.offsetHeight > innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? box.top + place.y - 12 - tip.offsetHeight : box.top + place.y + 16}px`;
  }

  // The code

  setCode(z: ArrayLike<number>, here = false): void {
    if (!here) this.#here = null;
    this.state.z = Float64Array.from(z);
    this.#asked = true;
    if (this.#framed) return; // draw once per frame
    this.#framed = true;
    requestAnimationFrame(() => { this.#framed = false; if (this.#asked && !this.#decoding) void this.update(); });
    if (!this.#decoding) void this.update();
  }

  /** Decode the current code and show it; meanwhile, only the newest code waits. */
  async update(): Promise<void> {
    if (this.#decoding) { this.#asked = true; return; }
    this.#decoding = true;
    try {
      do {
        this.#asked = false;
        this.mark();
        const [found] = await this.decoder.decode([this.state.z], this.state.conditions.map((c) => [c]));
        this.decoded = found!.value;
        this.#failure = "";
        this.#draw(found!);
      } while (this.#asked);
    } catch (error) {
      this.#failure = `Decoding failed: ${(error as Error).message}`;
    } finally {
      this.#decoding = false;
    }
    this.refresh();
    this.save();
  }

  async decode(codes: readonly ArrayLike<number>[], conditions: readonly ArrayLike<number>[] = this.state.conditions.map((c) => [c])): Promise<Data[]> {
    return (await this.decoder.decode(codes, conditions)).map((found) => found.value);
  }

  /** The conditions of rows, one list for each condition. */
  async conditionsOf(rows: readonly number[]): Promise<number[][]> {
    return Promise.all(this.about.conditions.map(async (c) => {
      const block = await this.page.block(c.block);
      return rows.map((i) => block[i]!);
    }));
  }

  #draw(found: Decoded): void {
    const box = $("decoded");
    const x = found.value;
    if (this.about.data.kind === "image") {
      if (!this.#picture) {
        this.#picture = this.show.picture(x, "The decoded code", "large");
        this.#picture.id = "decoded-picture";
        box.replaceChildren(this.#picture);
      } else this.show.paint(this.#picture, x);
    } else box.replaceChildren(this.show.full(x, "The decoded code", null, found));
    this.#tabs.find((t) => t.id === "code")!.refresh();
  }

  #readout(): string {
    const { z, row } = this.state;
    const [near] = this.rows.nearest(z, 1);
    const words = [row >= 0 ? `The code of ${this.rows.name(row)}.` : near ? `Nearest row: ${this.rows.name(near.row)} (distance ${near.distance.toFixed(2)}).` : ""];
    if (this.about.prior.standard) {
      const r = Math.sqrt(z.reduce((s, v) => s + v * v, 0));
      const usual = Math.sqrt(z.length);
      words.push(r > usual + 2.2 ? `Outside the prior's mass: ${r.toFixed(2)} from its centre, draws are at ${usual.toFixed(2)}.` : `From the prior's centre: ${r.toFixed(2)}.`);
    }
    return words.join(" ");
  }

  /** Go to the code of a row, and show the row. */
  pick(row: number, tab = "row"): void {
    if (row >= this.rows.coded) return;
    this.state.row = row;
    if (this.about.conditions.length) void this.conditionsOf([row]).then((c) => {
      this.setConditions(c.map((v) => v[0]!));
      this.setCode(this.rows.code(row));
    });
    else this.setCode(this.rows.code(row));
    this.open(tab);
  }

  setConditions(values: readonly number[]): void {
    values.forEach((v, i) => {
      this.state.conditions[i] = v;
      const field = $(`condition-${i}`) as HTMLSelectElement | HTMLInputElement;
      if (field instanceof HTMLSelectElement) field.selectedIndex = v; else field.value = short(v);
    });
  }

  mark(): void {
    const here = this.#here ?? this.placeOf(this.state.z);
    const marks: Mark[] = [...this.#lines];
    for (const kind of ["a", "b"] as const) {
      const code = this.state[kind];
      const at = code && this.placeOf(code);
      if (at) marks.push({ ...at, kind });
    }
    if (here) marks.push({ ...here, kind: "here" });
    this.map.marks = marks;
    this.map.drawMarks();
  }

  /** Draw rings around rows, and a line between codes. */
  outline(rows: readonly number[], path: readonly ArrayLike<number>[] = []): void {
    this.#lines = rows.filter((i) => i < this.plane.count).map((i) => ({ x: this.plane.x[i]!, y: this.plane.y[i]!, kind: "near" as const }));
    this.map.path = path.map((z) => this.placeOf(z)!);
    this.mark();
  }

  select(rows: number[]): void {
    this.selected = rows;
    this.#mute();
    this.open("selection");
  }

  keep(rows: ArrayLike<number>[] = this.decoded ? [this.decoded] : []): void {
    (this.#tabs.find((t) => t.id === "kept") as Panel & { add(rows: ArrayLike<number>[]): void }).add(rows);
  }

  /** Update the open panel once the pointer rests. */
  refresh(): void {
    const open = this.#tabs.find((t) => t.id === this.state.tab);
    if (!open) return;
    if (open.id !== "path" && open.id !== "row") { if (this.#lines.length || this.map.path.length) this.outline([]); }
    clearTimeout(this.#stale);
    this.#stale = setTimeout(() => {
      $("readout").textContent = this.#failure || this.#readout();
      open.refresh();
    }, 60) as unknown as number;
  }

  save(): void {
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => {
      this.state.view = this.map.view;
      const hash = toHash(this.state);
      try { history.replaceState(null, "", hash); } catch { location.hash = hash; }
    }, 250) as unknown as number;
  }

  #returned(): void {
    if (location.hash === toHash(this.state)) return;
    fromHash(location.hash, this.state);
    void this.setPlane(this.state.plane).then(() => {
      if (this.state.view) this.map.view = this.state.view;
      this.#menus();
      this.#filters();
      this.recolour();
      this.open(this.#tabs.some((t) => t.id === this.state.tab) ? this.state.tab : "code");
      void this.update();
    });
  }

  saveCsv(name: string, rows: readonly (readonly unknown[])[]): void { download(name, csv(rows)); }
}
