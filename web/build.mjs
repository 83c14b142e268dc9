// Builds the front end into latens/report/explore/assets, or into the folder named on the command line.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { runInNewContext } from "node:vm";

const out = process.argv[2] ?? new URL("../latens/report/explore/assets", import.meta.url).pathname;
const source = (name) => new URL(`src/${name}`, import.meta.url).pathname;
const common = { bundle: true, minify: true, target: "es2022", charset: "utf8", logLevel: "warning" };
await build({ ...common, entryPoints: [source("main.ts")], format: "iife", outfile: `${out}/explore.js` });
await build({ ...common, entryPoints: [source("style.css")], outfile: `${out}/explore.css` });

// what latens asks before it writes a page: the operators that the interpreter has
const parts = {};
runInNewContext(readFileSync(`${out}/explore.js`, "utf8"), parts);
writeFileSync(`${out}/operators.json`, JSON.stringify(parts.latensParts.operators.sort(), null, 0).replaceAll(",", ", ") + "\n");
