// Builds the console into dist/, which is committed and embedded in the binary.
//
//   node build.mjs           writes dist/
//   node build.mjs --check   builds in memory and fails if dist/ is anything else
import { readFileSync, readdirSync, writeFileSync, mkdirSync } from "node:fs";
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "dist");

/** Every file of dist/ that is not packed, by name. */
async function built() {
  const common = { bundle: true, minify: true, write: false, target: "es2022", charset: "utf8", legalComments: "none", absWorkingDir: here };
  const outputs = await Promise.all([
    build({ ...common, entryPoints: ["src/main.tsx"], format: "iife", jsx: "automatic", jsxImportSource: "preact" }),
    build({ ...common, entryPoints: ["src/scheme.ts"], format: "iife" }),
    build({ ...common, entryPoints: ["src/style/console.css"] }),
  ]);
  const [main, scheme, style] = outputs.map((output) => Buffer.from(output.outputFiles[0].contents));
  const read = (name) => readFileSync(join(here, "src", name));
  return { "index.html": read("index.html"), "console.js": main, "scheme.js": scheme, "console.css": style, "weir.svg": read("weir.svg") };
}

const pack = {
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  gz: (bytes) => gzipSync(bytes, { level: 9 }),
};
const unpack = { br: brotliDecompressSync, gz: gunzipSync };

const files = await built();
const problems = [];
if (process.argv.includes("--check")) {
  const expected = new Set(Object.keys(files).flatMap((name) => [name, `${name}.br`, `${name}.gz`]));
  for (const name of readdirSync(dist)) if (!expected.has(name)) problems.push(`dist/${name} is built from nothing`);
  for (const [name, bytes] of Object.entries(files)) {
    const same = (found, how) => {
      try {
        if (!found().equals(bytes)) problems.push(`dist/${name}${how} is not what the sources build`);
      } catch (error) {
        problems.push(`dist/${name}${how}: ${error.message}`);
      }
    };
    same(() => readFileSync(join(dist, name)), "");
    // Packed files may differ from one Node to the next; what is in them may not.
    for (const how of Object.keys(pack)) same(() => unpack[how](readFileSync(join(dist, `${name}.${how}`))), `.${how}`);
  }
} else {
  mkdirSync(dist, { recursive: true });
  for (const [name, bytes] of Object.entries(files)) {
    writeFileSync(join(dist, name), bytes);
    for (const [how, packed] of Object.entries(pack)) {
      const file = join(dist, `${name}.${how}`);
      // Not written again for another Node's packing of the same bytes.
      let known = false;
      try { known = unpack[how](readFileSync(file)).equals(bytes); } catch { /* not there yet */ }
      if (!known) writeFileSync(file, packed(bytes));
    }
  }
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error("run `npm run build` in gateway/console and commit dist/");
  process.exit(1);
}
const sum = (how) => Object.values(files).reduce((all, bytes) => all + pack[how](bytes).length, 0);
console.log(`console: ${(sum("br") / 1024).toFixed(1)} KiB with brotli, ${(sum("gz") / 1024).toFixed(1)} KiB with gzip`);
