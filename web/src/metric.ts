// Shortest curves in a metric that the model learned around some codes: G⁻¹(z) = Σ S_i exp(-|z - c_i|² / T²) + λ I.

import type { Page } from "./page";
import { straight } from "./space";

type Code = ArrayLike<number>;
const PIECES = 64;
const ROUNDS = 300;

export interface MetricAbout { centroids: string; squares: string; temperature: number; floor: number }

export class Metric {
  readonly #n: number;
  #ends = "";
  #way: Float64Array[] = [];

  constructor(private readonly centroids: Code, private readonly squares: Code, private readonly about: Pick<MetricAbout, "temperature" | "floor">, n: number) {
    this.#n = n;
  }

  /** The metric of the page's model, if it has one. */
  static async open(page: Page): Promise<Metric | null> {
    const { metric, count } = page.about.dimensions;
    return metric ? new Metric(await page.block(metric.centroids), await page.block(metric.squares), metric, count) : null;
  }

  /** exp(-|z - c_i|² / T²) of each centroid. */
  #near(z: Code): Float64Array {
    const n = this.#n;
    return Float64Array.from({ length: this.centroids.length / n }, (_, i) => {
      let square = 0;
      for (let d = 0; d < n; d++) square += (z[d]! - this.centroids[i * n + d]!) ** 2;
      return Math.exp(-square / this.about.temperature ** 2);
    });
  }

  /** G(z) v, by Gaussian elimination of G⁻¹, which is positive definite. */
  #times(near: Code, v: Code): Float64Array {
    const n = this.#n;
    const a = new Float64Array(n * n);
    for (let i = 0; i < near.length; i++) for (let k = 0; k < n * n; k++) a[k]! += near[i]! * this.squares[i * n * n + k]!;
    for (let d = 0; d < n; d++) a[d * n + d]! += this.about.floor;
    const x = Float64Array.from(v);
    for (let d = 0; d < n; d++) for (let r = d + 1; r < n; r++) {
      const by = a[r * n + d]! / a[d * n + d]!;
      for (let k = d; k < n; k++) a[r * n + k]! -= by * a[d * n + k]!;
      x[r]! -= by * x[d]!;
    }
    for (let d = n - 1; d >= 0; d--) {
      for (let k = d + 1; k < n; k++) x[d]! -= a[d * n + k]! * x[k]!;
      x[d]! /= a[d * n + d]!;
    }
    return x;
  }

  /** The energy δᵀ G(z) δ of each piece of a polyline, with z in its middle, and the gradient at each corner. */
  #energies(points: readonly Code[], slopes?: Float64Array[]): Float64Array {
    const n = this.#n;
    return Float64Array.from({ length: points.length - 1 }, (_, p) => {
      const [a, b] = [points[p]!, points[p + 1]!];
      const step = Float64Array.from(a, (v, d) => b[d]! - v);
      const middle = straight(a, b, 0.5);
      const near = this.#near(middle);
      const pull = this.#times(near, step);
      if (slopes) {
        const turn = new Float64Array(n); // half the gradient with respect to the middle
        for (let i = 0; i < near.length; i++) {
          let form = 0;
          for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) form += pull[r]! * pull[c]! * this.squares[(i * n + r) * n + c]!;
          for (let d = 0; d < n; d++) turn[d]! += (form * near[i]! * (middle[d]! - this.centroids[i * n + d]!)) / this.about.temperature ** 2;
        }
        for (let d = 0; d < n; d++) { slopes[p]![d]! += turn[d]! - 2 * pull[d]!; slopes[p + 1]![d]! += turn[d]! + 2 * pull[d]!; }
      }
      return step.reduce((sum, v, d) => sum + v * pull[d]!, 0);
    });
  }

  /** The length of the straight line between codes, from the middles of small steps. */
  #distances(points: readonly Code[], each: number): Float64Array {
    return Float64Array.from({ length: (points.length - 1) * each }, (_, i) => {
      const [p, k] = [Math.floor(i / each), i % each];
      const [a, b] = [points[p]!, points[p + 1]!];
      const step = Float64Array.from(a, (v, d) => (b[d]! - v) / each);
      const pull = this.#times(this.#near(straight(a, b, (k + 0.5) / each)), step);
      return Math.sqrt(Math.max(0, step.reduce((sum, v, d) => sum + v * pull[d]!, 0)));
    });
  }

  /** Points of a polyline at equal distances in the metric, and its length. */
  #spread(points: readonly Code[]): { points: Float64Array[]; length: number } {
    const each = Math.max(8, 512 / (points.length - 1));
    const distances = this.#distances(points, each);
    const length = distances.reduce((sum, v) => sum + v, 0);
    let [i, gone] = [0, 0];
    return { length, points: Array.from({ length: PIECES + 1 }, (_, k) => {
      if (k === PIECES) return Float64Array.from(points.at(-1)!);
      const wanted = (k / PIECES) * length;
      while (i < distances.length - 1 && gone + distances[i]! < wanted) gone += distances[i++]!;
      const at = (i + (wanted - gone) / (distances[i]! || 1)) / each;
      const p = Math.min(Math.floor(at), points.length - 2);
      return straight(points[p]!, points[p + 1]!, at - p);
    }) };
  }

  /** The polyline after a descent in its energy; each step weights the pieces by their springs. */
  #descended(start: Float64Array[]): Float64Array[] {
    let [points, size] = [start, 1];
    for (let round = 0; round < ROUNDS; round++) {
      const slopes = points.map(() => new Float64Array(this.#n));
      const parts = this.#energies(points, slopes);
      const energy = parts.reduce((sum, v) => sum + v, 0);
      const springs = parts.map((v, p) => (2 * v) / points[p]!.reduce((sum, z, d) => sum + (z - points[p + 1]![d]!) ** 2, 1e-30));
      const steps = tridiagonal(springs, slopes);
      const fall = steps.reduce((sum, step, k) => sum + step.reduce((s, v, d) => s + v * slopes[k]![d]!, 0), 0);
      let [moved, gain] = [points, 0];
      for (; size > 1e-6; size /= 2) {
        moved = points.map((z, k) => z.map((v, d) => v - size * steps[k]![d]!));
        gain = energy - this.#energies(moved).reduce((sum, v) => sum + v, 0);
        if (gain > 0.1 * size * fall) break;
      }
      if (!(gain > 1e-9 * energy)) break;
      [points, size] = [moved, Math.min(1, 2 * size)];
    }
    return points;
  }

  /** The code at a fraction of the curve from a to b, which is at most as long as the straight line. */
  at(a: Code, b: Code, t: number): Float64Array {
    const ends = `${Array.from(a)};${Array.from(b)}`;
    if (ends !== this.#ends) {
      const line = this.#spread([a, b]);
      const way = this.#spread(this.#descended(line.points));
      this.#way = (way.length < line.length ? way : line).points;
      this.#ends = ends;
    }
    const p = Math.min(PIECES - 1, Math.floor(t * PIECES));
    return straight(this.#way[p]!, this.#way[p + 1]!, t * PIECES - p);
  }
}

/** x of K x = y for a chain of springs whose ends are fixed; x and y have a row for each corner, 0 at the ends. */
function tridiagonal(springs: Code, y: readonly Float64Array[]): Float64Array[] {
  const last = y.length - 1;
  const shares = new Float64Array(last);
  const x = y.map((row, k) => (k && k < last ? row.slice() : new Float64Array(row.length)));
  for (let k = 1; k < last; k++) {
    const by = springs[k - 1]! + springs[k]! - springs[k - 1]! * shares[k - 1]! || 1e-30;
    shares[k] = springs[k]! / by;
    x[k]!.forEach((v, d) => { x[k]![d] = (v + springs[k - 1]! * x[k - 1]![d]!) / by; });
  }
  for (let k = last - 1; k > 0; k--) x[k]!.forEach((_, d) => { x[k]![d]! += shares[k]! * x[k + 1]![d]!; });
  return x;
}
