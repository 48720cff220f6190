// Takes the pictures of docs/console.md from a running demo, with its own load and story. Takes about three
// minutes: the story's. `npm run screenshots`, after `cargo build`.
import { mkdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { Demo, browser, open, sleep, until } from "./kit.mjs";

const out = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const MOST = 150 * 1024;
mkdirSync(out, { recursive: true });

const demo = await Demo.start({ story: true });
const chrome = await browser();
try {
  const { page } = await open(chrome, { width: 1280, height: 860, zone: "UTC" });
  const { page: phone } = await open(chrome, { width: 390, height: 844, scheme: "dark", zone: "UTC" });
  const enter = async (where, to) => {
    await where.goto(`${demo.url}${to}#token=${demo.key}`);
    await where.getByRole("button", { name: /live, 1 s/ }).waitFor();
  };
  const shot = async (where, name, of) => {
    const path = join(out, `console-${name}.png`);
    if (of === undefined) await where.screenshot({ path });
    else {
      const box = await where.locator(of).evaluate((element) => {
        const { x, y, width, height } = element.getBoundingClientRect();
        return { x: x + scrollX - 20, y: y + scrollY - 20, width: width + 40, height: height + 40 };
      });
      await where.screenshot({ path, fullPage: true, clip: box });
    }
    const { size } = statSync(path);
    console.log(`${name}: ${Math.round(size / 1024)} KiB`);
    if (size > MOST) throw new Error(`${path} is larger than ${MOST / 1024} KiB`);
  };
  const ramp = async () => (await demo.api("GET", "/experiments/int8")).ramp;

  await enter(page, "/experiments/int8");
  await enter(phone, "/experiments/int8");
  await until("the bad candidate is rolled back", async () => (await ramp())?.state === "rolled_back", 120_000);
  await sleep(2_500);
  await page.locator(".rolled").waitFor();
  await shot(page, "rolled-back", "section:has(> header #h-ramp)");
  await page.goto(`${demo.url}/requests?outcome=failed&variant=canary`);
  await page.locator(".reqs tbody a").first().click();
  await page.getByText(/falls into bucket/).waitFor();
  await sleep(500);
  await shot(page, "request");

  await page.goto(`${demo.url}/experiments/int8`);
  await until("the good candidate has half of the traffic", async () => {
    const { variants } = await demo.api("GET", "/experiments/int8");
    return variants.next.share >= 0.4 && variants.next.share < 0.9;
  }, 180_000);
  await sleep(4_000);
  await shot(page, "ramp", "section:has(> header #h-ramp)");
  await shot(page, "verdicts", "section:has(> header #h-v)");
  await page.getByLabel("next, percent").fill("60");
  await page.getByLabel("Reason, for the history").fill("nothing speaks against it");
  await page.evaluate(() => scrollTo(0, 0));
  await sleep(700);
  await shot(page, "split");
  await shot(phone, "phone");
  await page.keyboard.press("Escape");
  await page.goto(`${demo.url}/`);
  await page.locator(".vlist .vd").first().waitFor();
  await sleep(2_500);
  await shot(page, "overview");
} finally {
  await chrome.close();
  await demo.stop();
}
