// Decodes codes to rows in their units, with the graph in the page or through the local process that serves the page.

import { run } from "./graph";
import type { GraphAbout, Page } from "./page";
import { normal } from "./space";
import { count, Tensor, type Data } from "./tensor";

type Numbers = ArrayLike<number>;
/** A decoded row, of a table as it would be written, and where the decoder says so, how far its cells spread and how
 * probable each level is. */
export interface Decoded { value: Data; deviation?: Data; probabilities?: Data }

export class Decoder {
  readonly width: number;
  readonly #noise = new Map<number, Float32Array>();

  private constructor(private readonly page: Page, private readonly constants: Tensor[]) {
    this.width = page.about.data.columns?.length ?? count(page.about.data.shape);
  }

  static async open(page: Page): Promise<Decoder> {
    return new Decoder(page, page.about.graph ? await constantsOf(page, page.about.graph) : []);
  }

  /** The rows of the codes [N][Z]; each condition is one number for all rows, or one number per row. */
  async decode(codes: readonly Numbers[], conditions: readonly Numbers[]): Promise<Decoded[]> {
    if (!codes.length) return [];
    const found = this.page.about.graph ? this.#local(codes, conditions) : await this.#remote(codes, conditions);
    return codes.map((_, i) => {
      const { cells, ...parts } = Object.fromEntries(Object.entries(found).map(([name, all]) => {
        const each = all.length / codes.length;
        return [name, all.subarray(i * each, (i + 1) * each)];
      }));
      return { ...parts, value: cells ?? this.#settled(parts["value"]!) } as Decoded;
    });
  }

  /** Cells of other data than tables within the range of the data, as `latens reconstruct` writes them. */
  #settled(x: Data): Data {
    const { limits, kind } = this.page.about.data;
    if (!limits) return x;
    const [low, high] = limits;
    const [n, each] = [low.length, x.length / low.length];
    const channel = (j: number): number => (kind === "image" ? Math.floor(j / each) : j % n);
    return x.map((v, j) => Math.min(Math.max(v, low[channel(j)]!), high[channel(j)]!));
  }

  /** The outputs for all rows of the inputs [N][...], in the order of the graph. */
  compute(inputs: readonly Numbers[]): Record<string, Data> {
    const graph = this.page.about.graph!;
    const tensors = graph.inputs.map(([kind, shape], i) => {
      const data = kind === "f" ? Float32Array.from(inputs[i]!) : Float64Array.from(inputs[i]!);
      return new Tensor(data, [data.length / count(shape), ...shape], kind);
    });
    return Object.fromEntries(Object.entries(run(graph, this.constants, tensors)).map(([name, x]) => [name, x.data]));
  }

  #local(codes: readonly Numbers[], conditions: readonly Numbers[]): Record<string, Data> {
    return this.compute(this.page.about.graph!.inputs.map(([, shape], i) => {
      const width = count(shape);
      const data = new Float64Array(codes.length * width);
      const given = i === 0 ? null : conditions[i - 1];
      for (let row = 0; row < codes.length; row++) {
        if (i === 0) data.set(codes[row]!, row * width);
        else if (given) data[row] = given[given.length === 1 ? 0 : row]!;
        else data.set(this.#drawn(width), row * width);
      }
      return data;
    }));
  }

  /** The noise of a decoder that draws: the same for all rows, so that a code has one picture. */
  #drawn(width: number): Float32Array {
    let found = this.#noise.get(width);
    if (!found) this.#noise.set(width, found = Float32Array.from({ length: width }, normal));
    return found;
  }

  async #remote(codes: readonly Numbers[], conditions: readonly Numbers[]): Promise<Record<string, Data>> {
    const body = JSON.stringify({ codes: codes.map((c) => Array.from(c)), conditions: conditions.map((c) => Array.from(c)) });
    const answer = await fetch(this.page.about.address + "decode", { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    const bytes = await answer.arrayBuffer();
    return { value: this.page.about.data.columns ? new Float64Array(bytes) : new Float32Array(bytes) };
  }
}

async function constantsOf(page: Page, graph: GraphAbout): Promise<Tensor[]> {
  const at: Record<string, number> = {};
  const found: Tensor[] = [];
  for (const [kind, stored, shape] of graph.constants) {
    const block = (await page.block(`weights-${stored}`)) as Float32Array | Float64Array;
    const start = at[stored] ?? 0;
    at[stored] = start + count(shape);
    const numbers = block.subarray(start, at[stored]);
    const data = kind === "b" ? Uint8Array.from(numbers) : kind === "f" ? Float32Array.from(numbers) : Float64Array.from(numbers);
    found.push(new Tensor(data, shape, kind));
  }
  return found;
}
