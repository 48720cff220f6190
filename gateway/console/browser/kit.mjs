// What browser tests stand on: a whole gateway with its models (`weir demo --no-load`), a load of our own,
// and Debian's Chromium. Nothing is faked but the users.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const weir = process.env.WEIR ?? join(root, "target/debug/weir");
const CHROMIUM = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits for something to be true; says what was seen last if it never is. */
export async function until(what, check, ms = 15_000) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`never came: ${what}; last seen: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await sleep(50);
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** A demo of its own; without the demo's load and story, unless they are asked for. Everything ends with
 *  `stop`. */
export class Demo {
  static async start({ story = false } = {}) {
    const demo = new Demo();
    demo.story = story;
    demo.dir = mkdtempSync(join(tmpdir(), "weir-browser-"));
    [demo.edge, demo.port] = [await freePort(), await freePort()];
    demo.url = `http://127.0.0.1:${demo.port}`;
    await demo.run();
    return demo;
  }

  async run() {
    const args = ["demo", ...(this.story ? [] : ["--no-load"]), "--dir", this.dir, "--edge", `127.0.0.1:${this.edge}`, "--admin", `127.0.0.1:${this.port}`];
    this.process = spawn(weir, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on("data", (bytes) => (said += bytes));
    this.process.on("exit", (code) => (this.ended = code ?? "signal"));
    this.ended = undefined;
    await until("the demo is ready", async () => {
      if (this.ended !== undefined) throw new Error(`the demo ended (${this.ended}): ${said}`);
      return (await fetch(`${this.url}/readyz`)).ok;
    }, 30_000);
    this.key = readFileSync(join(this.dir, "admin.key"), "utf8").trim();
    this.clientKey = await until("the client's key", () => readFileSync(join(this.dir, "client.key"), "utf8").trim());
  }

  /** A call of the admin API by key. */
  async api(method, path, body, headers = {}) {
    const answer = await fetch(`${this.url}/api/v1${path}`, {
      method, headers: { authorization: `Bearer ${this.key}`, "content-type": "application/json", ...headers }, body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  }

  async split(weights, reason = "set by a test") {
    const { revision } = await this.api("GET", "/experiments/int8");
    return this.api("PUT", "/experiments/int8/weights", { weights, reason }, { "if-match": `"${revision}"` });
  }

  async makeKey(name, role) {
    return (await this.api("POST", "/keys", { name, role })).secret;
  }

  /** So many requests a second, of as many users as there are numbers, to each of `paths` in turn. */
  load(perSecond, paths = ["/v1/chat/completions"]) {
    let sent = 0;
    const agent = new https.Agent({ keepAlive: true, maxSockets: 32, rejectUnauthorized: false });
    const body = JSON.stringify({ model: "demo", max_tokens: 8, messages: [{ role: "user", content: "What is a weir?" }] });
    const timer = setInterval(() => {
      const request = https.request(
        { agent, host: "127.0.0.1", port: this.edge, path: paths[sent++ % paths.length], method: "POST", headers: { authorization: `Bearer ${this.clientKey}`, "content-type": "application/json", "content-length": Buffer.byteLength(body), "x-user-id": `u${Math.floor(Math.random() * 1e6)}` } },
        (answer) => answer.resume(),
      );
      request.on("error", () => {});
      request.end(body);
    }, 1000 / perSecond);
    this.loads = [...(this.loads ?? []), { end: () => (clearInterval(timer), agent.destroy()) }];
  }

  /** Changes the configuration while the gateway runs, and waits until that is in force. */
  async configure(change) {
    const file = join(this.dir, "weir.toml");
    const { generation } = await this.api("GET", "/status");
    writeFileSync(file, change(readFileSync(file, "utf8")));
    await until("the configuration is in force", async () => {
      const status = await this.api("GET", "/status");
      if (status.config.last_error) throw new Error(status.config.last_error);
      return status.generation > generation;
    });
  }

  async kill(signal = "SIGTERM") {
    this.process.kill("SIGCONT");
    this.process.kill(signal);
    await until("the demo ends", () => this.ended !== undefined, 20_000);
  }

  async stop() {
    for (const load of this.loads ?? []) load.end();
    await this.kill("SIGKILL").catch(() => {});
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export async function browser() {
  if (!CHROMIUM) throw new Error("there is no chromium; install Debian's package chromium, or name one in CHROMIUM");
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: CHROMIUM, args });
}

/** A page of the console. `faults` collects what a person would see in red in the console of the browser. */
export async function open(chrome, { scheme = "light", width = 1440, height = 1000, zone = "Europe/Berlin" } = {}) {
  const context = await chrome.newContext({ viewport: { width, height }, colorScheme: scheme, timezoneId: zone, locale: "en-GB" });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => {
    if (message.type() === "error" || /Content.Security.Policy/i.test(message.text())) faults.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    const { hostname } = new URL(request.url());
    if (!["127.0.0.1", "localhost", ""].includes(hostname)) faults.push(`asked for ${request.url()}`);
  });
  return { context, page, faults };
}

/** Signs in through the form, as a person does. */
export async function signIn(page, demo, key = demo.key, to = "/") {
  await page.goto(demo.url + to);
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: /live, 1 s/ }).waitFor();
}
