// The rows of the page: their codes, cells and positions on maps, and their numbers or levels for every colouring.

import { whole } from "./dom";
import type { About, Block, MapAbout, Page, ValueAbout } from "./page";

export interface Plane {
  name: string;
  x: Float32Array;
  y: Float32Array;
  count: number;
  names: [string, string];
  /** The part of a code that a position fixes: axes of the plane in the space of active dimensions, and its origin. */
  axes: number[][] | null;
  origin: number[];
}

export class Rows {
  readonly active: number[];
  readonly #planes = new Map<string, Plane>();

  private constructor(
    private readonly page: Page,
    readonly codes: Float32Array,
    readonly numbers: Int32Array,
    readonly beyond: Uint8Array,
    readonly cells: Block | null,
    readonly values: Map<string, Block>,
  ) {
    this.active = page.about.dimensions.active;
  }

  static async open(page: Page): Promise<Rows> {
    const { data, rows } = page.about;
    const values = new Map<string, Block>();
    await Promise.all(rows.values.map(async (v) => values.set(v.name, await page.block(v.block))));
    const cells = rows.kept ? await page.block("cells") : null;
    if (cells && (data.kind === "counts" || data.kind === "vector")) rows.values.push(...columnsOf(cells, page.about));
    return new Rows(
      page, (await page.block("codes")) as Float32Array, (await page.block("numbers")) as Int32Array,
      (await page.block("beyond")) as Uint8Array, cells, values,
    );
  }

  get count(): number { return this.page.about.rows.count; }
  get coded(): number { return this.page.about.rows.coded; }
  get kept(): number { return this.page.about.rows.kept; }

  /** The whole code of a row: inactive dimensions are at their mean. */
  code(row: number): Float64Array {
    const z = Float64Array.from(this.page.about.dimensions.mean);
    this.active.forEach((d, a) => (z[d] = this.codes[a * this.coded + row]!));
    return z;
  }

  /** The cells of a row in their units; null if the page lacks them. */
  datum(row: number): Float64Array | null {
    const about = this.page.about.rows.cells;
    if (!this.cells || !about || row >= this.kept) return null;
    const width = this.cells.length / this.kept;
    const { columns } = this.page.about.data;
    return Float64Array.from(this.cells.subarray(row * width, (row + 1) * width), (v, j) => {
      const decimals = columns?.[j]?.decimals ?? null; // cells of a table may be kept in single precision
      return decimals === null ? about.low + v * about.step : Number(v.toFixed(decimals));
    });
  }

  /** The sums and the numbers of the observed cells of these rows in each column, and how often each level occurs. */
  tally(rows: readonly number[]): { sum: Float64Array; seen: Float64Array; times: Map<number, number>[] } {
    const { low, step } = this.page.about.rows.cells!;
    const { columns } = this.page.about.data;
    const width = this.cells!.length / this.kept;
    const [sum, seen] = [new Float64Array(width), new Float64Array(width)];
    const times = Array.from({ length: columns ? width : 0 }, () => new Map<number, number>());
    for (const row of rows) for (let j = 0; j < width; j++) {
      const v = low + step * this.cells![row * width + j]!;
      if (Number.isNaN(v)) continue;
      sum[j]! += v;
      seen[j]!++;
      if (columns?.[j]!.levels.length) times[j]!.set(v, (times[j]!.get(v) ?? 0) + 1);
    }
    return { sum, seen, times };
  }

  value(about: ValueAbout, row: number): number {
    if (about.cell !== undefined) {
      const { low, step } = this.page.about.rows.cells!;
      return row < this.kept ? low + step * this.cells![row * (this.cells!.length / this.kept) + about.cell]! : NaN;
    }
    const stored = this.values.get(about.name)![row]!;
    return stored === about.missing ? NaN : about.low + stored * about.step;
  }

  name(row: number): string {
    return this.page.about.rows.names[row] ?? `row ${whole(this.numbers[row]!)}`;
  }

  axisName(a: number): string {
    const rate = this.page.about.dimensions.rates?.[a];
    return `dimension ${this.active[a]}` + (rate === undefined ? "" : ` · ${rate.toFixed(2)} nats`);
  }

  /** Two active dimensions as a plane. */
  ofDimensions(a: number, b: number): Plane {
    const n = this.coded;
    const all = this.page.about.rows.maps.find((m) => m.name === "dimensions");
    const unit = (k: number): number[] => this.active.map((_, i) => (i === k ? 1 : 0));
    return {
      name: `${a},${b}`, count: n, names: [this.axisName(a), b < 0 ? "" : this.axisName(b)],
      x: this.codes.subarray(a * n, (a + 1) * n), y: b < 0 ? new Float32Array(n) : this.codes.subarray(b * n, (b + 1) * n),
      axes: b < 0 ? [unit(a)] : [unit(a), unit(b)], origin: this.active.map(() => 0),
      ...(all && a === 0 && b < 2 ? this.#places(all) : {}),
    };
  }

  /** A projection of the codes that the page has. */
  async ofMap(about: MapAbout): Promise<Plane> {
    let found = this.#planes.get(about.name);
    if (!found) {
      this.#stored.set(about.name, (await this.page.block(about.block)) as Int16Array);
      const share = (k: number): string => (about.share ? ` · ${(100 * about.share[k]!).toFixed(0)} % of the variance` : "");
      const short = about.name.split(" ")[0]!;
      found = {
        name: about.name, names: [`${short} 1${share(0)}`, `${short} 2${share(1)}`], ...this.#places(about),
        axes: about.axes ?? null, origin: about.middle ?? this.active.map(() => 0),
      };
      this.#planes.set(about.name, found);
    }
    return found;
  }

  async ready(about: MapAbout): Promise<void> {
    this.#stored.set(about.name, (await this.page.block(about.block)) as Int16Array);
  }

  readonly #stored = new Map<string, Int16Array>();

  #places(about: MapAbout): { x: Float32Array; y: Float32Array; count: number } {
    const [whole, n] = [this.#stored.get(about.name)!, about.count];
    const back = (k: number): Float32Array => {
      const [low, step] = [about.low[k]!, (about.high[k]! - about.low[k]!) / 65000];
      return Float32Array.from(whole.subarray(k * n, (k + 1) * n), (v) => low + (v + 32500) * step);
    };
    return { x: back(0), y: back(1), count: n };
  }

  /** The rows nearest to a code in the active dimensions, nearest first, of those for which `of` is true. */
  nearest(z: ArrayLike<number>, k: number, of: (row: number) => boolean = () => true): { row: number; distance: number }[] {
    const [n, target] = [this.coded, this.active.map((d) => z[d]!)];
    const square = new Float64Array(n);
    target.forEach((t, a) => {
      for (let i = 0, at = a * n; i < n; i++) square[i]! += (this.codes[at + i]! - t) ** 2;
    });
    return smallest(square, k, of).map((row) => ({ row, distance: Math.sqrt(square[row]!) }));
  }
}

/** The positions of the k smallest numbers, in order. */
export function smallest(numbers: ArrayLike<number>, k: number, of: (i: number) => boolean = () => true): number[] {
  const found: number[] = [];
  let worst = Infinity;
  for (let i = 0; i < numbers.length; i++) {
    const v = numbers[i]!;
    if (!(v < worst || found.length < k) || Number.isNaN(v) || !of(i)) continue;
    let at = found.length;
    while (at > 0 && numbers[found[at - 1]!]! > v) at--;
    found.splice(at, 0, i);
    if (found.length > k) found.pop();
    if (found.length === k) worst = numbers[found[k - 1]!]!;
  }
  return found;
}

const COLUMNS = 1000; // the most columns of a matrix by which points can be coloured

/** The columns of a matrix as values of rows; of more than COLUMNS, those of the largest variance. */
function columnsOf(cells: Block, { data, rows }: About): ValueAbout[] {
  const width = cells.length / rows.kept;
  const found = Array.from({ length: width }, (_, j) => {
    let [low, high, sum, squares] = [Infinity, -Infinity, 0, 0];
    for (let i = j; i < cells.length; i += width) {
      const v = cells[i]!;
      if (Number.isNaN(v)) continue;
      if (v < low) low = v;
      if (v > high) high = v;
      sum += v;
      squares += v * v;
    }
    return { j, low, high, variance: squares / rows.kept - (sum / rows.kept) ** 2 };
  }).filter((c) => c.high > c.low);
  const least = found.map((c) => c.variance).sort((a, b) => b - a)[COLUMNS - 1] ?? -Infinity;
  const taken = new Set(rows.values.map((v) => v.name));
  return found.filter((c) => c.variance >= least).map(({ j, low, high }) => {
    const name = data.names[j] ?? `column ${j}`;
    const real = (v: number): number => rows.cells!.low + rows.cells!.step * v;
    return {
      name: taken.has(name) ? `column ${name}` : name, levels: [], low: real(low), high: real(high), step: (real(high) - real(low)) / 65000,
      missing: NaN, block: "", cell: j,
    };
  });
}
