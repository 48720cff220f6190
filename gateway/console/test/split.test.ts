import assert from "node:assert/strict";
import { test } from "node:test";
import { changeWords, drag, edge, moved, nearest, parsePercent, preview, previewWords, sharesOf, type, unitNoun } from "../src/words/split";
import { NB } from "../src/words/numbers";

const sum = (shares: readonly number[]) => shares.reduce((all, each) => all + each, 0);

test("weights become shares as the gateway rounds them", () => {
  assert.deepEqual(sharesOf([95, 5]), [9500, 500]);
  assert.deepEqual(sharesOf([1, 1, 1]), [3334, 3333, 3333], "of equal rests the earlier is first");
  assert.deepEqual(sharesOf([0.1 + 0.2, 0.7]), sharesOf([0.3, 0.7]));
  assert.deepEqual(sharesOf([100, 0]), [10_000, 0]);
  assert.deepEqual(sharesOf([0, 0]), [0, 0], "nobody serves");
  assert.deepEqual(sharesOf([1e308, 1e308]), [5000, 5000]);
  for (let at = 0; at < 500; at += 1) {
    const weights = [Math.random(), Math.random() * 10, Math.random() * 100];
    assert.equal(sum(sharesOf(weights)), 10_000, weights.join());
  }
});

test("a handle trades between its neighbours and nobody else", () => {
  assert.deepEqual(drag([8500, 1000, 500], 0, 7500), [7500, 2000, 500]);
  assert.deepEqual(drag([8500, 1000, 500], 1, 9000), [8500, 500, 1000]);
  assert.deepEqual(drag([8500, 1000, 500], 0, 99_999), [9500, 0, 500], "it stops at the next handle");
  assert.deepEqual(drag([8500, 1000, 500], 1, -1), [8500, 0, 1500]);
  assert.deepEqual(drag([8500, 1000, 500], 0, 7523, 50), [7500, 2000, 500], "the pointer moves by half percents");
});

test("a typed share takes from control and gives to it, and from nobody else", () => {
  assert.deepEqual(type([8500, 1000, 500], 1, 2000), [7500, 2000, 500]);
  assert.deepEqual(type([8500, 1000, 500], 2, 0), [9000, 1000, 0]);
  assert.deepEqual(type([8500, 1000, 500], 1, 10_000), [0, 9500, 500], "no more than there is");
});

test("of handles that stand together the one is taken that can move to the pointer's side", () => {
  assert.equal(nearest([9500, 0, 500], 9500), 1);
  assert.equal(nearest([9500, 0, 500], 9400), 0);
  assert.equal(nearest([9500, 500], 100), 0);
  assert.equal(edge([8500, 1000, 500], 1), 9500);
});

test("what was typed is a share or nothing", () => {
  const read = (text: string) => parsePercent(text);
  assert.deepEqual(["20", "20 %", "0,5", "33.33", " 7 ", "0"].map(read), [2000, 2000, 50, 3333, 700, 0]);
  assert.deepEqual(["", ".", "abc", "-1", "101", "1e2", "NaN"].map(read), [null, null, null, null, null, null, null]);
});

test("the preview says how many move, from where to where, and who stays", () => {
  const told = preview(["stable", "canary", "next"], [8500, 1000, 500], [7500, 2000, 500]);
  assert.deepEqual(told, { moved: 1000, from: ["stable"], to: ["canary"], kept: ["canary", "next"] });
  const words = previewWords(told, "user", 118);
  assert.equal(words.move, "About 1,000 of 10,000 user buckets move, from stable to canary.");
  assert.equal(words.keep, "None of them out of canary or next. At this load about 12 requests/s change sides.");
  const narrowed = previewWords(preview(["stable", "canary"], [9000, 1000], [9500, 500]), "request", 3);
  assert.equal(narrowed.move, "About 500 of 10,000 request buckets move, from canary to stable.");
  assert.equal(narrowed.keep, "At this load less than 1 request/s changes sides.");
  assert.equal(previewWords(told, "user", null).keep, "None of them out of canary or next.");
  assert.equal(moved([9000, 1000], [9000, 1000]), 0);
});

test("a change is told without control's part", () => {
  assert.equal(changeWords(["stable", "canary"], [9500, 500], [8000, 2000]), "canary 5 → 20 %");
  assert.equal(changeWords(["stable", "canary", "next"], [9000, 500, 500], [8950, 1000, 50]), "canary 5 → 10 %, next 5 → 0.5 %");
  assert.equal(changeWords(["stable", "canary"], null, [5000, 5000]), "50 : 50");
  assert.equal(changeWords(["stable", "canary"], [5000, 5000], [5000, 5000]), "");
});

test("the unit gives the noun", () => {
  const many = (unit: string[]) => unitNoun(unit).many;
  assert.deepEqual(
    [["header:x-user-id", "key"], ["request"], [], ["header:x-tenant"], ["body:conversation_id"], ["key"], ["address"], ["jwt:sub"]].map(many),
    ["users", "requests", "requests", "tenants", "conversations", "keys", "addresses", "users"],
  );
  assert.ok(NB === "\u00a0");
});
