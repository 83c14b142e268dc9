// What the reader has chosen, and its form in the address, so that a view can be shared.

export type Rest = "local" | "centre" | "kept";

export interface State {
  z: Float64Array;
  conditions: number[];
  plane: string;
  colour: string;
  rest: Rest;
  tab: string;
  row: number;
  a: Float64Array | null;
  b: Float64Array | null;
  filter: { name: string; low: number; high: number } | null;
  view: { x: number; y: number; scale: number } | null;
}

export const short = (v: number): string => String(Number(v.toPrecision(5)));
const list = (v: ArrayLike<number>): string => Array.from(v, short).join(",");
const numbers = (text: string | null, n?: number): number[] | null => {
  const found = text?.split(",").map(Number) ?? [];
  return found.length && found.every(Number.isFinite) && (n === undefined || found.length === n) ? found : null;
};

export function toHash(s: State): string {
  const words = new URLSearchParams({ z: list(s.z), map: s.plane, colour: s.colour, rest: s.rest, tab: s.tab });
  if (s.conditions.length) words.set("c", list(s.conditions));
  if (s.row >= 0) words.set("row", String(s.row));
  if (s.a) words.set("a", list(s.a));
  if (s.b) words.set("b", list(s.b));
  if (s.filter) words.set("filter", [s.filter.name, short(s.filter.low), short(s.filter.high)].join("|"));
  if (s.view) words.set("view", list([s.view.x, s.view.y, s.view.scale]));
  return "#" + words.toString();
}

/** Take from the address what fits this page; anything else is ignored. */
export function fromHash(hash: string, s: State): void {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const n = s.z.length;
  const code = (name: string): Float64Array | null => {
    const found = numbers(words.get(name), n);
    return found && Float64Array.from(found);
  };
  s.z = code("z") ?? s.z;
  s.a = code("a");
  s.b = code("b");
  s.conditions = numbers(words.get("c"), s.conditions.length) ?? s.conditions;
  s.plane = words.get("map") ?? s.plane;
  s.colour = words.get("colour") ?? s.colour;
  s.tab = words.get("tab") ?? s.tab;
  const rest = words.get("rest");
  if (rest === "local" || rest === "centre" || rest === "kept") s.rest = rest;
  const row = Number(words.get("row") ?? -1);
  s.row = Number.isInteger(row) ? row : -1;
  const view = numbers(words.get("view"), 3);
  s.view = view ? { x: view[0]!, y: view[1]!, scale: Math.max(1e-9, view[2]!) } : null;
  const parts = words.get("filter")?.split("|");
  s.filter = parts?.length === 3 && parts.slice(1).every((v) => Number.isFinite(Number(v))) ? { name: parts[0]!, low: Number(parts[1]), high: Number(parts[2]) } : null;
}
