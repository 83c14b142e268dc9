// Lines, distances and draws in the space of codes.

type Code = ArrayLike<number>;

const dot = (a: Code, b: Code): number => {
  let s = 0;
  for (let i = 0; i < a.length; i++) s += a[i]! * b[i]!;
  return s;
};

export const straight = (a: Code, b: Code, t: number): Float64Array => Float64Array.from(a, (v, i) => v + t * (b[i]! - v));

/** The great circle between two directions. */
function onSphere(a: Code, b: Code, t: number): Float64Array {
  const [na, nb] = [Math.sqrt(dot(a, a)) || 1, Math.sqrt(dot(b, b)) || 1];
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / (na * nb))));
  if (angle < 1e-6) return straight(a, b, t);
  const [wa, wb] = [Math.sin((1 - t) * angle) / Math.sin(angle) / na, Math.sin(t * angle) / Math.sin(angle) / nb];
  return Float64Array.from(a, (v, i) => wa * v + wb * b[i]!);
}

/** The shortest curve on each circle of a torus. */
function onTorus(a: Code, b: Code, t: number): Float64Array {
  const found = new Float64Array(a.length);
  for (let i = 0; i < a.length; i += 2) found.set(onSphere([a[i]!, a[i + 1]!], [b[i]!, b[i + 1]!], t), i);
  return found;
}

/** Möbius addition in the ball of curvature -1. */
function added(a: Code, b: Code): Float64Array {
  const [ab, aa, bb] = [dot(a, b), dot(a, a), dot(b, b)];
  return Float64Array.from(a, (v, i) => ((1 + 2 * ab + bb) * v + (1 - aa) * b[i]!) / (1 + 2 * ab + aa * bb));
}

/** The geodesic of the Poincaré ball of curvature -1: a + t ⊗ (-a + b). */
function inUnitBall(a: Code, b: Code, t: number): Float64Array {
  const way = added(Float64Array.from(a, (v) => -v), b);
  const n = Math.sqrt(dot(way, way));
  if (n < 1e-9) return Float64Array.from(a);
  const by = Math.tanh(t * Math.atanh(Math.min(n, 1 - 1e-9))) / n;
  return added(a, way.map((v) => by * v));
}

/** That of curvature -c, whose ball has the radius 1 / sqrt(c). Codes outside are pulled in. */
function inBall(a: Code, b: Code, t: number, c: number): Float64Array {
  const scaled = (z: Code): Float64Array => {
    const by = Math.sqrt(c) * Math.min(1, (1 - 1e-5) / Math.sqrt(c * dot(z, z) || 1e-9));
    return Float64Array.from(z, (v) => by * v);
  };
  return inUnitBall(scaled(a), scaled(b), t).map((v) => v / Math.sqrt(c));
}

/** The geodesic of the prior's space, where that is curved: its name and its points. */
export function geodesic(space: string, curvature: number): { name: string; at: (a: Code, b: Code, t: number) => Float64Array } | null {
  if (space === "UniformSphere") return { name: "great circle", at: onSphere };
  if (space === "UniformTorus") return { name: "geodesic of the torus", at: onTorus };
  if (space === "BallNormal") return { name: "hyperbolic geodesic", at: (a, b, t) => inBall(a, b, t, curvature) };
  return null;
}

/** A draw from N(0, 1). */
export const normal = (): number => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

export const mean = (codes: readonly Code[], n: number): Float64Array => {
  const sum = new Float64Array(n);
  for (const code of codes) for (let i = 0; i < n; i++) sum[i]! += code[i]! / codes.length;
  return sum;
};
