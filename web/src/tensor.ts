// Dense tensors in row-major order, and the few loops over them that all operators use.

export type Data = Float32Array | Float64Array | Uint8Array;
/** f: float32, d: float64, i: whole numbers (kept in float64, exact to 2^53), b: truth values. */
export type Kind = "f" | "d" | "i" | "b";

const ORDER = "bifd";

export function make(kind: Kind, count: number): Data {
  return kind === "f" ? new Float32Array(count) : kind === "b" ? new Uint8Array(count) : new Float64Array(count);
}

export const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export class Tensor {
  constructor(
    readonly data: Data,
    readonly shape: readonly number[],
    readonly kind: Kind = "f",
  ) {}

  get rank(): number {
    return this.shape.length;
  }

  /** The same numbers in another shape, in which one length may be -1. */
  view(shape: readonly number[]): Tensor {
    const known = shape.reduce((a, b) => (b < 0 ? a : a * b), 1);
    return new Tensor(this.data, shape.map((n) => (n < 0 ? this.data.length / known : n)), this.kind);
  }

  to(kind: Kind): Tensor {
    if (kind === this.kind) return this;
    const out = make(kind, this.data.length);
    const whole = kind === "i" && this.kind !== "b";
    for (let i = 0; i < out.length; i++) {
      const v = this.data[i]!;
      out[i] = kind === "b" ? Number(v !== 0) : whole ? Math.trunc(v) : v;
    }
    return new Tensor(out, this.shape, kind);
  }
}

export function strides(shape: readonly number[]): number[] {
  const found = new Array<number>(shape.length);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    found[d] = step;
    step *= shape[d]!;
  }
  return found;
}

export const axis = (d: number, rank: number): number => (d < 0 ? d + rank : d);

/** Visit the positions of `shape`, one last axis at a time, as offsets into two arrays with these strides. */
function walk(
  shape: readonly number[],
  a: readonly number[],
  b: readonly number[],
  visit: (at: number, atA: number, atB: number, n: number, stepA: number, stepB: number) => void,
  startA = 0,
): void {
  const last = shape.length - 1;
  const n = last < 0 ? 1 : shape[last]!;
  const total = count(shape);
  const stepA = last < 0 ? 0 : a[last]!;
  const stepB = last < 0 ? 0 : b[last]!;
  const place = new Array<number>(Math.max(last, 0)).fill(0);
  let atA = startA;
  let atB = 0;
  for (let at = 0; at < total; at += n) {
    visit(at, atA, atB, n, stepA, stepB);
    for (let d = last - 1; d >= 0; d--) {
      atA += a[d]!;
      atB += b[d]!;
      if (++place[d]! < shape[d]!) break;
      atA -= a[d]! * shape[d]!;
      atB -= b[d]! * shape[d]!;
      place[d] = 0;
    }
  }
}

/** A copy of the numbers that lie at `start` with these strides. */
export function strided(x: Tensor, shape: readonly number[], steps: readonly number[], start = 0): Tensor {
  const out = make(x.kind, count(shape));
  const from = x.data;
  walk(shape, steps, steps, (at, a, _b, n, s) => {
    for (let i = 0; i < n; i++, a += s) out[at + i] = from[a]!;
  }, start);
  return new Tensor(out, shape, x.kind);
}

export function permute(x: Tensor, order: readonly number[]): Tensor {
  const steps = strides(x.shape);
  const axes = order.map((d) => axis(d, x.rank));
  return strided(x, axes.map((d) => x.shape[d]!), axes.map((d) => steps[d]!));
}

export function broadcast(a: readonly number[], b: readonly number[]): readonly number[] {
  const rank = Math.max(a.length, b.length);
  const shape: number[] = [];
  for (let d = 0; d < rank; d++) {
    const n = a[d - rank + a.length] ?? 1;
    const m = b[d - rank + b.length] ?? 1;
    if (n !== m && n !== 1 && m !== 1) throw new Error(`shapes ${a} and ${b} do not broadcast`);
    shape.push(n === 1 ? m : n);
  }
  return shape;
}

/** Strides of `x` over a shape that it broadcasts to. */
function over(x: Tensor, shape: readonly number[]): number[] {
  const steps = strides(x.shape);
  const lead = shape.length - x.rank;
  return shape.map((_, d) => (d < lead || x.shape[d - lead] === 1 ? 0 : steps[d - lead]!));
}

export function expand(x: Tensor, shape: readonly number[]): Tensor {
  const lead = shape.length - x.rank;
  const full = shape.map((n, d) => (n < 0 ? x.shape[d - lead]! : n));
  return strided(x, full, over(x, full));
}

/** The kind of a result, by torch's rules: within a category, numbers and tensors without axes do not decide. */
export function promoted(a: Tensor | number, b: Tensor | number): Kind {
  const kindOf = (v: Tensor | number): Kind => (typeof v !== "number" ? v.kind : Number.isInteger(v) ? "i" : "f");
  const weak = (v: Tensor | number): boolean => typeof v === "number" || v.rank === 0;
  const isFloat = (k: Kind): boolean => k === "f" || k === "d";
  const [ka, kb] = [kindOf(a), kindOf(b)];
  if (weak(a) !== weak(b) && isFloat(ka) === isFloat(kb)) {
    const [strong, other] = weak(a) ? [kb, ka] : [ka, kb];
    return strong === "b" ? (other === "b" ? "b" : other) : strong;
  }
  return ORDER.indexOf(ka) > ORDER.indexOf(kb) ? ka : kb;
}

export const tensor = (v: Tensor | number, kind: Kind = "d"): Tensor =>
  typeof v === "number" ? new Tensor(make(kind, 1).fill(v), [], kind) : v;

/** f of each pair of numbers, broadcast. */
export function zip(a: Tensor, b: Tensor, kind: Kind, f: (x: number, y: number) => number): Tensor {
  const shape = broadcast(a.shape, b.shape);
  const out = make(kind, count(shape));
  const [x, y] = [a.data, b.data];
  if (x.length === out.length && y.length === out.length) {
    for (let i = 0; i < out.length; i++) out[i] = f(x[i]!, y[i]!);
  } else {
    walk(shape, over(a, shape), over(b, shape), (at, p, q, n, s, t) => {
      for (let i = 0; i < n; i++, p += s, q += t) out[at + i] = f(x[p]!, y[q]!);
    });
  }
  return new Tensor(out, shape, kind);
}

export function map(x: Tensor, kind: Kind, f: (v: number) => number): Tensor {
  const out = make(kind, x.data.length);
  for (let i = 0; i < out.length; i++) out[i] = f(x.data[i]!);
  return new Tensor(out, x.shape, kind);
}

/** The rows over the axes `dims`, which are moved to the end: reductions and normalisations run over such rows. */
export function rowsOf(x: Tensor, dims: readonly number[]): { rows: Tensor; width: number; kept: number[]; axes: number[] } {
  const axes = dims.map((d) => axis(d, x.rank));
  const kept = x.shape.map((_, d) => d).filter((d) => !axes.includes(d));
  const order = [...kept, ...axes];
  const ordered = order.every((d, i) => d === i);
  return { rows: ordered ? x : permute(x, order), width: count(axes.map((d) => x.shape[d]!)), kept, axes };
}

export function reduce(
  x: Tensor,
  dims: readonly number[] | null | undefined,
  keep: boolean,
  kind: Kind,
  f: (data: Data, start: number, n: number) => number,
): Tensor {
  const all = dims && dims.length ? dims : x.shape.map((_, d) => d);
  const { rows, width, kept, axes } = rowsOf(x, all);
  const shape = keep ? x.shape.map((n, d) => (axes.includes(d) ? 1 : n)) : kept.map((d) => x.shape[d]!);
  const out = make(kind, count(shape));
  for (let i = 0; i < out.length; i++) out[i] = f(rows.data, i * width, width);
  return new Tensor(out, shape, kind);
}
