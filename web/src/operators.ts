// The core ATen operators that decoders use. Each takes its arguments in the order of its schema.

import { digamma, erf, lgamma, round, softplus } from "./special";
import {
  axis, broadcast, count, expand, make, map, permute, promoted, reduce, rowsOf, strided, strides, Tensor, tensor, zip,
  type Data, type Kind,
} from "./tensor";

export type Value = Tensor | number | boolean | string | null | undefined | readonly Value[];
type Named = Record<string, Value>;
type Operator = (args: Value[], named: Named) => Value;
type Number1 = (x: number) => number;
type Number2 = (x: number, y: number) => number;

const KINDS: Record<string, Kind> = { float32: "f", float64: "d", float16: "f", bfloat16: "f", bool: "b" };
const kindOf = (name: Value, otherwise: Kind): Kind => (typeof name === "string" ? KINDS[name] ?? "i" : otherwise);
const floating = (k: Kind): Kind => (k === "d" ? "d" : "f");
const T = (v: Value): Tensor => v as Tensor;
const N = (v: Value, otherwise = 0): number => (v === undefined || v === null ? otherwise : Number(v));
const L = (v: Value): number[] => v as unknown as number[];
const asNumber = (v: Value): Tensor | number => (typeof v === "boolean" ? Number(v) : (v as Tensor | number));

const unary = (f: Number1, keep = false): Operator => ([x]) => map(T(x), keep ? T(x).kind : floating(T(x).kind), f);
const test = (f: (x: number) => boolean): Operator => ([x]) => map(T(x), "b", (v) => Number(f(v)));

function paired(a: Value, b: Value, f: Number2, kind?: Kind): Tensor {
  const [x, y] = [asNumber(a), asNumber(b)];
  return zip(tensor(x), tensor(y), kind ?? promoted(x, y), f);
}

const binary = (f: Number2): Operator => ([a, b]) =>
  typeof a === "number" && typeof b === "number" ? f(a, b) : paired(a, b, f);
const compare = (f: (x: number, y: number) => boolean): Operator => ([a, b]) => paired(a, b, (x, y) => Number(f(x, y)), "b");
const truth = (f: Number2): Operator => ([a, b]) => paired(a, b, f, "b");
const scaled = (sign: number): Operator => ([a, b], { alpha }) => {
  const by = sign * N(alpha, 1);
  return paired(a, b, (x, y) => x + by * y);
};
const divide: Operator = ([a, b], { rounding_mode: mode }) => {
  const kind = promoted(asNumber(a), asNumber(b));
  return paired(a, b, (x, y) => (mode === "floor" ? Math.floor(x / y) : mode === "trunc" ? Math.trunc(x / y) : x / y),
    mode ? kind : floating(kind));
};
const remainder: Number2 = (x, y) => x - Math.floor(x / y) * y;

// Reductions

const folded = (f: (data: Data, start: number, n: number) => number, kind?: (k: Kind) => Kind): Operator =>
  ([x, dims, keep], { dtype }) => {
    const t = T(x);
    const axes = typeof dims === "number" ? [dims] : (dims as number[] | null | undefined);
    return reduce(t, axes, keep === true, kindOf(dtype, kind ? kind(t.kind) : t.kind), f);
  };
const total = (data: Data, start: number, n: number): number => {
  let s = 0;
  for (let i = start; i < start + n; i++) s += data[i]!;
  return s;
};
const most = (sign: number) => (data: Data, start: number, n: number): number => {
  let best = start;
  for (let i = start; i < start + n; i++) {
    if (Number.isNaN(data[i]!)) return i - start;
    if (sign * data[i]! > sign * data[best]!) best = i;
  }
  return best - start;
};
const extreme = (sign: number) => (data: Data, start: number, n: number): number =>
  data[start + most(sign)(data, start, n)]!;
const best = (sign: number): Operator => ([x, dim, keep]) =>
  reduce(T(x), dim === null || dim === undefined ? null : [N(dim)], keep === true, "i", most(sign));
const withPlace = (sign: number): Operator => ([x, dim, keep]) => [
  reduce(T(x), [N(dim)], keep === true, T(x).kind, extreme(sign)), best(sign)([x, dim, keep], {}),
];
const spread = (root: boolean): Operator => ([x, dims, keep], { correction }) => {
  const ddof = N(correction, 1);
  return reduce(T(x), dims as number[] | null, keep === true || N(keep) === 1, T(x).kind, (data, start, n) => {
    const middle = total(data, start, n) / n;
    let s = 0;
    for (let i = start; i < start + n; i++) s += (data[i]! - middle) ** 2;
    return root ? Math.sqrt(s / (n - ddof)) : s / (n - ddof);
  });
};

/** Apply f, which changes a row in place, to each row along an axis. */
function along(x: Tensor, dim: number, kind: Kind, f: (row: Float64Array) => void): Tensor {
  const d = axis(dim, x.rank);
  const steps = strides(x.shape)[d] ?? 1;
  const n = x.shape[d] ?? 1;
  const out = make(kind, x.data.length);
  const row = new Float64Array(n);
  for (let block = 0; block < out.length; block += n * steps) {
    for (let inner = 0; inner < steps; inner++) {
      for (let i = 0; i < n; i++) row[i] = x.data[block + inner + i * steps]!;
      f(row);
      for (let i = 0; i < n; i++) out[block + inner + i * steps] = row[i]!;
    }
  }
  return new Tensor(out, x.shape, kind);
}

const softmax = (log: boolean): Operator => ([x, dim]) => along(T(x), N(dim), T(x).kind, (row) => {
  let top = -Infinity;
  for (const v of row) top = Math.max(top, v);
  let sum = 0;
  for (const v of row) sum += Math.exp(v - top);
  const base = top + Math.log(sum);
  for (let i = 0; i < row.length; i++) row[i] = log ? row[i]! - base : Math.exp(row[i]! - base);
});
const running = (f: Number2, start: number): Operator => ([x, dim]) => {
  const kind = T(x).kind === "b" ? "i" : T(x).kind;
  return along(T(x), N(dim), kind, (row) => {
    let s = start;
    for (let i = 0; i < row.length; i++) row[i] = s = f(s, row[i]!);
  });
};
const ranked = (x: Tensor, dim: number, down: boolean): [Tensor, Tensor] => {
  const order = (row: Float64Array): number[] =>
    Array.from(row.keys()).sort((i, j) => (down ? row[j]! - row[i]! : row[i]! - row[j]!) || i - j);
  return [
    along(x, dim, x.kind, (row) => row.set(down ? row.slice().sort().reverse() : row.slice().sort())),
    along(x, dim, "i", (row) => row.set(order(row.slice()))),
  ];
};

// Products

/** [M, K] x [K, N]; sums are kept in double precision. */
function product(a: Data, b: Data, out: Data, m: number, k: number, n: number, atA = 0, atB = 0, atOut = 0): void {
  const sum = new Float64Array(n);
  for (let i = 0; i < m; i++) {
    sum.fill(0);
    for (let j = 0; j < k; j++) {
      const v = a[atA + i * k + j]!;
      if (v === 0) continue;
      for (let l = 0, at = atB + j * n; l < n; l++, at++) sum[l]! += v * b[at]!;
    }
    out.set(sum, atOut + i * n);
  }
}

function mm(a: Tensor, b: Tensor): Tensor {
  const [m, k, n] = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
  const out = make(a.kind, m * n);
  product(a.data, b.data, out, m, k, n);
  return new Tensor(out, [m, n], a.kind);
}

function bmm(a: Tensor, b: Tensor): Tensor {
  const [s, m, k, n] = [a.shape[0]!, a.shape[1]!, a.shape[2]!, b.shape[2]!];
  const out = make(a.kind, s * m * n);
  for (let i = 0; i < s; i++) product(a.data, b.data, out, m, k, n, i * m * k, i * k * n, i * m * n);
  return new Tensor(out, [s, m, n], a.kind);
}

/** Convolutions over one or two axes: gather (or, transposed, scatter) for one position of the kernel at a time. */
const convolution: Operator = ([input, weight, bias, stride, padding, dilation, transposed, extra, groups]) => {
  let [x, w] = [T(input), T(weight)];
  const flat = x.rank === 3;
  const two = (v: Value, pad: number): number[] => (flat ? [pad, L(v)[0]!] : L(v));
  if (flat) {
    x = x.view([x.shape[0]!, x.shape[1]!, 1, x.shape[2]!]);
    w = w.view([w.shape[0]!, w.shape[1]!, 1, w.shape[2]!]);
  }
  const [sy, sx] = two(stride, 1) as [number, number];
  const [py, px] = two(padding, 0) as [number, number];
  const [dy, dx] = two(dilation, 1) as [number, number];
  const [ey, ex] = two(extra, 0) as [number, number];
  const [B, C, H, W] = x.shape as [number, number, number, number];
  const [kh, kw] = [w.shape[2]!, w.shape[3]!];
  const G = N(groups, 1);
  const back = transposed === true;
  const O = back ? w.shape[1]! * G : w.shape[0]!;
  const oh = back ? (H - 1) * sy - 2 * py + dy * (kh - 1) + ey + 1 : Math.floor((H + 2 * py - dy * (kh - 1) - 1) / sy) + 1;
  const ow = back ? (W - 1) * sx - 2 * px + dx * (kw - 1) + ex + 1 : Math.floor((W + 2 * px - dx * (kw - 1) - 1) / sx) + 1;
  const [cg, og] = [C / G, O / G];
  const out = make(x.kind, B * O * oh * ow);
  const places = kh * kw;
  const [inside, outside] = [H * W, oh * ow];
  // the smaller side of the map, on which the product with the kernel is computed
  const side = back ? inside : outside;
  const sum = new Float64Array(side);
  const gathered = back ? null : new Float32Array(cg * places * side);
  const result = new Float64Array(outside);
  for (let b = 0; b < B; b++) {
    for (let g = 0; g < G; g++) {
      if (gathered) {
        gathered.fill(0);
        for (let c = 0; c < cg; c++) for (let p = 0; p < places; p++) {
          const [ky, kx] = [Math.floor(p / kw), p % kw];
          const from = (b * C + g * cg + c) * inside;
          const to = (c * places + p) * side;
          for (let y = 0; y < oh; y++) {
            const iy = y * sy - py + ky * dy;
            if (iy < 0 || iy >= H) continue;
            for (let z = 0; z < ow; z++) {
              const ix = z * sx - px + kx * dx;
              if (ix >= 0 && ix < W) gathered[to + y * ow + z] = x.data[from + iy * W + ix]!;
            }
          }
        }
      }
      for (let o = 0; o < og; o++) {
        const start = bias ? T(bias).data[g * og + o]! : 0;
        const to = (b * O + g * og + o) * outside;
        if (gathered) {
          sum.fill(start);
          for (let k = 0; k < cg * places; k++) {
            const v = w.data[(g * og + o) * cg * places + k]!;
            const at = k * side;
            for (let i = 0; i < side; i++) sum[i]! += v * gathered[at + i]!;
          }
          out.set(sum, to);
          continue;
        }
        result.fill(start);
        for (let p = 0; p < places; p++) {
          sum.fill(0);
          for (let c = 0; c < cg; c++) {
            const v = w.data[((g * cg + c) * og + o) * places + p]!;
            const at = (b * C + g * cg + c) * inside;
            for (let i = 0; i < side; i++) sum[i]! += v * x.data[at + i]!;
          }
          const [ky, kx] = [Math.floor(p / kw), p % kw];
          for (let y = 0; y < H; y++) {
            const ty = y * sy - py + ky * dy;
            if (ty < 0 || ty >= oh) continue;
            for (let z = 0; z < W; z++) {
              const tx = z * sx - px + kx * dx;
              if (tx >= 0 && tx < ow) result[ty * ow + tx]! += sum[y * W + z]!;
            }
          }
        }
        out.set(result, to);
      }
    }
  }
  return new Tensor(out, flat ? [B, O, ow] : [B, O, oh, ow], x.kind);
};

// Normalisations

function normalised(x: Tensor, axes: number[], eps: number, weight: Tensor | null, bias: Tensor | null): Tensor {
  const { rows, width } = rowsOf(x, axes); // the axes are the last ones
  const out = make(x.kind, x.data.length);
  for (let at = 0; at < out.length; at += width) {
    const middle = total(rows.data, at, width) / width;
    let s = 0;
    for (let i = at; i < at + width; i++) s += (rows.data[i]! - middle) ** 2;
    const by = 1 / Math.sqrt(s / width + eps);
    for (let i = 0; i < width; i++) {
      out[at + i] = (rows.data[at + i]! - middle) * by * (weight ? weight.data[i]! : 1) + (bias ? bias.data[i]! : 0);
    }
  }
  return new Tensor(out, x.shape, x.kind);
}

/** a x + b of each channel (axis 1). */
function channels(x: Tensor, by: (c: number) => [number, number]): Tensor {
  const [C, n] = [x.shape[1]!, count(x.shape.slice(2))];
  const out = make(x.kind, x.data.length);
  for (let at = 0, c = 0; at < out.length; at += n, c = (c + 1) % C) {
    const [a, b] = by(c);
    for (let i = at; i < at + n; i++) out[i] = a * x.data[i]! + b;
  }
  return new Tensor(out, x.shape, x.kind);
}
const batchNorm: Operator = ([x, weight, bias, mean, variance, , eps]) => {
  const at = (v: Value, c: number, otherwise: number): number => (v ? T(v).data[c]! : otherwise);
  return [channels(T(x), (c) => {
    const a = at(weight, c, 1) / Math.sqrt(at(variance, c, 1) + N(eps));
    return [a, at(bias, c, 0) - a * at(mean, c, 0)];
  })];
};
const groupNorm: Operator = ([x, weight, bias, B, C, n, groups, eps]) => {
  const t = T(x);
  const each = normalised(t.view([N(B) * N(groups), (N(C) / N(groups)) * N(n)]), [1], N(eps), null, null).view(t.shape);
  return [channels(each, (c) => [weight ? T(weight).data[c]! : 1, bias ? T(bias).data[c]! : 0])];
};

// Shapes and indexing

const sliced: Operator = ([x, dim, start, end, step]) => {
  const t = T(x);
  const d = axis(N(dim), t.rank);
  const n = t.shape[d]!;
  const clip = (v: Value, otherwise: number): number => {
    const at = N(v, otherwise);
    return Math.min(Math.max(at < 0 ? at + n : at, 0), n);
  };
  const [from, to, by] = [clip(start, 0), clip(end, n), N(step, 1)];
  const steps = strides(t.shape);
  const length = Math.max(0, Math.ceil((to - from) / by));
  return strided(t, t.shape.map((m, e) => (e === d ? length : m)), steps.map((s, e) => (e === d ? s * by : s)), from * steps[d]!);
};
const selected: Operator = ([x, dim, at]) => {
  const t = T(x);
  const d = axis(N(dim), t.rank);
  const steps = strides(t.shape);
  const without = (v: readonly number[]): number[] => v.filter((_, e) => e !== d);
  return strided(t, without(t.shape), without(steps), axis(N(at), t.shape[d]!) * steps[d]!);
};
const unsqueezed: Operator = ([x, dim]) => {
  const shape = [...T(x).shape];
  shape.splice(axis(N(dim), shape.length + 1), 0, 1);
  return T(x).view(shape);
};
const squeezed: Operator = ([x, dims]) => {
  const t = T(x);
  const axes = (dims === undefined ? t.shape.map((_, d) => d) : typeof dims === "number" ? [dims] : L(dims)).map((d) => axis(d, t.rank));
  return t.view(t.shape.filter((n, d) => n !== 1 || !axes.includes(d)));
};
function joined(parts: Tensor[], dim: number): Tensor {
  const some = parts.filter((p) => p.rank > 1 || p.data.length > 0);
  const first = some[0] ?? parts[0]!;
  const d = axis(dim, first.rank);
  const kind = some.map((p) => p.kind).reduce((a, b) => ("bifd".indexOf(a) > "bifd".indexOf(b) ? a : b));
  const shape = first.shape.map((n, e) => (e === d ? some.reduce((s, p) => s + p.shape[d]!, 0) : n));
  const out = make(kind, count(shape));
  const outer = count(shape.slice(0, d));
  const inner = count(shape.slice(d));
  let at = 0;
  for (const part of some) {
    const n = count(part.shape.slice(d));
    for (let i = 0; i < outer; i++) out.set(part.data.subarray(i * n, (i + 1) * n), i * inner + at);
    at += n;
  }
  return new Tensor(out, shape, kind);
}
const split: Operator = ([x, sizes, dim]) => {
  const n = T(x).shape[axis(N(dim), T(x).rank)]!;
  const each = typeof sizes === "number"
    ? Array.from({ length: Math.ceil(n / sizes) }, (_, i) => Math.min(sizes, n - i * sizes)) : L(sizes);
  let at = 0;
  return each.map((size) => sliced([x, N(dim), at, (at += size)], {}));
};
/** x at rows `index` of an axis, where `index` can have any shape. */
function taken(x: Tensor, dim: number, index: Tensor): Tensor {
  const d = axis(dim, x.rank);
  const [outer, n, inner] = [count(x.shape.slice(0, d)), x.shape[d]!, count(x.shape.slice(d + 1))];
  const m = index.data.length;
  const out = make(x.kind, outer * m * inner);
  for (let o = 0; o < outer; o++) for (let i = 0; i < m; i++) {
    const from = (o * n + axis(index.data[i]!, n)) * inner;
    out.set(x.data.subarray(from, from + inner), (o * m + i) * inner);
  }
  return new Tensor(out, [...x.shape.slice(0, d), ...index.shape, ...x.shape.slice(d + 1)], x.kind);
}
const gathered: Operator = ([x, dim, index]) => {
  const [t, at] = [T(x), T(index)];
  const d = axis(N(dim), t.rank);
  const [steps, own] = [strides(t.shape), strides(at.shape)];
  const out = make(t.kind, at.data.length);
  for (let i = 0; i < out.length; i++) {
    let from = at.data[i]! * steps[d]!;
    for (let e = 0; e < t.rank; e++) if (e !== d) from += (Math.floor(i / own[e]!) % at.shape[e]!) * steps[e]!;
    out[i] = t.data[from]!;
  }
  return new Tensor(out, at.shape, t.kind);
};
/** x[i, j, …] with tensors of indices in some axes, which broadcast (`null`: the whole axis). */
const indexed: Operator = ([x, list]) => {
  let t = T(x);
  const given = list as unknown as (Tensor | null)[];
  const axes = given.flatMap((v, d) => (v ? [d] : []));
  const places = axes.map((d) => given[d]!);
  if (places.length === 1 && places[0]!.kind !== "b") return taken(t, axes[0]!, places[0]!);
  const shape = places.map((p) => p.shape).reduce(broadcast);
  const wide = places.map((p) => expand(p, shape));
  const rest = t.shape.map((_, d) => d).filter((d) => !axes.includes(d));
  const together = axes.every((d, i) => i === 0 || d === axes[i - 1]! + 1);
  const sizes = axes.map((d) => t.shape[d]!);
  t = permute(t, [...axes, ...rest]).view([count(sizes), ...rest.map((d) => t.shape[d]!)]);
  const flat = make("i", count(shape));
  const steps = strides(sizes);
  wide.forEach((p, k) => p.data.forEach((v, i) => (flat[i]! += axis(v, sizes[k]!) * steps[k]!)));
  const found = taken(t, 0, new Tensor(flat, shape, "i"));
  const lead = together ? axes[0]! : 0;
  if (!lead) return found;
  const m = shape.length;
  const order = found.shape.map((_, d) => d);
  return permute(found, [...order.slice(m, m + lead), ...order.slice(0, m), ...order.slice(m + lead)]);
};
/** x with `source` written to x[i, j, …], or added to it. */
const indexPut: Operator = ([x, list, source, add]) => {
  const t = T(x);
  const each = new Tensor(make("i", t.data.length).map((_, i) => i), t.shape, "i");
  const places = T(indexed([each, list!], {}));
  const from = expand(T(source), places.shape);
  const out = t.data.slice();
  places.data.forEach((to, i) => (out[to] = add ? out[to]! + from.data[i]! : from.data[i]!));
  return new Tensor(out, t.shape, t.kind);
};
const put = (add: boolean): Operator => ([x, dim, index, source]) => {
  const [t, at] = [T(x), T(index)];
  const d = axis(N(dim), t.rank);
  const [steps, own] = [strides(t.shape), strides(at.shape)];
  const out = t.data.slice();
  for (let i = 0; i < at.data.length; i++) {
    let to = at.data[i]! * steps[d]!;
    for (let e = 0; e < t.rank; e++) if (e !== d) to += (Math.floor(i / own[e]!) % at.shape[e]!) * steps[e]!;
    const v = typeof source === "number" ? source : T(source).data[i]!;
    out[to] = add ? out[to]! + v : v;
  }
  return new Tensor(out, t.shape, t.kind);
};
const padded: Operator = ([x, widths, value]) => {
  const t = T(x);
  const w = L(widths);
  const before = t.shape.map((_, d) => w[2 * (t.rank - 1 - d)] ?? 0);
  const shape = t.shape.map((n, d) => n + before[d]! + (w[2 * (t.rank - 1 - d) + 1] ?? 0));
  const out = make(t.kind, count(shape)).fill(N(value));
  const [steps, own] = [strides(shape), strides(t.shape)];
  for (let i = 0; i < t.data.length; i++) {
    let to = 0;
    let inside = true;
    for (let d = 0; d < t.rank; d++) {
      const at = (Math.floor(i / own[d]!) % t.shape[d]!) + before[d]!;
      inside &&= at >= 0 && at < shape[d]!;
      to += at * steps[d]!;
    }
    if (inside) out[to] = t.data[i]!;
  }
  return new Tensor(out, shape, t.kind);
};
const flipped: Operator = ([x, dims]) => {
  const t = T(x);
  const axes = L(dims).map((d) => axis(d, t.rank));
  const steps = strides(t.shape);
  const start = axes.reduce((s, d) => s + (t.shape[d]! - 1) * steps[d]!, 0);
  return strided(t, t.shape, steps.map((s, d) => (axes.includes(d) ? -s : s)), start);
};
const filled: Operator = ([shape, value], { dtype }) => {
  const kind = kindOf(dtype, typeof value === "boolean" ? "b" : Number.isInteger(value) ? "i" : "f");
  return new Tensor(make(kind, count(L(shape))).fill(N(value)), L(shape), kind);
};
const like = (value?: number): Operator => ([x, given], { dtype }) =>
  new Tensor(make(kindOf(dtype, T(x).kind), T(x).data.length).fill(value ?? N(given)), T(x).shape, kindOf(dtype, T(x).kind));
const constant = (value: number): Operator => ([shape], { dtype }) => filled([shape, value], { dtype: dtype ?? "float32" });
const range: Operator = ([start, end, step], { dtype }) => {
  const n = Math.max(0, Math.ceil((N(end) - N(start)) / N(step, 1)));
  const kind = kindOf(dtype, "i");
  return new Tensor(make(kind, n).map((_, i) => N(start) + i * N(step, 1)) as Data, [n], kind);
};
const chosen: Operator = ([condition, a, b]) => {
  const [c, x, y] = [T(condition), asNumber(a), asNumber(b)];
  const kind = promoted(x, y);
  const shape = [c, tensor(x), tensor(y)].map((t) => t.shape).reduce(broadcast);
  const [wide, left, right] = [c, tensor(x), tensor(y)].map((t) => expand(t, shape)) as [Tensor, Tensor, Tensor];
  const out = make(kind, wide.data.length);
  for (let i = 0; i < out.length; i++) out[i] = wide.data[i] ? left.data[i]! : right.data[i]!;
  return new Tensor(out, shape, kind);
};
const clamped: Operator = ([x, low, high]) => {
  let t = T(x);
  if (low !== null && low !== undefined) t = paired(t, low, (v, w) => (v < w ? w : v), t.kind);
  if (high !== null && high !== undefined) t = paired(t, high, (v, w) => (v > w ? w : v), t.kind);
  return t;
};
/** Repeats each pixel, by the sizes of the output or, if these are not given, by factors. */
const nearest: Operator = ([x, sizes, factors]) => {
  let t = T(x);
  const out = sizes ? L(sizes) : L(factors).map((f, i) => Math.floor(t.shape[i + 2]! * f));
  out.forEach((n, i) => {
    const from = t.shape[i + 2]!;
    t = taken(t, i + 2, new Tensor(Float64Array.from({ length: n }, (_, j) => Math.floor((j * from) / n)), [n], "i"));
  });
  return t;
};
const same: Operator = ([x]) => x;
const triangle = (keeps: (row: number, column: number) => boolean): Operator => ([x]) => {
  const t = T(x);
  const [rows, columns] = [t.shape[t.rank - 2]!, t.shape[t.rank - 1]!];
  const out = t.data.slice();
  for (let i = 0; i < out.length; i++) if (!keeps(Math.floor(i / columns) % rows, i % columns)) out[i] = 0;
  return new Tensor(out, t.shape, t.kind);
};

export const operators: Record<string, Operator> = {
  // sizes in shapes
  "sym_size.int": ([x, d]) => T(x).shape[axis(N(d), T(x).rank)],
  "python.mul": ([a, b]) => N(a) * N(b),
  "python.add": ([a, b]) => N(a) + N(b),
  "python.sub": ([a, b]) => N(a) - N(b),
  "python.floordiv": ([a, b]) => Math.floor(N(a) / N(b)),
  "python.mod": ([a, b]) => remainder(N(a), N(b)),
  "python.getitem": ([a, i]) => (a as readonly Value[])[N(i)],
  // elementwise, one argument
  neg: unary((x) => -x, true), abs: unary(Math.abs, true), sign: unary(Math.sign, true), exp: unary(Math.exp),
  expm1: unary(Math.expm1), log: unary(Math.log), log1p: unary(Math.log1p), log2: unary(Math.log2),
  log10: unary(Math.log10), sqrt: unary(Math.sqrt), rsqrt: unary((x) => 1 / Math.sqrt(x)), sin: unary(Math.sin),
  cos: unary(Math.cos), tan: unary(Math.tan), asin: unary(Math.asin), acos: unary(Math.acos), atan: unary(Math.atan),
  sinh: unary(Math.sinh), cosh: unary(Math.cosh), tanh: unary(Math.tanh), asinh: unary(Math.asinh),
  acosh: unary(Math.acosh), atanh: unary(Math.atanh), erf: unary(erf), erfc: unary((x) => 1 - erf(x)),
  lgamma: unary(lgamma), digamma: unary(digamma), sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  relu: unary((x) => (x < 0 ? 0 : x), true), silu: unary((x) => x / (1 + Math.exp(-x))),
  floor: unary(Math.floor, true), ceil: unary(Math.ceil, true), round: unary(round, true), trunc: unary(Math.trunc, true),
  reciprocal: unary((x) => 1 / x), frac: unary((x) => x - Math.trunc(x)), exp2: unary((x) => 2 ** x),
  log_sigmoid_forward: ([x]) => [map(T(x), T(x).kind, (v) => -softplus(-v))],
  gelu: ([x], { approximate }) => map(T(x), T(x).kind, (v) => approximate === "tanh"
    ? 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))) : 0.5 * v * (1 + erf(v / Math.SQRT2))),
  elu: ([x, alpha, scale, inner]) => map(T(x), T(x).kind, (v) =>
    v > 0 ? v * N(scale, 1) : N(alpha, 1) * N(scale, 1) * Math.expm1(v * N(inner, 1))),
  leaky_relu: ([x, slope]) => map(T(x), T(x).kind, (v) => (v > 0 ? v : v * N(slope, 0.01))),
  softplus: ([x, beta, bar]) => map(T(x), T(x).kind, (v) =>
    v * N(beta, 1) > N(bar, 20) ? v : softplus(v * N(beta, 1)) / N(beta, 1)),
  hardtanh: ([x, low, high]) => clamped([x, N(low, -1), N(high, 1)], {}),
  clamp: clamped, clamp_min: ([x, low]) => clamped([x, low, null], {}), clamp_max: ([x, high]) => clamped([x, null, high], {}),
  nan_to_num: ([x, nan, high, low]) => map(T(x), T(x).kind, (v) =>
    Number.isNaN(v) ? N(nan) : v === Infinity ? N(high, 3.4028234663852886e38) : v === -Infinity ? N(low, -3.4028234663852886e38) : v),
  isnan: test(Number.isNaN), isinf: test((x) => Math.abs(x) === Infinity), isfinite: test(Number.isFinite),
  logical_not: test((x) => !x), bitwise_not: ([x]) => map(T(x), T(x).kind, (v) => (T(x).kind === "b" ? Number(!v) : ~v)),
  // elementwise, two arguments
  add: scaled(1), sub: scaled(-1), rsub: ([a, b], named) => scaled(-1)([b, a], named), mul: binary((x, y) => x * y),
  div: divide, pow: ([a, b]) => paired(a, b, (x, y) => x ** y), atan2: binary(Math.atan2), fmod: binary((x, y) => x % y),
  remainder: binary(remainder), floor_divide: binary((x, y) => Math.floor(x / y)), hypot: binary(Math.hypot),
  maximum: binary((x, y) => (x > y || Number.isNaN(x) ? x : y)), minimum: binary((x, y) => (x < y || Number.isNaN(x) ? x : y)),
  eq: compare((x, y) => x === y), ne: compare((x, y) => x !== y), lt: compare((x, y) => x < y), le: compare((x, y) => x <= y),
  gt: compare((x, y) => x > y), ge: compare((x, y) => x >= y), logical_and: truth((x, y) => Number(x && y ? 1 : 0)),
  logical_or: truth((x, y) => (x || y ? 1 : 0)), logical_xor: truth((x, y) => (!x !== !y ? 1 : 0)),
  bitwise_and: binary((x, y) => x & y), bitwise_or: binary((x, y) => x | y), bitwise_xor: binary((x, y) => x ^ y),
  where: chosen,
  masked_fill: ([x, mask, v]) => chosen([mask, typeof v === "number" || typeof v === "boolean" ? filled([[], v], { dtype: null }) : v, x], {}),
  lerp: ([a, b, w]) => paired(a, paired(paired(b, a, (x, y) => x - y), w, (x, y) => x * y), (x, y) => x + y),
  addcmul: ([x, a, b], { value }) => scaled(1)([x, paired(a, b, (p, q) => p * q)], { alpha: value }),
  // reductions
  sum: folded(total, (k) => (k === "b" ? "i" : k)), mean: folded((d, s, n) => total(d, s, n) / n), amax: folded(extreme(1)), amin: folded(extreme(-1)),
  prod: folded((d, s, n) => { let p = 1; for (let i = s; i < s + n; i++) p *= d[i]!; return p; }),
  any: folded((d, s, n) => { for (let i = s; i < s + n; i++) if (d[i]) return 1; return 0; }, () => "b"),
  all: folded((d, s, n) => { for (let i = s; i < s + n; i++) if (!d[i]) return 0; return 1; }, () => "b"),
  logsumexp: folded((d, s, n) => {
    const top = extreme(1)(d, s, n);
    let t = 0;
    for (let i = s; i < s + n; i++) t += Math.exp(d[i]! - top);
    return Number.isFinite(top) ? top + Math.log(t) : top;
  }),
  "max.dim": withPlace(1), "min.dim": withPlace(-1), max: folded(extreme(1)), min: folded(extreme(-1)),
  argmax: best(1), argmin: best(-1), var: spread(false), std: spread(true),
  linalg_vector_norm: ([x, p, dims, keep]) => reduce(T(x), dims as number[] | null, keep === true, T(x).kind, (d, s, n) => {
    let t = 0;
    for (let i = s; i < s + n; i++) t += Math.abs(d[i]!) ** N(p, 2);
    return t ** (1 / N(p, 2));
  }),
  _softmax: softmax(false), _log_softmax: softmax(true), cumsum: running((a, b) => a + b, 0), cumprod: running((a, b) => a * b, 1),
  sort: ([x, dim, down]) => ranked(T(x), N(dim, -1), down === true),
  topk: ([x, k, dim, largest]) => ranked(T(x), N(dim, -1), largest !== false).map((t) => sliced([t, N(dim, -1), 0, k], {})),
  // products
  mm: ([a, b]) => mm(T(a), T(b)), bmm: ([a, b]) => bmm(T(a), T(b)), convolution,
  mv: ([a, b]) => mm(T(a), T(b).view([-1, 1])).view([-1]), dot: ([a, b]) => mm(T(a).view([1, -1]), T(b).view([-1, 1])).view([]),
  addmm: ([c, a, b], { alpha, beta }) => zip(mm(T(a), T(b)), T(c), T(a).kind, (x, y) => N(alpha, 1) * x + N(beta, 1) * y),
  baddbmm: ([c, a, b], { alpha, beta }) => zip(bmm(T(a), T(b)), T(c), T(a).kind, (x, y) => N(alpha, 1) * x + N(beta, 1) * y),
  native_layer_norm: ([x, shape, weight, bias, eps]) => [normalised(T(x), L(shape).map((_, i) => i - L(shape).length),
    N(eps), weight ? T(weight) : null, bias ? T(bias) : null)],
  native_group_norm: groupNorm, _native_batch_norm_legit_no_training: batchNorm,
  // shapes and indexing
  view: ([x, shape]) => T(x).view(L(shape)), permute: ([x, order]) => permute(T(x), L(order)),
  transpose: ([x, a, b]) => {
    const order = T(x).shape.map((_, d) => d);
    const [i, j] = [axis(N(a), order.length), axis(N(b), order.length)];
    [order[i], order[j]] = [order[j]!, order[i]!];
    return permute(T(x), order);
  },
  expand: ([x, shape]) => expand(T(x), L(shape)), slice: sliced, select: selected, unsqueeze: unsqueezed, squeeze: squeezed,
  cat: ([list, dim]) => joined(list as unknown as Tensor[], N(dim)),
  stack: ([list, dim]) => joined((list as Value[]).map((x) => T(unsqueezed([x, N(dim)], {}))), N(dim)),
  split: split, split_with_sizes: split, unbind: ([x, dim]) =>
    Array.from({ length: T(x).shape[axis(N(dim), T(x).rank)]! }, (_, i) => selected([x, N(dim), i], {})),
  repeat: ([x, times]) => {
    const by = L(times);
    let t = T(x).view([...by.slice(T(x).rank).map(() => 1), ...T(x).shape]);
    by.forEach((n, d) => { if (n !== 1) t = joined(Array<Tensor>(n).fill(t), d); });
    return t;
  },
  embedding: ([weight, at]) => taken(T(weight), 0, T(at)), index_select: ([x, dim, at]) => taken(T(x), N(dim), T(at)),
  gather: gathered, index: indexed, index_put: indexPut, scatter: put(false), scatter_add: put(true), constant_pad_nd: padded, flip: flipped,
  full: filled, zeros: constant(0), ones: constant(1), full_like: like(), zeros_like: like(0), ones_like: like(1),
  empty: constant(0), "arange.start_step": range, arange: ([end], named) => range([0, end, 1], named),
  scalar_tensor: ([v], { dtype }) => filled([[], v], { dtype: dtype ?? "float32" }),
  _to_copy: ([x], { dtype }) => T(x).to(kindOf(dtype, T(x).kind)),
  clone: same, alias: same, detach: same, lift_fresh_copy: same,
  tril: ([x, k]) => triangle((r, c) => c - r <= N(k))([x], {}), triu: ([x, k]) => triangle((r, c) => c - r >= N(k))([x], {}),
};
for (const name of ["upsample_nearest1d", "upsample_nearest2d"]) operators[name] = nearest;
for (const name of ["_unsafe_view", "reshape"]) operators[name] = operators["view"]!;
