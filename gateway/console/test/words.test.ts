import assert from "node:assert/strict";
import { test } from "node:test";
import type { Compared, VariantResult } from "../src/api";
import { NB, about, bytes, counted, figures, grouped, latency, listed, perSecond, percent, plain, said, share } from "../src/words/numbers";
import { ago, clock, duration, stamp, unix, utc, zone } from "../src/words/times";
import { chance, tooEarly, verdictOf } from "../src/words/verdict";

const plainly = (text: string) => text.replaceAll(NB, " ");

test("numbers have two or three figures and a unit", () => {
  assert.deepEqual([118.4, 11.83, 0.2, 0.01, 0, 12_345].map((rate) => said(perSecond(rate))), ["118/s", "11.8/s", "0.2/s", "<0.1/s", "0/s", "12,345/s"]);
  assert.deepEqual([0, 0.00002, 0.0031, 0.125, 1].map((part) => plainly(said(percent(part)))), ["0 %", "<0.01 %", "0.31 %", "12.5 %", "100 %"]);
  assert.deepEqual([0.00038, 0.0041, 0.0412, 0.9996, 6.412, 75, null].map((time) => plainly(said(latency(time)))), ["0.38 ms", "4.1 ms", "41 ms", "1.00 s", "6.41 s", "75.0 s", "–"]);
  assert.deepEqual([8500, 1250, 3333, 1].map(share), ["85", "12.5", "33.33", "0.01"]);
  assert.deepEqual([3.1, 0.862, 12.3, 1, 9.96, 1234].map((value) => figures(value)), ["3.1", "0.86", "12", "1.0", "10", "1,234"]);
  assert.deepEqual([25, 0.5, 100, 2.5].map(plain), ["25", "0.5", "100", "2.5"]);
  assert.deepEqual([999, 2100, 9_800_000].map((count) => plainly(said(bytes(count)))), ["999 B", "2.1 KB", "9.8 MB"]);
});

test("a forecast is rounded up to two figures", () => {
  assert.deepEqual([1861, 7, 640, 12_001, 0].map(about), ["1,900", "7", "640", "13,000", "0"]);
});

test("lists and counts read as sentences", () => {
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
  assert.equal(listed(["a", "b"], "or"), "a or b");
  assert.equal(counted(1, "route"), "1 route");
  assert.equal(counted(1204, "request"), "1,204 requests");
  assert.equal(grouped(1_234_567), "1,234,567");
});

test("times are ago, then by the clock, then by the day; local, with UTC at hand", () => {
  const now = unix("2026-11-25T14:00:00.123456789Z")!;
  assert.equal(plainly(ago(now - 12, now)), "12 s ago");
  assert.equal(plainly(ago(now - 200, now)), "3 min ago");
  assert.equal(ago(now - 7200, now), "13:00:00");
  assert.equal(ago(now, now), "now");
  assert.equal(plainly(stamp(now - 86_400, now)), "Tue 15:00");
  assert.equal(plainly(stamp(now - 20 * 86_400, now)), "5 Nov 15:00");
  assert.equal(plainly(stamp(now + 1800, now)), "15:30:00");
  assert.equal(clock(now), "15:00:00");
  assert.equal(utc(now), "2026-11-25 14:00:00 UTC");
  assert.equal(zone(now), "UTC+1");
  assert.deepEqual([5, 160, 700, 7500, 90_000].map((seconds) => plainly(duration(seconds))), ["5 s", "2 min 40 s", "11 min", "2 h 5 min", "1 d 1 h"]);
  assert.equal(unix(null), null);
});

function compared(verdict: Compared["verdict"], ratio: [number | null, number | null, number | null], more: Partial<Compared> = {}): Compared {
  const [value, low, high] = ratio;
  return {
    verdict, words: "", difference: null, low: null, high: null, ratio: { value, low, high }, above_mark: null, margin: 0.25, needed: null, required: true,
    exposures: { variant: 0, control: 0 }, events: null, thresholds: { breach: 4.6, held: 3, margin: 0.25, tolerance: 0.2, floor: null, ceiling: null }, ...more,
  };
}

const of = { error_rate: { value: 0.0031, low: 0, high: 1 }, metrics: { thumbs_up: { count: 0, mean: null, low: null, high: null } }, requests: 100, outcomes: {} } as unknown as VariantResult;
const words = (key: string, each: Compared, rate: number | null = null) => {
  const { word, sentence } = verdictOf(key, each, of, "stable", rate);
  return plainly(`${word}: ${sentence}`);
};

test("verdicts are worded as the design says", () => {
  assert.equal(words("error_rate", compared("worse", [3.1, 2.02, 4.9])), "worse: fails 3.1× as often (2.0 to 4.9)");
  assert.equal(words("error_rate", compared("worse", [null, 21, null])), "worse: fails at least 21× as often");
  assert.equal(words("error_rate", compared("better", [0, 0, 0.73])), "better: fails at most 0.73× as often");
  assert.equal(words("latency_p95", compared("worse", [1.22, 1.14, 1.31])), "worse: 22 % slower (14 to 31)");
  assert.equal(words("feedback:thumbs_up", compared("worse", [0.9, 0.83, 0.97])), "worse: liked 10 % less often (3 to 17)");
  assert.equal(words("client_error", compared("no_worse", [1.01, 0.86, 1.19])), "no worse: 1.0× as often (0.86 to 1.2)");
  const ceiling = compared("no_worse", [1.0, 0.4, 2.4], { thresholds: { breach: 4.6, held: 3, margin: 0.25, tolerance: 0.2, floor: 0.002, ceiling: 0.005 } });
  assert.equal(words("error_rate", ceiling), "no worse: 0.31 % fail, under the ceiling of 0.50 %");
  assert.equal(words("latency_p50", compared("better", [0.92, 0.88, 0.97])), "better: 8 % faster (3 to 12)");
  assert.equal(words("latency_p99", compared("too_early", [1.07, 0.83, 1.41], { needed: 1861 }), 11.8), "too early: about 1,900 more requests, 2 min 37 s at this rate");
  assert.equal(words("feedback:thumbs_up", compared("too_early", [null, null, null])), "too early: nobody sends feedback");
});

test("an interval that says nothing about the ratio is not read out as if it did", () => {
  const wide = compared("worse", [1.3, 0.6, 3.0], { above_mark: { value: 1.8, low: 1.4, high: 2.3 } });
  assert.equal(words("latency_p95", wide), "worse: takes longer than stable’s p95 1.8× as often (1.4 to 2.3)");
});

test("no end in sight is said so", () => {
  assert.equal(tooEarly(1e9, 1, ""), "more than a week at this rate");
  assert.equal(plainly(tooEarly(100, 0, "")), "about 100 more requests");
  assert.equal(tooEarly(null, 1, "not decided yet"), "not decided yet");
});

test("chances are read at a glance", () => {
  assert.deepEqual([1, 0.62, 0.0123, 4e-7, 1e-30].map(chance), ["1", "0.62", "0.01", "0.0000004", "under 0.000000001"]);
});
