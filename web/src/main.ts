// Starts the page in a browser; elsewhere (node) it exports the interpreter alone, for tests.

import { App } from "./app";
import { $ } from "./dom";
import { Decoder } from "./decoder";
import { Metric } from "./metric";
import { operators } from "./operators";
import { Page, type About } from "./page";
import { geodesic } from "./space";

declare const globalThis: { latens?: unknown; latensParts?: unknown; document?: Document };

async function start(): Promise<void> {
  const text = (id: string): string => $(id).textContent!;
  const page = new Page(JSON.parse(text("about")) as About, (name) => text(`block-${name}`));
  const app = await App.start(page, Decoder.open(page));
  const places = new Map(Array.from(app.rows.numbers, (number, i) => [number, i]));
  globalThis.latens = {
    /** Rows of these codes [N][Z], in the units of the data: objects of columns for a table, otherwise their cells. */
    async decode(codes: number[][]): Promise<unknown[]> {
      const width = app.state.z.length;
      if (!codes.every((code) => code.length === width && code.every(Number.isFinite))) throw new TypeError(`codes must be lists of ${width} numbers`);
      return (await app.decode(codes)).map((x) => app.show.plain(x));
    },
    /** The current code; setting it moves the page to that code. */
    get z(): number[] { return Array.from(app.state.z); },
    set z(code: number[]) {
      if (code.length !== app.state.z.length || !code.every(Number.isFinite)) throw new TypeError(`a code must be a list of ${app.state.z.length} numbers`);
      app.setCode(code);
    },
    /** Select rows by their numbers in the data. */
    select(rows: number[]): void { app.select(rows.flatMap((number) => places.get(number) ?? [])); },
    about: page.about,
    ready: performance.now(),
  };
  document.documentElement.dataset["ready"] = "true";
}

if (globalThis.document) void start();
else globalThis.latensParts = { Page, Decoder, Metric, geodesic, operators: Object.keys(operators) };
