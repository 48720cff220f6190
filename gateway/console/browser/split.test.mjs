// What an experimenter does, in a real browser against a real gateway under load.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Demo, browser, open, signIn, sleep, until } from "./kit.mjs";

let demo, chrome;
before(async () => {
  [demo, chrome] = await Promise.all([Demo.start(), browser()]);
  demo.load(60);
});
after(async () => {
  await chrome?.close();
  await demo?.stop();
});

const revision = async () => (await demo.api("GET", "/experiments/int8")).revision;
const shareOfCanary = async () => (await demo.api("GET", "/experiments/int8")).variants.canary.share;

/** Takes the first handle and pulls it to `percent` of the bar. */
async function drag(page, percent) {
  const track = await page.locator(".track").boundingBox();
  const handle = await page.locator(".handle").first().boundingBox();
  const y = track.y + track.height / 2;
  await page.mouse.move(handle.x + handle.width / 2, y);
  await page.mouse.down();
  const [from, to] = [handle.x + handle.width / 2, track.x + (track.width * percent) / 100];
  for (let at = 1; at <= 10; at += 1) await page.mouse.move(from + ((to - from) * at) / 10, y);
  await page.mouse.up();
}

test("a key is exchanged for a cookie; a wrong one is told; a link signs in and forgets its key", async () => {
  const { context, page, faults } = await open(chrome);
  await page.goto(demo.url);
  await page.getByLabel("Admin key").fill("weir_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This key is not known here, was revoked, or has expired.").waitFor();
  assert.equal(await page.getByLabel("Admin key").evaluate((field) => field === document.activeElement), true, "focus returns to the field");
  // The browser itself reports that an answer was 401; there is nothing else.
  assert.equal(faults.splice(0).filter((fault) => !/401/.test(fault)).length, 0);

  await page.goto(`${demo.url}/experiments/int8#token=${demo.key}`);
  await page.getByRole("heading", { name: "int8", level: 1 }).waitFor();
  assert.equal(page.url(), `${demo.url}/experiments/int8`, "the key is gone from the address");
  const cookies = await context.cookies();
  assert.deepEqual(cookies.map(({ name, httpOnly, secure, sameSite }) => ({ name, httpOnly, secure, sameSite })), [{ name: "__Host-weir", httpOnly: true, secure: true, sameSite: "Strict" }]);
  const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }, document.documentElement.outerHTML]));
  assert.ok(!kept.includes(demo.key), "the page keeps the key nowhere");

  await page.getByRole("button", { name: "sign out" }).click();
  await page.getByLabel("Admin key").waitFor();
  assert.deepEqual(await context.cookies(), []);
  await page.goto(`${demo.url}/experiments/int8`);
  await page.getByLabel("Admin key").waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("95 to 80 by dragging: nothing before it is confirmed, then revision, picture and traffic follow within 2 s; undo", async () => {
  await demo.split({ stable: 95, canary: 5, next: 0 });
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  const seen = await revision();
  await page.getByText(`revision ${seen}`).first().waitFor();
  await drag(page, 80);
  await page.getByText("About 1,500 of 10,000 user buckets move, from stable to canary.").first().waitFor();
  await page.getByText(/None of them out of canary\. At this load about \d+ requests\/s change sides\./).first().waitFor();
  assert.equal(await revision(), seen, "a draft moves nothing");

  await page.getByLabel("Reason, for the history").fill("p95 is fine at 5 %");
  const begun = Date.now();
  await page.getByRole("button", { name: `Put revision ${seen + 1} in force` }).click();
  await page.getByText(`Revision ${seen + 1} is in force.`).waitFor();
  assert.equal(await shareOfCanary(), 0.2);
  // The picture follows: the fall has the revision's line, and its newest row shows the new edge.
  await until("the fall shows the revision", () => page.locator(".fall .rev").filter({ hasText: `revision ${seen + 1}` }).count(), 2_000);
  const edge = () => page.locator(".fall path.v1").evaluate((path) => Number(/M([\d.]+) 0h/.exec(path.getAttribute("d"))?.[1] ?? "1000") / 10);
  await until("traffic follows in the picture", async () => (await edge()) < 90, 2_500 - (Date.now() - begun) + 1_500);
  const history = await demo.api("GET", "/experiments/int8/history?limit=1");
  assert.deepEqual([history.revisions[0].reason, history.revisions[0].buckets_moved, history.revisions[0].by], ["p95 is fine at 5 %", 1500, "first-admin"]);
  await page.locator(".hist").getByText("“p95 is fine at 5 %”").waitFor();
  await page.locator(".lined .tx.box").filter({ hasText: `r${seen + 1}` }).first().waitFor();

  await page.locator(".toast").getByRole("button", { name: "Undo" }).click();
  await page.getByText(`Revision ${seen + 2} is in force.`).waitFor();
  assert.equal(await shareOfCanary(), 0.05);
  await page.locator("h1").click();
  await page.keyboard.press("Control+z");
  await page.getByText(`Revision ${seen + 3} is in force.`).waitFor();
  assert.equal(await shareOfCanary(), 0.2, "Ctrl Z takes back one's own last change, here the undo");
  assert.deepEqual(faults, []);
  await context.close();
});

test("typed and moved by keys; Esc discards; going back is a draft too", async () => {
  await demo.split({ stable: 90, canary: 10, next: 0 });
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  await page.getByLabel("canary, percent").fill("12,5");
  await page.getByText("About 250 of 10,000 user buckets move, from stable to canary.").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Nothing changes until you confirm.").waitFor();
  const first = page.getByRole("slider", { name: "Between stable and canary" });
  await first.focus();
  for (const key of ["ArrowLeft", "Shift+ArrowLeft", "PageDown"]) await page.keyboard.press(key);
  assert.equal((await first.getAttribute("aria-valuetext")).replaceAll("\u00a0", " "), "stable 78.9 %, canary 21.1 %");
  // The preview is told once the keys rest.
  await until("the preview is announced", async () => /About 1,110 of 10,000/.test(await page.locator(".dials [role=status]").innerText()));
  await page.keyboard.press("End");
  assert.equal(await first.getAttribute("aria-valuenow"), "100");
  await page.keyboard.press("Escape");

  const now = await revision();
  await demo.split({ stable: 85, canary: 10, next: 5 });
  await page.getByRole("button", { name: `Back to ${now}…` }).click();
  await page.getByText(`Back to revision ${now}.`).first().waitFor();
  await page.getByRole("button", { name: `Put revision ${now + 2} in force` }).click();
  await page.getByText(`Revision ${now + 2} is in force.`).waitFor();
  const [newest] = (await demo.api("GET", "/experiments/int8/history?limit=1")).revisions;
  assert.deepEqual(newest.weights, { stable: 90, canary: 10, next: 0 });
  assert.deepEqual(faults, []);
  await context.close();
});

test("somebody else was faster: nothing of mine is applied, and I start again from theirs", async () => {
  await demo.split({ stable: 90, canary: 10, next: 0 });
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  const seen = await revision();
  await page.getByLabel("canary, percent").fill("20");
  await page.getByText("About 1,000 of 10,000").first().waitFor();
  await demo.split({ stable: 95, canary: 5, next: 0 }, "closing it a little");
  await page.getByText(`Your draft starts from revision ${seen}.`).waitFor();
  assert.equal(await page.getByLabel("canary, percent").inputValue(), "20", "a draft stays where it was");
  await page.getByRole("button", { name: `Put revision ${seen + 1} in force` }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("heading", { name: "first-admin changed this" }).waitFor();
  await dialog.getByText("Nothing of yours was applied.").waitFor();
  await dialog.getByText("“closing it a little”").waitFor();
  await dialog.getByText("what you wanted would move 1,500 of 10,000 user buckets").waitFor();
  assert.equal(await shareOfCanary(), 0.05);
  await dialog.getByRole("button", { name: `Start again from revision ${seen + 1}` }).click();
  await page.getByText("About 1,500 of 10,000 user buckets move").first().waitFor();
  await page.getByRole("button", { name: `Put revision ${seen + 2} in force` }).click();
  await page.getByText(`Revision ${seen + 2} is in force.`).waitFor();
  assert.equal(await shareOfCanary(), 0.2);
  // The browser reports the 412 by itself; nothing else.
  assert.deepEqual(faults.filter((fault) => !/412/.test(fault)), []);
  await context.close();
});

test("the kill switch asks once, is not pressed by Enter, and can be taken back", async () => {
  await demo.split({ stable: 80, canary: 20, next: 0 });
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  const button = page.getByRole("button", { name: "Stop: all to stable" });
  await button.click();
  const dialog = page.getByRole("alertdialog");
  await dialog.getByText(/canary gets no new requests from now on: [\d.]+\/s move\./).waitFor();
  await dialog.getByLabel("Reason (it may stay empty)").fill("an alarm");
  await page.keyboard.press("Enter");
  assert.equal((await demo.api("GET", "/experiments/int8")).state, "running", "Enter does not stop");
  await page.keyboard.press("Escape");
  assert.equal(await dialog.count(), 0);
  assert.equal(await button.evaluate((element) => element === document.activeElement), true, "focus is given back");
  await button.click();
  await dialog.getByLabel("Reason (it may stay empty)").fill("an alarm");
  await dialog.getByRole("button", { name: "Stop int8" }).click();
  await page.getByText("everything goes to the route’s backend").waitFor();
  const stopped = await demo.api("GET", "/experiments/int8");
  assert.deepEqual([stopped.state, stopped.reason], ["stopped", "an alarm"]);
  assert.equal(await page.getByRole("slider").count(), 0, "what cannot be moved has no handles");
  await page.getByRole("button", { name: "Take the stop back" }).click();
  await until("it runs again", async () => (await demo.api("GET", "/experiments/int8")).state === "running");
  await page.getByRole("slider").first().waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("who may only look is offered nothing else", async () => {
  const key = await demo.makeKey("jo-laptop", "viewer");
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, key, "/experiments/int8");
  await page.getByText("Moving weights needs the role experimenter; your key jo-laptop is viewer.").waitFor();
  assert.equal(await page.getByRole("slider").count(), 0);
  assert.equal(await page.locator("main input").count(), 0);
  for (const name of [/Undo/, /Stop/, /Back to/, /ramp/i]) assert.equal(await page.locator("main").getByRole("button", { name }).count(), 0, String(name));
  const links = await page.getByRole("navigation").getByRole("link").allInnerTexts();
  assert.ok(!links.includes("Audit") && !links.includes("Keys"), links.join());
  const client = await demo.makeKey("app", "client");
  await page.getByRole("button", { name: "sign out" }).click();
  await page.getByLabel("Admin key").fill(client);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("A key of role client calls models; the console needs viewer or above.").waitFor();
  assert.deepEqual(faults.filter((fault) => !/403/.test(fault)), []);
  await context.close();
});

test("a key that is revoked while somebody works ends the session, and the draft is kept", async () => {
  await demo.split({ stable: 90, canary: 10, next: 0 });
  const made = await demo.api("POST", "/keys", { name: "ml-team", role: "experimenter" });
  const { context, page } = await open(chrome);
  await signIn(page, demo, made.secret, "/experiments/int8");
  await page.getByLabel("canary, percent").fill("33");
  await page.getByText("About 2,300 of 10,000").first().waitFor();
  await demo.api("DELETE", `/keys/${made.id}`);
  await page.getByLabel("Admin key").waitFor();
  await page.getByLabel("Admin key").fill(demo.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("About 2,300 of 10,000").first().waitFor();
  assert.equal(await page.getByLabel("canary, percent").inputValue(), "33");
  await context.close();
});

test("a gateway that stands still is told within seconds, and what it was asked meanwhile too", async () => {
  await demo.split({ stable: 90, canary: 10, next: 0 });
  const { context, page } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  await page.getByRole("slider").first().waitFor();
  demo.process.kill("SIGSTOP");
  await page.getByText("Not live.", { exact: true }).waitFor({ timeout: 6_000 });
  await page.getByText(/These numbers are from \d\d:\d\d:\d\d, \d+/).waitFor();
  assert.equal(await page.getByRole("slider").count(), 0, "what moves traffic is off");
  assert.equal(await page.getByRole("button", { name: "Stop: all to stable" }).isEnabled(), true, "but for Stop");
  demo.process.kill("SIGCONT");
  await page.getByRole("button", { name: /live, 1 s/ }).waitFor({ timeout: 20_000 });
  await page.getByRole("slider").first().waitFor();
  assert.equal(await page.locator(".stalebar").count(), 0);

  // Killed and started again: its sessions are over, and it says so by the way in.
  await demo.kill("SIGKILL");
  await page.getByText("Not live.", { exact: true }).waitFor({ timeout: 6_000 });
  await demo.run();
  await page.getByLabel("Admin key").waitFor({ timeout: 20_000 });
  await page.getByLabel("Admin key").fill(demo.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("slider").first().waitFor();
  await context.close();
});

test("a tab that was not looked at for a while asks for no frames, and shows what happened meanwhile", async () => {
  await demo.split({ stable: 90, canary: 10, next: 0 });
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/experiments/int8");
  await page.getByRole("slider").first().waitFor();
  const streams = [];
  page.on("request", (request) => request.url().includes("/live") && streams.push(request.url()));
  const look = (state) => page.evaluate((state) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => state === "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  }, state);
  await look("hidden");
  await demo.split({ stable: 70, canary: 30, next: 0 });
  await sleep(4_000);
  assert.deepEqual(streams, [], "a hidden tab asks for nothing");
  await look("visible");
  await until("it shows what is in force", async () => (await page.getByLabel("canary, percent").inputValue()) === "30", 5_000);
  assert.equal(await page.locator(".stalebar").count(), 0, "nothing was lost");
  assert.equal(streams.length, 1);
  assert.deepEqual(faults, []);
  await context.close();
});

test("paused is paused, and going on catches up", async () => {
  const { context, page, faults } = await open(chrome);
  await signIn(page, demo, demo.key, "/");
  await page.getByRole("button", { name: /live, 1 s/ }).click();
  await page.getByRole("button", { name: /paused/ }).waitFor();
  const figure = page.locator(".fig .n").first();
  const before = await figure.innerText();
  await sleep(2_500);
  assert.equal(await figure.innerText(), before);
  await page.getByRole("button", { name: /paused/ }).click();
  await page.getByRole("button", { name: /live, 1 s/ }).waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});
