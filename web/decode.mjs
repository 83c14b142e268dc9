// Runs the interpreter by itself: a page's facts and blocks and the inputs of its graph as JSON in, the outputs out.
import { readFileSync } from "node:fs";
import { runInNewContext } from "node:vm";

const given = JSON.parse(readFileSync(0, "utf8"));
const shared = { Blob, Response, DecompressionStream, atob, Uint8Array, Float32Array, Float64Array, ArrayBuffer };
runInNewContext(readFileSync(given.bundle, "utf8"), shared);
const { Page, Decoder } = shared.latensParts;
const decoder = await Decoder.open(new Page(given.about, (name) => given.blocks[name]));
const found = Object.entries(decoder.compute(given.inputs)).map(([name, x]) => [name, Array.from(x, (v) => (Number.isFinite(v) ? v : String(v)))]);
process.stdout.write(JSON.stringify(Object.fromEntries(found)));
