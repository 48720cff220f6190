// Where the time of a request went, on two scales, each named: inside Weir, magnified, and the whole.
// Hollow is waiting for a backend, solid is streaming, hatched red a failed try.
import type { Attempt, Phase } from "../pages/requests/row";
import { latency, said } from "../words/numbers";
import { roundUp } from "./domain";

interface Lane {
  name: string;
  begin: number;
  end: number;
  kind: "own" | "wait" | "stream" | "fail" | "client";
  note?: string;
}

const NAMES: Record<string, string> = {
  head: "headers arrive", authenticate: "authenticate", decide: "route, body, assign", retry: "before the next try", connect: "connect", send: "send", wait: "wait for first byte",
  first_piece: "first piece", stream: "stream", attempt: "try", end: "finish",
};

/** Lanes of the whole, in order. */
export function whole(phases: readonly Phase[], attempts: readonly Attempt[]): Lane[] {
  const name = (phase: Phase) => (phase.attempt !== null && attempts.length > 1 ? `${NAMES[phase.phase] ?? phase.phase}, try ${phase.attempt}` : NAMES[phase.phase] ?? phase.phase);
  return phases.filter((phase) => phase.of !== "gateway").map((phase) => {
    const tried = attempts.find((each) => each.attempt === phase.attempt);
    const where = tried?.endpoint ?? "";
    if (phase.phase === "attempt") return { name: `try ${phase.attempt}${where === "" ? "" : `, ${where}`}`, begin: phase.begin, end: phase.end, kind: "fail", note: tried?.error?.replaceAll("_", " ") ?? "failed" };
    const kind = phase.of === "client" ? "client" : phase.phase === "stream" || phase.phase === "first_piece" ? "stream" : "wait";
    return { name: name(phase), begin: phase.begin, end: phase.end, kind };
  });
}

function Lanes({ lanes, from, to, title }: { lanes: readonly Lane[]; from: number; to: number; title: string }) {
  const x = (micros: number) => ((micros - from) / Math.max(1, to - from)) * 100;
  return (
    <>
      <span class="grp">{title}</span>
      {lanes.map((lane, at) => {
        const [left, width] = [x(lane.begin), x(lane.end) - x(lane.begin)];
        return (
          <div class="wrow" key={`${lane.name}${at}`}>
            <span>{lane.name}</span>
            <span class="lane">
              <i class={lane.kind} style={{ "--a": left, "--b": width }} />
              {lane.note !== undefined && <em style={{ "--a": Math.min(60, left + width) }}>{lane.note}</em>}
            </span>
            <span class="t">{said(latency((lane.end - lane.begin) / 1e6))}</span>
          </div>
        );
      })}
    </>
  );
}

export function Waterfall({ phases, attempts, hue }: { phases: readonly Phase[]; attempts: readonly Attempt[]; hue: string }) {
  // Inside Weir the waits of others are left out, so that its own steps follow each other.
  let at = 0;
  const inside: Lane[] = phases.filter((phase) => phase.of === "gateway").map((phase) => {
    const begin = at;
    at += phase.end - phase.begin;
    return { name: NAMES[phase.phase] ?? phase.phase, begin, end: at, kind: "own" };
  });
  const first = Math.min(0, ...phases.map((phase) => phase.begin));
  const last = Math.max(1, ...phases.map((phase) => phase.end));
  const all: Lane = { name: "Weir, all", begin: 0, end: at, kind: "own" };
  const magnified = roundUp(at);
  return (
    <div class={`wf ${hue}`} role="group" aria-label={`Waterfall: ${said(latency(last / 1e6))} in all, ${said(latency(at / 1e6))} of it inside Weir`}>
      <Lanes lanes={inside} from={0} to={magnified} title={`inside Weir, magnified: 0 to ${said(latency(magnified / 1e6))}`} />
      <Lanes lanes={[all, ...whole(phases, attempts)]} from={first} to={last} title={`the whole: 0 to ${said(latency((last - first) / 1e6))}`} />
    </div>
  );
}
