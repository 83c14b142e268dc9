// The panels: sliders, traversals, a row and its neighbours, the selection, paths, arithmetic, lists, samples, kept codes.

import type { App } from "./app";
import { button, csv, download, h, menu, number, whole } from "./dom";
import type { ValueAbout } from "./page";
import { smallest } from "./rows";
import { geodesic, mean, normal, straight } from "./space";

export interface Panel { id: string; name: string; body: HTMLElement; refresh(): void }
type Code = ArrayLike<number>;

export function panels(app: App): Panel[] {
  const found = [sliders(app), traversals(app), selection(app), path(app), samples(app), kept(app)];
  if (app.rows.count) found.splice(2, 0, rowPanel(app), lists(app));
  return found;
}

/** Thumbnails; a click on one moves the page to its code. */
function tiles(app: App, items: readonly { x: ArrayLike<number> | null; z?: Code; row?: number; text?: string; label: string; isDatum?: boolean }[], go = true): HTMLElement {
  const columns = app.show.telling(items.flatMap((item) => (item.x ? [item.x] : [])));
  return h("div", { className: `tiles ${app.show.inWords ? "table" : app.about.data.kind}` }, ...items.map((item) => h("button", { type: "button", className: item.isDatum === false ? "tile decoded" : "tile", title: item.label, "aria-label": item.label, disabled: !go && item.row === undefined, onclick: () => { if (item.row !== undefined) app.pick(item.row); else if (item.z) app.setCode(item.z); } }, item.x ? app.show.small(item.x, item.label, columns) : h("span.words", item.label), item.text ? h("small", item.text) : null)));
}

const note = (text: string): HTMLElement => h("p.note", text);
const dashed = (app: App): HTMLElement | null => (app.about.data.kind === "sequence" ? note("Dashed: the datum. Solid: decoded.") : null);

/** A row as it is shown: its cells or, if the page lacks them, its decoded code. */
async function shown(app: App, rows: readonly number[]): Promise<{ x: ArrayLike<number>; isDatum: boolean }[]> {
  const lacking = rows.filter((i) => !app.rows.datum(i));
  const conditions = await app.conditionsOf(lacking);
  const decoded = await app.decode(lacking.map((i) => app.rows.code(i)), conditions.length ? conditions : undefined);
  let at = 0;
  return rows.map((i) => { const x = app.rows.datum(i); return { x: x ?? decoded[at++]!, isDatum: !!x }; });
}

/** What marks a thumbnail that is no datum, if there is one. */
const faded = (rows: readonly { isDatum: boolean }[]): HTMLElement | null =>
  (rows.some((r) => r.isDatum) && rows.some((r) => !r.isDatum) ? note("Dashed frames: decoded, as the page does not hold the cells of these rows.") : null);

function sliders(app: App): Panel {
  const { dimensions } = app.about;
  const rows = app.active.map((d, a) => {
    const [center, unit] = [dimensions.center[d]!, dimensions.unit[d]!];
    const [low, high] = [Math.min(center - 3.5 * unit, dimensions.low[d]!), Math.max(center + 3.5 * unit, dimensions.high[d]!)];
    const output = h("output", { htmlFor: `dimension-${d}` });
    const rate = dimensions.rates?.[a];
    const input = h("input", { type: "range", id: `dimension-${d}`, min: String(low), max: String(high), step: "any", value: String(app.state.z[d]),
      oninput: () => { const z = Float64Array.from(app.state.z); z[d] = input.valueAsNumber; app.state.row = -1; app.setCode(z); } });
    const width = rate === undefined ? 0 : rate / Math.max(...dimensions.rates!);
    return { d, input, output, line: h("div.slider",
      h("label", { htmlFor: input.id }, `dimension ${d}`), input, output,
      rate !== undefined && h("span.rate", { title: `Rate: ${rate.toFixed(3)} nats` }, h("i", { style: `width:${100 * width}%` }), h("small", `${rate.toFixed(2)} nats`))) };
  });
  const body = h("div",
    note(`Active dimensions, ${dimensions.rates ? "highest rate first" : "most varied first"}.` + (dimensions.inactive ? ` Inactive ones, which change nothing, are left out: ${dimensions.inactive}.` : "")),
    h("div#sliders", ...rows.map((r) => r.line)),
    h("div.bar",
      button("to-centre", "Centre", () => app.setCode(dimensions.center)), button("to-mean", "Mean code", () => app.setCode(dimensions.mean)),
      button("set-a", "Set A here", () => { app.state.a = Float64Array.from(app.state.z); app.mark(); app.save(); }),
      button("set-b", "Set B here", () => { app.state.b = Float64Array.from(app.state.z); app.mark(); app.save(); })));
  return { id: "code", name: "Code", body, refresh() {
    for (const r of rows) {
      const v = app.state.z[r.d]!;
      if (document.activeElement !== r.input || r.input.valueAsNumber !== v) r.input.value = String(v);
      r.output.textContent = v.toFixed(2).replace(/^-0.00$/, "0.00").replace("-", "−");
    }
  } };
}

function traversals(app: App): Panel {
  const body = h("div");
  const { dimensions } = app.about;
  let turn = 0;
  return { id: "traversals", name: "Traversals", body, async refresh() {
    const own = ++turn;
    const steps = app.show.inWords ? [-2, 0, 2] : [-3, -2, -1, 0, 1, 2, 3];
    const dims = app.active.slice(0, 12);
    const codes = dims.flatMap((d) => steps.map((s) => { const z = Float64Array.from(app.state.z); z[d] = dimensions.center[d]! + s * dimensions.unit[d]!; return z; }));
    const rows = await app.decode(codes);
    if (own !== turn) return;
    body.replaceChildren(note(`Each line moves one dimension from ${steps[0]} to ${steps[steps.length - 1]} standard deviations; the others stay as they are.`.replace("-", "−")),
      ...dims.map((d, a) => h("div.strip", h("span", `dimension ${d}`, dimensions.rates && h("small", ` ${dimensions.rates[a]!.toFixed(2)} nats`)),
        tiles(app, steps.map((s, i) => ({ x: rows[a * steps.length + i]!, z: codes[a * steps.length + i]!, label: `dimension ${d} at ${s} standard deviations` }))))));
  } };
}

function rowPanel(app: App): Panel {
  const body = h("div#row-detail");
  let turn = 0;
  return { id: "row", name: "Row", body, async refresh() {
    const own = ++turn;
    const given = app.state.row;
    const row = given >= 0 ? given : app.rows.nearest(app.state.z, 1)[0]?.row ?? -1;
    if (row < 0) return;
    const datum = app.rows.datum(row);
    const code = app.rows.code(row);
    const conditions = await app.conditionsOf([row]);
    const [guess] = await app.decode([code], conditions.length ? conditions : undefined);
    const near = app.rows.nearest(code, 9, (i) => i !== row).slice(0, 8);
    const others = await shown(app, near.map((n) => n.row));
    if (own !== turn) return;
    const facts = app.about.rows.values.filter((v) => v.cell === undefined).slice(0, 8).map((v) => { return `${v.name} ${app.show.said(v, app.rows.value(v, row))}`; });
    const parts: (HTMLElement | null)[] = [
      h("h3", app.rows.name(row) + (given < 0 ? " (nearest to the code)" : "")), note([...new Set(facts)].join(" · ")),
      given < 0 ? h("div.bar", button("go-row", "Go to its code", () => app.pick(row))) : null];
    if (!datum) parts.push(note("The page does not hold the cells of this row."), app.show.full(guess!, "The reconstruction"));
    else if (app.about.data.kind === "image") {
      const figure = (picture: HTMLElement, text: string): HTMLElement => h("figure", picture, h("figcaption", text));
      parts.push(h("div.trio", figure(app.show.picture(datum, "The datum", "medium"), "datum"), figure(app.show.picture(guess!, "The reconstruction", "medium"), "reconstruction"),
        figure(app.show.errors(datum, guess!, "The error of each pixel"), "error: blue darker, orange lighter")));
    } else parts.push(app.show.full(guess!, "Datum and reconstruction", datum), dashed(app));
    parts.push(h("h3", "Nearest in code space"), faded(others), tiles(app, near.map((n, i) => ({ ...others[i]!, row: n.row, text: n.distance.toFixed(2), label: `${app.rows.name(n.row)}, at a distance of ${n.distance.toFixed(2)}` }))));
    body.replaceChildren(...parts.filter((p): p is HTMLElement => !!p));
    app.outline([row, ...near.map((n) => n.row)]);
  } };
}

function selection(app: App): Panel {
  const body = h("div#selection");
  let turn = 0;
  return { id: "selection", name: "Selection", body, async refresh() {
    const own = ++turn;
    const chosen = app.selected;
    if (!chosen.length) {
      body.replaceChildren(note("Nothing is selected. Choose Lasso under the map and draw around points, click a colour of the legend, or filter the rows by a value."));
      return;
    }
    const inside = new Uint8Array(app.rows.count);
    for (const i of chosen) inside[i] = 1;
    const coded = chosen.filter((i) => i < app.rows.coded);
    const middle = mean(coded.map((i) => app.rows.code(i)), app.state.z.length);
    const data = chosen.filter((i) => i < app.rows.kept);
    const average = averageOf(app, data);
    const given = (await app.conditionsOf(coded)).map((v, i) => (app.about.conditions[i]!.levels.length ? mostFrequent(timesOf(v)) : v.reduce((a, b) => a + b, 0) / v.length));
    const [atMiddle] = coded.length ? await app.decode([middle], given.map((v) => [v])) : [];
    const some = chosen.filter((i) => i < app.rows.coded).slice(0, 16);
    const pictures = await shown(app, some);
    if (own !== turn) return;
    const parts: (HTMLElement | null)[] = [
      h("p", h("b#selected-count", whole(chosen.length)), ` of ${whole(app.rows.count)} rows (${((100 * chosen.length) / app.rows.count).toFixed(1)} %).`),
      h("div.bar",
        button("selection-csv", "Row numbers (CSV)", () => download("selection.csv", csv([["row"], ...chosen.map((i) => [app.rows.numbers[i]!])]))),
        button("selection-go", "Go to the mean code", () => { app.setConditions(given); app.setCode(middle); }), button("selection-clear", "Clear", () => app.select([])))];
    if (average && atMiddle) parts.push(h("h3", "Mean datum, and the mean code decoded"), app.about.data.kind === "image"
      ? h("div.trio", app.show.picture(average, "The mean datum", "medium"), app.show.picture(atMiddle, "The mean code, decoded", "medium"))
      : app.show.full(atMiddle, "The mean datum, and the mean code decoded", average), ...[dashed(app)].filter((p) => p !== null));
    else if (atMiddle) parts.push(h("h3", "The mean code, decoded"), app.show.full(atMiddle, "The mean code, decoded"));
    parts.push(h("h3", "Differences from the rest"), differences(app, inside));
    if (some.length) parts.push(h("h3", chosen.length > some.length ? `${some.length} of the rows` : "The rows"), faded(pictures), tiles(app, some.map((i, k) => ({ ...pictures[k]!, row: i, label: app.rows.name(i) }))));
    body.replaceChildren(...parts.filter((p) => p !== null));
  } };
}

/** The mean of each cell over these rows; for a column with levels, the most frequent level. */
function averageOf(app: App, rows: readonly number[]): Float64Array | null {
  if (!rows.length) return null;
  const { sum, seen, times } = app.rows.tally(rows);
  return sum.map((v, j) => {
    const column = app.about.data.columns?.[j];
    if (column?.levels.length) return mostFrequent(times[j]!);
    return column?.kind === "datetime" ? Math.round((v / seen[j]!) * 1440) / 1440 : v / seen[j]!; // to the minute
  });
}

function timesOf(numbers: readonly number[]): Map<number, number> {
  const times = new Map<number, number>();
  for (const v of numbers) times.set(v, (times.get(v) ?? 0) + 1);
  return times;
}

function mostFrequent(times: Map<number, number>): number {
  return [...times].reduce((a, b) => (b[1] > a[1] ? b : a), [NaN, 0])[0];
}

/** All values and codes, sorted by the distance of the selection's mean from that of the rest, in deviations. */
function differences(app: App, inside: Uint8Array): HTMLElement {
  const lines: { name: string; own: string; rest: string; effect: number }[] = [];
  const compare = (n: number, at: (i: number) => number): { own: number; rest: number; effect: number } => {
    const [sums, squares, counts] = [[0, 0], [0, 0], [0, 0]];
    for (let i = 0; i < n; i++) {
      const v = at(i);
      if (Number.isNaN(v)) continue;
      const k = inside[i]!;
      sums[k]! += v; squares[k]! += v * v; counts[k]!++;
    }
    const all = counts[0]! + counts[1]!;
    const spread = Math.sqrt(Math.max(0, (squares[0]! + squares[1]!) / all - ((sums[0]! + sums[1]!) / all) ** 2));
    const [rest, own] = [sums[0]! / counts[0]!, sums[1]! / counts[1]!];
    return { own, rest, effect: (own - rest) / (spread || 1) };
  };
  for (const v of app.about.rows.values) {
    if (v.levels.length) {
      const shares = v.levels.slice(0, 200).map((level, k) => ({ level, ...compare(app.rows.count, (i) => { const x = app.rows.value(v, i); return Number.isNaN(x) ? NaN : Number(x === k); }) }));
      const chosen = inside.reduce((a, b) => a + b, 0);
      const frequent = shares.filter((s) => Math.max(s.own, s.rest) * chosen >= Math.min(5, chosen / 2)); // one row of a rare level says little
      frequent.sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
      for (const s of frequent.slice(0, 2)) lines.push({ name: `${v.name} = ${s.level}`, own: `${(100 * s.own).toFixed(0)} %`, rest: `${(100 * s.rest).toFixed(0)} %`, effect: s.effect });
    } else {
      const c = compare(app.rows.count, (i) => app.rows.value(v, i));
      const dated = app.show.isDate(v.name);
      const text = (x: number): string => (dated ? app.show.said(v, x) : number(x));
      lines.push({ name: v.name, own: text(c.own), rest: text(c.rest), effect: c.effect });
    }
  }
  app.active.forEach((d, a) => {
    const c = compare(app.rows.coded, (i) => app.rows.codes[a * app.rows.coded + i]!);
    lines.push({ name: `dimension ${d}`, own: number(c.own, 2), rest: number(c.rest, 2), effect: c.effect });
  });
  const shown = lines.filter((l) => Number.isFinite(l.effect)).sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)).slice(0, 12);
  const top = Math.max(1, ...shown.map((l) => Math.abs(l.effect)));
  return h("div.scroll", h("table.cells",
    h("thead", h("tr", h("td"), h("th", "selection"), h("th", "rest"), h("th", { title: "Difference of the means, in standard deviations of all rows" }, "difference"), h("td"))),
    h("tbody", ...shown.map((l) => h("tr", h("th", { scope: "row" }, l.name), h("td.value", l.own), h("td.value", l.rest),
      h("td.value", `${l.effect >= 0 ? "+" : "−"}${Math.abs(l.effect).toFixed(2)} sd`),
      h("td.both", h("i", { style: `left:${l.effect < 0 ? 50 - (50 * -l.effect) / top : 50}%;width:${(50 * Math.abs(l.effect)) / top}%` })))))));
}

function path(app: App): Panel {
  const box = h("div.strip.long");
  const { metric, about: { dimensions: { space, curvature } } } = app;
  const curved = metric ? { name: "geodesic of the metric", at: metric.at.bind(metric) } : geodesic(space, curvature);
  let geodesically = curved !== null;
  const slider = h("input#path-t", { type: "range", min: "0", max: "1", step: "any", value: "0", oninput: () => {
    const { a, b } = app.state;
    if (a && b) app.setCode(between(a, b, slider.valueAsNumber));
  } });
  const between = (a: Code, b: Code, t: number): Float64Array => (geodesically && curved ? curved.at(a, b, t) : straight(a, b, t));
  const set = (k: "a" | "b"): void => { app.state[k] = Float64Array.from(app.state.z); slider.value = k === "a" ? "0" : "1"; app.mark(); app.save(); void refresh(); };
  const groups = app.about.rows.values.filter((v) => v.levels.length > 1 && v.levels.length <= 60);
  const chosen = { value: 0, plus: 0, minus: 1 };
  const arithmetic = h("div");
  const meanOf = (level: number): Float64Array | null => {
    const v = groups[chosen.value]!;
    const rows: Code[] = [];
    for (let i = 0; i < app.rows.coded; i++) if (app.rows.value(v, i) === level) rows.push(app.rows.code(i));
    return rows.length ? mean(rows, app.state.z.length) : null;
  };
  const sum = (): Float64Array | null => {
    const [plus, minus] = [meanOf(chosen.plus), meanOf(chosen.minus)];
    return plus && minus ? app.state.z.map((v, d) => v + plus[d]! - minus[d]!) : null;
  };
  const result = h("div.tiles-box");
  async function add(): Promise<void> {
    const [here, plus, minus, z] = [app.state.z, meanOf(chosen.plus), meanOf(chosen.minus), sum()];
    if (!plus || !minus || !z) { result.replaceChildren(note("No row has one of these levels.")); return; }
    const rows = await app.decode([here, plus, minus, z]);
    const names = groups[chosen.value]!.levels;
    const words = ["this code", `mean of ${names[chosen.plus]}`, `mean of ${names[chosen.minus]}`, "sum"];
    const signs = ["", "+", "−", "="];
    result.replaceChildren(tiles(app, rows.map((x, i) => ({ x, z: [here, plus, minus, z][i]!, text: `${signs[i]} ${words[i]}`, label: words[i]! }))));
  }
  function drawArithmetic(): void {
    if (!groups.length) return;
    const v = groups[chosen.value]!;
    arithmetic.replaceChildren(h("h3", "Arithmetic of group means"), note("This code, plus the mean code of one group, minus that of another."),
      h("div.bar", menu("sum-value", "Groups by", groups.map((g) => g.name), chosen.value, (i) => { chosen.value = i; chosen.plus = 0; chosen.minus = 1; drawArithmetic(); }),
        menu("sum-plus", "Plus", v.levels, chosen.plus, (i) => { chosen.plus = i; void add(); }), menu("sum-minus", "Minus", v.levels, chosen.minus, (i) => { chosen.minus = i; void add(); }),
        button("sum-go", "Go to the sum", () => { const z = sum(); if (z) app.setCode(z); })), result);
    void add();
  }
  const body = h("div",
    h("div.bar", button("path-a", "A is here", () => set("a")), button("path-b", "B is here", () => set("b")),
      curved && menu("path-kind", "Way", [curved.name, "straight line"], 0, (i) => { geodesically = i === 0; void refresh(); })),
    h("label.field.wide", { htmlFor: "path-t" }, h("span", "Share of the way from A to B"), slider), box, arithmetic);
  let drawn = "";
  async function refresh(): Promise<void> {
    const { a, b } = app.state;
    if (!a || !b) box.replaceChildren(note("Set A and B: move the code by the map, the sliders or a row, then press “A is here” and “B is here”."));
    else {
      const ways = app.show.inWords ? 5 : 9;
      const codes = Array.from({ length: ways }, (_, i) => between(a, b, i / (ways - 1)));
      const rows = await app.decode(codes);
      box.replaceChildren(tiles(app, rows.map((x, i) => ({ x, z: codes[i]!, label: `${Math.round((100 * i) / (ways - 1))} % of the way`, text: i === 0 ? "A" : i === ways - 1 ? "B" : "" }))));
      app.outline([], Array.from({ length: 41 }, (_, i) => between(a, b, i / 40)));
    }
    const now = Array.from(app.state.z).join();
    if (now !== drawn) { drawn = now; drawArithmetic(); }
  }
  return { id: "path", name: "Path", body, refresh };
}

function lists(app: App): Panel {
  const body = h("div");
  const named = (...names: string[]): ValueAbout | undefined => app.about.rows.values.find((v) => names.some((name) => v.name.startsWith(name)));
  const ranked = named("anomaly rank");
  const wanted = [[ranked ?? named("NLL", "−ELBO"), ranked ? 1 : -1, "Strangest"], [named("reconstruction error"), -1, "Worst reconstructed"], [named("rate (nats)"), -1, "Highest rate"]] as const;
  let drawn: string | null = null;
  return { id: "lists", name: "Extremes", body, async refresh() {
    const key = JSON.stringify(app.state.filter);
    if (drawn === key) return;
    drawn = key;
    const parts: (HTMLElement | null)[] = [];
    for (const [v, sign, title] of wanted) {
      if (!v) continue;
      const figures = Float64Array.from({ length: app.rows.coded }, (_, i) => sign * app.rows.value(v, i));
      const found = smallest(figures, 12, (i) => app.passes(i));
      const pictures = await shown(app, found);
      parts.push(h("h3", title), faded(pictures), tiles(app, found.map((row, k) => ({ ...pictures[k]!, row, text: v === ranked ? `rank ${Math.round(app.rows.value(v, row)).toLocaleString("en")}` : number(app.rows.value(v, row)), label: `${app.rows.name(row)}: ${v.name} ${number(app.rows.value(v, row))}` }))));
    }
    if (parts.length && app.rows.coded < app.rows.count) parts.unshift(note(`Of the ${whole(app.rows.coded)} rows whose codes the page holds.`));
    body.replaceChildren(...(parts.length ? parts.filter((p) => p !== null) : [note("The model gives no figures of single rows.")]));
  } };
}

function samples(app: App): Panel {
  const { prior, dimensions } = app.about;
  const kinds = [...new Set([...(prior.standard ? ["the prior"] : []), ...prior.draws.map((d) => d.name)])];
  let drawnAt = "";
  let kind = 0;
  const amount = app.show.inWords ? 8 : 24;
  const temperature = h("input#temperature", { type: "range", min: "0", max: "1.5", step: "0.05", value: "1", oninput: () => { output.textContent = temperature.valueAsNumber.toFixed(2); void decode(); } });
  const output = h("output", { htmlFor: "temperature" }, "1.00");
  const box = h("div#sampled");
  let noise: Float64Array[] = [];
  let now: { x: ArrayLike<number>; z: Float64Array }[] = [];
  const tempered = (z: Float64Array): Float64Array => {
    const t = temperature.valueAsNumber;
    return z.map((v, d) => dimensions.center[d]! + t * (v - dimensions.center[d]!));
  };
  async function draw(): Promise<void> {
    drawnAt = app.state.conditions.join();
    if (prior.standard && kind === 0) noise = Array.from({ length: amount }, () => Float64Array.from({ length: dimensions.count }, normal));
    else {
      const own = prior.draws.filter((d) => d.name === kinds[kind]);
      const about = own.find((d) => !d.at || d.at.every((v, i) => v === app.state.conditions[i])) ?? own[0]!;
      const block = await app.page.block(about.block);
      const n = block.length / dimensions.count;
      noise = Array.from({ length: amount }, () => { const i = Math.floor(Math.random() * n); return Float64Array.from(block.subarray(i * dimensions.count, (i + 1) * dimensions.count)); });
    }
    await decode();
  }
  async function decode(): Promise<void> {
    const codes = noise.map(tempered);
    const rows = await app.decode(codes);
    now = rows.map((x, i) => ({ x, z: codes[i]! }));
    box.replaceChildren(tiles(app, now.map((s, i) => ({ ...s, label: `sample ${i + 1}` }))));
  }
  const body = h("div", note("Codes drawn at random and decoded: the mean of p(x|z), or the most probable level. A low temperature keeps codes near the centre."),
    h("div.bar", kinds.length > 0 && menu("density", "Codes from", kinds, 0, (i) => { kind = i; void draw(); }),
      h("label.field", { htmlFor: "temperature" }, h("span", "Temperature ", output), temperature),
      button("draw", "Draw again", () => void draw()), button("keep-samples", "Keep all", () => app.keep(now.map((s) => s.x)))), box);
  return { id: "samples", name: "Samples", body, refresh() { if (!noise.length || drawnAt !== app.state.conditions.join()) void draw(); else void decode(); } };
}

function kept(app: App): Panel & { add(rows: ArrayLike<number>[]): void } {
  let found: { x: ArrayLike<number>; given: (string | number)[] }[] = [];
  const { conditions } = app.about;
  const box = h("div");
  const label = (): void => {
    const tab = document.getElementById("tab-kept");
    if (tab) tab.textContent = found.length ? `Kept (${found.length})` : "Kept";
  };
  const table = (): unknown[][] => {
    const { columns, names } = app.about.data;
    const head = columns ? columns.map((c) => c.name) : names.length ? names : Array.from({ length: app.decoder.width }, (_, j) => `cell ${j}`);
    return [[...conditions.map((c) => c.name), ...head], ...found.map(({ x, given }) => [...given, ...Object.values(app.show.plain(x))])];
  };
  const png = (): void => {
    const [, height, width] = app.about.data.shape as [number, number, number];
    const columns = Math.ceil(Math.sqrt(found.length));
    const by = Math.max(1, Math.floor(96 / Math.max(height, width)));
    const gap = 2;
    const canvas = h("canvas", { width: columns * (width * by + gap) - gap, height: Math.ceil(found.length / columns) * (height * by + gap) - gap });
    const ctx = canvas.getContext("2d")!;
    ctx.imageSmoothingEnabled = false;
    found.forEach(({ x }, i) => ctx.drawImage(app.show.picture(x, "", "small"), (i % columns) * (width * by + gap), Math.floor(i / columns) * (height * by + gap), width * by, height * by));
    canvas.toBlob((blob) => { if (blob) download("kept.png", blob); });
  };
  const refresh = (): void => {
    if (!found.length) { box.replaceChildren(note("Nothing is kept. “Keep” next to the decoded row collects it here.")); return; }
    box.replaceChildren(h("div.bar",
      app.about.data.kind === "image" && button("kept-png", "PNG", png), button("kept-csv", "CSV", () => download("kept.csv", csv(table()))),
      button("kept-clear", "Clear", () => { found = []; label(); refresh(); })),
      tiles(app, found.map(({ x }, i) => ({ x, label: `kept ${i + 1}` })), false));
  };
  return { id: "kept", name: "Kept", body: box, refresh, add(rows) {
    const given = app.state.conditions.map((v, i) => conditions[i]!.levels[Math.round(v)] ?? v);
    found = [...found, ...rows.map((x) => ({ x: Float64Array.from(x), given }))];
    label(); refresh();
  } };
}
