import assert from "node:assert/strict";
import { test } from "node:test";
import type { Experiment, Guardrail, Ramp, Results, Revision } from "../src/api";
import { NB } from "../src/words/numbers";
import { ofQuery, read, toQuery, write } from "../src/words/filter";
import { needs, stateOf } from "../src/pages/worst";
import { revisionWords } from "../src/pages/overview";
import { stateWords, stepsOf } from "../src/pages/experiment/ramp";
import { condition } from "../src/pages/experiment/side";
import { whole } from "../src/charts/waterfall";
import { again, discard, draft, draftOf, redraft } from "../src/pages/experiment/draft";

const plainly = (text: string) => text.replaceAll(NB, " ");

function experiment(more: Partial<Experiment> = {}): Experiment {
  return {
    name: "int8", route: "chat", owner: "api", state: "running", revision: 8, control: "stable", unit: ["header:x-user-id"], on_failure: "fail", layer: null,
    variants: { stable: { backend: "a", weight: 90, share: 0.9 }, canary: { backend: "b", weight: 10, share: 0.1 } }, order: ["stable", "canary"],
    changed_at: "2026-11-25T14:00:00Z", changed_by: "ml-team", source: "api", reason: null, ramp: null, differs_from_file: false, file_weights: {}, targets: [], defined_by: "file", file: null, set_aside: null, gateways: { in_force: 1, known: 1 }, ...more,
  };
}

test("what is looked for reads the same typed and in the address", () => {
  const typed = read(" variant:canary outcome:failed slower:500ms ");
  assert.deepEqual(typed, { filter: { variant: "canary", outcome: "failed", slower: "500ms" }, trouble: null });
  assert.equal(toQuery(typed.filter), "?variant=canary&outcome=failed&slower=500ms");
  assert.deepEqual(ofQuery(new URLSearchParams("variant=canary&nonsense=1&outcome=")), { variant: "canary" });
  assert.equal(write({ outcome: "failed", route: "chat" }), "route:chat outcome:failed");
  assert.match(read("canary").trouble ?? "", /says no kind/);
  assert.match(read("colour:red").trouble ?? "", /is no kind/);
  assert.match(read("unit:alice").trouble ?? "", /unit needs experiment/);
  assert.equal(toQuery({}), "");
});

const worse = { verdict: "worse", required: true, ratio: { value: 3.1, low: 2, high: 4.9 }, above_mark: null, margin: 0.25, needed: null, thresholds: { ceiling: null } };
function results(verdict: string, mismatch = false): Results {
  return {
    experiment: "int8", order: ["stable", "canary"], control: "stable", counts: "units", sample_ratio: { verdict: mismatch ? "mismatch" : "ok" },
    variants: { canary: { verdict, versus_control: { error_rate: worse }, error_rate: { value: 0.0094 }, metrics: {}, requests: 100, outcomes: {} } },
  } as unknown as Results;
}
const told = (of: Experiment, found: Results | null, state = "serving") => needs({ experiments: [of], results: () => found, state, status: null });

test("what needs somebody is told, the harmful first", () => {
  assert.deepEqual(told(experiment(), null), []);
  const [harm] = told(experiment(), results("worse"));
  assert.equal(harm?.kind, "harm");
  assert.equal(plainly(harm?.body ?? ""), "It fails 3.1× as often (2.0 to 4.9). No ramp watches it, so it stays until somebody moves it. 10 % of traffic is on it; 0.94 % of its requests fail.");
  const ramped = told(experiment({ ramp: { state: "running", variant: "canary", step: 1, steps: 4 } }), results("worse"));
  assert.match(ramped[0]?.body ?? "", /A ramp watches it\./);
  assert.equal(told(experiment(), results("worse", true))[0]?.body, "Verdicts are withheld until it is found why.", "what cannot be trusted blames nobody");
  const closed = experiment({ variants: { stable: { backend: "a", weight: 1, share: 1 }, canary: { backend: "b", weight: 0, share: 0 } } });
  assert.deepEqual(told(closed, results("worse")), [], "what gets no traffic does no harm");
  const both = told(experiment({ ramp: { state: "holding", variant: "canary", step: 1, steps: 4 } }), null, "draining llama");
  assert.deepEqual(both.map((need) => need.kind), ["harm", "wait", "wait"]);
});

test("the gateway's state is a text that stays the same while it does", () => {
  const backend = (serving: number) => ({ endpoints: 2, serving, ejected: 2 - serving, in_flight: 0 });
  const frame = (serving: number, draining = false) => ({ gateway: { draining }, backends: { a: backend(serving), b: backend(2) } }) as never;
  assert.equal(stateOf(frame(1)), "serving");
  assert.equal(stateOf(frame(0, true)), "draining a");
  assert.equal(stateOf(null), "serving");
});

function revision(number: number, weights: Record<string, number>, more: Partial<Revision> = {}): Revision {
  return { revision: number, state: "running", weights, source: "api", by: "ml-team", at: "", reason: null, buckets_moved: 0, undoes: null, ...more };
}

test("a revision is told by what it changed", () => {
  const order = ["stable", "canary"];
  const before = revision(7, { stable: 95, canary: 5 });
  assert.equal(revisionWords(order, revision(8, { stable: 80, canary: 20 }), before), "canary 5 → 20 %");
  assert.equal(revisionWords(order, revision(8, { stable: 95, canary: 5 }), before), "the same shares");
  assert.equal(revisionWords(order, revision(8, { stable: 95, canary: 5 }, { undoes: 7 }), before), "undo of 7");
  assert.equal(revisionWords(order, revision(8, { stable: 95, canary: 5 }, { state: "stopped" }), before), "stopped");
  assert.equal(revisionWords(order, before, revision(6, {}, { state: "stopped" })), "started again, 95 : 5");
});

function ramp(more: Partial<Ramp> = {}): Ramp {
  return {
    experiment: "int8", variant: "canary", control: "stable", state: "running", holding: null, phase: "step", step: 1, steps: [{ share: 0.05, min_time: 600, min_exposures: 2000 }, { share: 0.5, min_time: 900, min_exposures: 0 }],
    warm_up: { share: 0.01, min_time: 60, min_exposures: 50 }, verify: { share: 0.98, min_time: 1800 }, share: 0.05, revision: 8, began_at: "", since: "", step_seconds: 190, min_seconds: 600, seconds_left: 410, exposures: 242,
    min_exposures: 2000, patience: 0, cool_until: null, guardrails: [], decisions: [], ...more,
  };
}

test("the steps of a ramp are those that it was told", () => {
  const steps = stepsOf(ramp());
  assert.deepEqual(steps.map((step) => [step.key, step.place]), [["warm-up", "past"], ["step 1", "now"], ["step 2", "next"], ["verify", "next"], ["promoted", "next"]]);
  assert.equal(plainly(steps[1]!.words), "3 min 10 s of 10 min; 242 of 2,000 requests");
  assert.equal(plainly(steps[3]!.words), "30 min; 2 % stay behind");
  assert.ok(Math.abs(steps[1]!.part - 190 / 600) < 1e-9);
  assert.deepEqual(stepsOf(ramp({ warm_up: null, verify: null })).map((step) => step.key), ["step 1", "step 2", "promoted"]);
  assert.ok(stepsOf(ramp({ state: "promoted", step: 3 })).every((step) => step.place === "past"));
});

test("how a ramp stands is a sentence", () => {
  const guardrail = (metric: string, verdict: Guardrail["verdict"]) => ({ metric, verdict, required: true }) as Guardrail;
  const guardrails = [guardrail("failed", "held"), guardrail("latency_p99", "too_early")];
  assert.equal(plainly(stateWords(ramp({ guardrails }))), "Step 1 of 2. It widens to 50 % when total time p99 is held, after 10 min and 2,000 requests.");
  assert.equal(plainly(stateWords(ramp({ step: 2, guardrails: [guardrail("failed", "held")] }))), "Step 2 of 2. It goes to verification when the guardrail is held, after 10 min and 2,000 requests.");
  assert.equal(stateWords(ramp({ state: "paused" })), "Step 1 of 2, paused; still judging. Harm would still roll it back.");
  assert.equal(stateWords(ramp({ state: "holding", holding: "sample_ratio" })), "Step 1 of 2, holds: sample ratio. It neither widens nor goes back by itself.");
});

test("a target's condition is read at a glance", () => {
  assert.equal(condition({ header: { name: "x-team", value: "research" } }), "x-team: research");
  assert.equal(condition({ key: ["a", "b"] }), "key a, b");
});

test("the waits of a request are told with whom they were for", () => {
  const lanes = whole(
    [
      { phase: "authenticate", of: "gateway", begin: 0, end: 10, attempt: null },
      { phase: "attempt", of: "backend", begin: 10, end: 200, attempt: 1 },
      { phase: "retry", of: "gateway", begin: 200, end: 210, attempt: null },
      { phase: "wait", of: "backend", begin: 210, end: 900, attempt: 2 },
      { phase: "stream", of: "backend", begin: 900, end: 2000, attempt: 2 },
    ],
    [
      { attempt: 1, backend: "a", endpoint: "10.0.0.5:80", reused: false, status: null, error: "connection_reset", begin: 10, end: 200 },
      { attempt: 2, backend: "a", endpoint: "10.0.0.6:80", reused: false, status: 200, error: null, begin: 210, end: 2000 },
    ],
  );
  assert.deepEqual(lanes.map(({ name, kind, note }) => [name, kind, note]), [
    ["try 1, 10.0.0.5:80", "fail", "connection reset"],
    ["wait for first byte, try 2", "wait", undefined],
    ["stream, try 2", "stream", undefined],
  ]);
});

test("a draft stays as it was drawn, whatever others do", () => {
  const of = experiment();
  redraft(of, [8000, 2000]);
  const theirs = experiment({ revision: 9, variants: { stable: { backend: "a", weight: 1, share: 1 }, canary: { backend: "b", weight: 0, share: 0 } } });
  redraft(theirs, [7000, 3000]);
  assert.deepEqual(draftOf("int8")?.seen, { revision: 8, shares: [9000, 1000] }, "it is sent from what was seen");
  assert.equal(draftOf("other"), null);
  again(theirs, [7000, 3000], "still");
  assert.deepEqual([draft.value?.seen, draft.value?.shares, draft.value?.reason], [{ revision: 9, shares: [10_000, 0] }, [7000, 3000], "still"]);
  discard();
  assert.equal(draft.value, null);
});
