import assert from "node:assert/strict";
import { test } from "node:test";
import { line, pushApart, roundUp, ticks, widen } from "../src/charts/domain";
import { density, smooth, timeTicks } from "../src/charts/density";
import { rows } from "../src/charts/fall";
import { placeOf } from "../src/charts/interval";
import { odds } from "../src/charts/evidence";
import { Past, sliding } from "../src/past";
import type { Frame } from "../src/live";

test("axes grow by 1, 2, 5 and never shrink", () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 3, 7, 118, 501].map(roundUp), [0, 0.5, 1, 2, 5, 10, 200, 1000]);
  assert.equal(widen(0, 118), 200);
  assert.equal(widen(200, 40), 200);
  assert.equal(widen(200, 201), 500);
});

test("grid lines stand on round numbers, four at most", () => {
  assert.deepEqual(ticks(200), [100, 200]);
  assert.deepEqual(ticks(50), [25, 50]);
  assert.deepEqual(ticks(0.1), [0.05, 0.1]);
  for (const end of [0.001, 0.2, 1, 2, 5, 10, 5000]) assert.ok(ticks(end).length >= 2 && ticks(end).length <= 4, String(end));
  assert.deepEqual(ticks(0), []);
});

test("labels keep their order and their distance", () => {
  assert.deepEqual(pushApart([10, 50], 14, 0, 100), [10, 50]);
  assert.deepEqual(pushApart([50, 51, 52], 10, 0, 100), [41, 51, 61]);
  const low = pushApart([99, 99, 99], 14, 0, 100);
  assert.deepEqual(low, [72, 86, 100]);
  assert.deepEqual(pushApart([52, 50], 10, 0, 100), [56, 46], "the lower stays lower");
});

test("a gap in the data is a gap in the line", () => {
  assert.equal(line([0, 1, 2, 3], [1, 2, null, 3]), "M0 1L1 2M3 3");
  assert.equal(line([0, 1, 9], [1, 2, 3], 5), "M0 1L1 2M9 3");
});

test("a sliding mean weighs, leaves gaps and never reaches across a cut", () => {
  assert.deepEqual(sliding([1, 3, null, 5], 2), [1, 2, 3, 5]);
  assert.deepEqual(sliding([0, 1], 2, [3, 1]), [0, 0.25]);
  assert.deepEqual(sliding([0, 0, 1, 1], 4, undefined, [2]), [0, 0, 1, 1]);
});

test("after a revision the fall shows the new split at once", () => {
  const times = Array.from({ length: 40 }, (_, at) => at + 1);
  const share = (name: string) => times.map((time) => (name === "canary" ? (time > 36 ? 0.5 : 0.1) : time > 36 ? 0.5 : 0.9));
  const found = rows(["stable", "canary"], times, share, () => times.map(() => 10), 40, [36]);
  assert.deepEqual(found[0]!.map((part) => Number(part.toFixed(3))), [0.5, 0.5]);
  assert.deepEqual(found[1]!.map((part) => Number(part.toFixed(3))), [0.9, 0.1]);
  assert.equal(found[20], null, "nothing is drawn of what was not seen");
});

test("each density has area 1", () => {
  const sketch: [number, number][] = [];
  for (let at = 0; at < 100; at += 1) sketch.push([0.01 * 1.03 ** at, Math.round(1000 * Math.exp(-(((at - 50) / 15) ** 2)))]);
  const { points } = density(sketch)!;
  const area = smooth(points).reduce((sum, [, value]) => sum + value * Math.log(1.03), 0);
  assert.ok(Math.abs(area - 1) < 0.01, String(area));
  assert.equal(density([]), null);
  assert.equal(density([[1, 0], [2, 0]]), null);
});

test("a log axis has round times, and the ratio 1 its place", () => {
  assert.deepEqual(timeTicks(0.015, 0.4), [0.02, 0.05, 0.1, 0.2]);
  assert.equal(placeOf(0.5), 0);
  assert.equal(placeOf(6), 1);
  assert.ok(Math.abs(placeOf(1) - 0.2789) < 0.001);
});

test("evidence is told as odds and cut where nobody needs more", () => {
  assert.equal(odds(Math.log(9.4)), "9.4 to 1");
  assert.equal(odds(Math.log(267)), "267 to 1");
  assert.equal(odds(50), "over 400 to 1");
});

function frame(at: number, rate: number, failed: number | null = 0): Frame {
  const gateway = { rate, failed, rejected: 0, in_flight: 0, connections: 0, draining: false, revision: 1 };
  const routes = { chat: { rate, failed, rejected: 0, p50: null, p95: 0.1, p99: null, in_flight: 0 } };
  return { at: "", at_unix: at, gateway, routes, experiments: {}, shadows: {}, backends: {}, events: [] };
}

test("seconds are added up into the places of the history they continue", () => {
  const past = new Past();
  past.begin({ at_unix: [5, 10], step: 5, gateway: { rate: [1, 2] }, routes: { chat: { rate: [1, 2], p95: [null, 0.2] } } });
  past.add(frame(11, 10));
  past.add(frame(12, 20));
  assert.deepEqual(past.times, [5, 10, 12]);
  assert.deepEqual(past.column("rate"), [1, 2, 15]);
  past.add(frame(16, 30));
  assert.deepEqual(past.column("chat/rate"), [1, 2, 15, 30]);
  assert.deepEqual(past.column("nobody/rate"), [null, null, null, null]);
});

test("failures of a place weigh as much as their requests", () => {
  const past = new Past();
  past.begin({ at_unix: [], step: 5 });
  past.add(frame(11, 1, 1));
  past.add(frame(12, 99, 0));
  past.add(frame(13, 0, null));
  assert.deepEqual(past.column("failed").map((value) => Number(value!.toFixed(4))), [0.01]);
});

test("fifteen minutes are kept and no more", () => {
  const past = new Past();
  past.begin({ at_unix: [], step: 1 });
  for (let at = 1; at <= 1000; at += 1) past.add(frame(at, at));
  assert.equal(past.times.length, 900);
  assert.equal(past.column("rate").length, 900);
  assert.equal(past.column("rate").at(-1), 1000);
});
