// Builds the tests of the pure parts and runs them with Node's own runner.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const tests = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
const out = mkdtempSync(join(tmpdir(), "weir-console-test-"));
try {
  await build({
    entryPoints: tests.map((name) => join(here, name)), outdir: out, outExtension: { ".js": ".mjs" }, bundle: true, format: "esm", platform: "node",
    target: "node20", jsx: "automatic", jsxImportSource: "preact", sourcemap: "inline", logLevel: "error",
    // The page's own parts ask the browser when they are loaded; pure functions beside them do not.
    banner: { js: "globalThis.matchMedia ??= () => ({ matches: false, addEventListener() {} }); globalThis.location ??= { pathname: '/', search: '' }; globalThis.IntersectionObserver ??= class { observe() {} };" },
  });
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...readdirSync(out).map((name) => join(out, name))], { stdio: "inherit", env: { ...process.env, TZ: "Europe/Berlin" } });
  process.exitCode = status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
