// The data in the page: facts as JSON, and arrays as text (base64 of their gzipped bytes, plane after plane).

import type { Program } from "./graph";
import type { MetricAbout } from "./metric";
import type { Kind } from "./tensor";

export interface Column {
  name: string; kind: string; levels: string[]; low: number | null; high: number | null; decimals: number | null;
  time: string; type: string;
  /** How numbers are written: the text around the digits and, if all have the same number, the decimals. */
  before: string; after: string; places: number | null;
  /** Where the deviations and the probabilities of levels are in the decoder's output, if it has any. */
  deviation: number | null; levels_at: number | null;
}
export interface ValueAbout { name: string; levels: string[]; low: number; high: number; step: number; missing: number; block: string; /** The column of the cells that it is, if it is none of its own. */ cell?: number }
export interface MapAbout {
  name: string; block: string; low: number[]; high: number[]; count: number; middle?: number[]; axes?: number[][]; share?: number[];
}
export interface ConditionAbout { name: string; levels: string[]; value: number; low: number; high: number; block: string }
export interface GraphAbout extends Program { constants: [Kind, string, number[]][] }
export interface About {
  title: string; version: string; run: string; facts: { recipe: string; parameters: number };
  kinds: Record<string, string>; address?: string; graph?: GraphAbout;
  data: {
    kind: "image" | "sequence" | "vector" | "counts" | "table"; shape: number[]; columns?: Column[]; names: string[];
    low: number; high: number; whole: boolean; levels: number | null;
    /** The smallest and the largest values of each column or channel; missing for tables and if there are none. */
    limits?: [number[], number[]];
  };
  dimensions: {
    count: number; active: number[]; inactive: number; rates: number[] | null; center: number[]; unit: number[];
    mean: number[]; low: number[]; high: number[]; space: string; curvature: number; metric?: MetricAbout;
  };
  prior: { standard: boolean; draws: { name: string; block: string; /** The conditions at which they were drawn, if they depend on them. */ at?: number[] }[] };
  conditions: ConditionAbout[];
  rows: {
    count: number; total: number; coded: number; kept: number; maps: MapAbout[]; names: string[];
    cells?: { low: number; step: number }; values: ValueAbout[];
  };
}
export type Block = Float32Array | Float64Array | Int16Array | Int32Array | Uint8Array | Uint16Array;

const WIDTHS: Record<string, number> = { float16: 2, float32: 4, float64: 8, int16: 2, int32: 4, uint8: 1, uint16: 2 };

function bytesOf(text: string): Uint8Array {
  const quick = (Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array }).fromBase64;
  if (quick) return quick(text);
  const letters = atob(text);
  const found = new Uint8Array(letters.length);
  for (let i = 0; i < found.length; i++) found[i] = letters.charCodeAt(i);
  return found;
}

async function unzipped(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The half-precision numbers, indexed by their 16 bits. */
function halves(bits: Uint16Array): Float32Array {
  const wide = new Uint32Array(bits.length);
  const found = new Float32Array(wide.buffer);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i]!;
    const exponent = half & 0x7c00;
    if (exponent === 0) found[i] = (half & 0x8000 ? -1 : 1) * (half & 0x3ff) * 2 ** -24;
    else wide[i] = ((half & 0x8000) << 16) | (exponent === 0x7c00 ? 0x7f800000 : (exponent + 0x1c000) << 13) | ((half & 0x3ff) << 13);
  }
  return found;
}

export async function unpacked(text: string, kind: string): Promise<Block> {
  const planes = await unzipped(bytesOf(text));
  const width = WIDTHS[kind]!;
  const n = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let p = 0; p < width; p++) for (let i = 0, at = p * n; i < n; i++) bytes[i * width + p] = planes[at + i]!;
  const buffer = bytes.buffer;
  switch (kind) {
    case "float16": return halves(new Uint16Array(buffer));
    case "float32": return new Float32Array(buffer);
    case "float64": return new Float64Array(buffer);
    case "int16": return new Int16Array(buffer);
    case "int32": return new Int32Array(buffer);
    case "uint16": return new Uint16Array(buffer);
    default: return bytes;
  }
}

export class Page {
  readonly #opened = new Map<string, Promise<Block>>();

  constructor(readonly about: About, private readonly text: (name: string) => string) {}

  block(name: string): Promise<Block> {
    let found = this.#opened.get(name);
    if (!found) {
      found = unpacked(this.text(name), this.about.kinds[name]!);
      this.#opened.set(name, found);
    }
    return found;
  }
}
