// The points of a plane, sorted into square cells, so that those nearest to a position are found without visiting all.

import type { Plane } from "./rows";

const EACH = 8; // points per cell, on average

export class Places {
  readonly #size: number;
  readonly #across: number;
  readonly #up: number;
  readonly #low: readonly [number, number];
  /** The points cell by cell, and where each cell begins. */
  readonly #points: Int32Array;
  readonly #starts: Int32Array;

  constructor(readonly plane: Plane) {
    const { x, y, count } = plane;
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      const [a, b] = [x[i]!, y[i]!];
      if (a < x0) x0 = a;
      if (a > x1) x1 = a;
      if (b < y0) y0 = b;
      if (b > y1) y1 = b;
    }
    const [width, height] = [x1 - x0 || 0, y1 - y0 || 0];
    const size = this.#size = Math.max(Math.sqrt((width * height * EACH) / count), width / 1024, height / 1024) || 1;
    this.#low = [x0, y0];
    this.#across = Math.floor(width / size) + 1;
    this.#up = Math.floor(height / size) + 1;
    const at = (i: number): number => Math.floor((y[i]! - y0) / size) * this.#across + Math.floor((x[i]! - x0) / size);
    const starts = this.#starts = new Int32Array(this.#across * this.#up + 1);
    for (let i = 0; i < count; i++) starts[at(i) + 1]!++;
    for (let c = 1; c < starts.length; c++) starts[c]! += starts[c - 1]!;
    const next = starts.slice();
    this.#points = new Int32Array(count);
    for (let i = 0; i < count; i++) this.#points[next[at(i)]!++] = i;
  }

  /** The k points nearest to a place, nearest first, within `reach` of it, of those for which `of` is true. */
  nearest(px: number, py: number, k: number, of: (i: number) => boolean, reach = Infinity): { i: number; square: number }[] {
    const { x, y } = this.plane;
    const cell = (v: number, low: number, n: number): number => Math.min(n - 1, Math.max(0, Math.floor((v - low) / this.#size)));
    const [cx, cy] = [cell(px, this.#low[0], this.#across), cell(py, this.#low[1], this.#up)];
    const found: { i: number; square: number }[] = [];
    let worst = reach * reach;
    // visit ring after ring of cells, until the next ring is farther away than the points found
    for (let r = 0; r <= Math.max(this.#across, this.#up) && Math.max(0, r - 1) * this.#size <= Math.sqrt(worst); r++) {
      for (let v = Math.max(0, cy - r); v <= Math.min(this.#up - 1, cy + r); v++) {
        const step = Math.abs(v - cy) === r || r === 0 ? 1 : 2 * r;
        for (let u = cx - r; u <= cx + r; u += step) {
          if (u < 0 || u >= this.#across) continue;
          const c = v * this.#across + u;
          for (let p = this.#starts[c]!; p < this.#starts[c + 1]!; p++) {
            const i = this.#points[p]!;
            const square = (x[i]! - px) ** 2 + (y[i]! - py) ** 2;
            if (square >= worst || !of(i)) continue;
            let to = found.length;
            while (to > 0 && found[to - 1]!.square > square) to--;
            found.splice(to, 0, { i, square });
            if (found.length > k) found.pop();
            if (found.length === k) worst = found[k - 1]!.square;
          }
        }
      }
    }
    return found;
  }
}
