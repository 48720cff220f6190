// The ramp: its steps, the evidence it goes by, and a person's hand on it.
import { useState } from "preact/hooks";
import { busy, ramp as move } from "../../act";
import { may, variantOrder } from "../../api";
import type { Experiment, Guardrail, Ramp } from "../../api";
import { EvidenceChart } from "../../charts/evidence";
import { isStale } from "../../live";
import { Time, VerdictMark } from "../../parts/marks";
import { NB, counted, figures, grouped, listed, share, shareOf } from "../../words/numbers";
import { duration } from "../../words/times";
import { measure } from "../../words/verdict";

const OVER = ["promoted", "rolled_back", "aborted"];

interface StepShown {
  key: string;
  share: number;
  name: string;
  words: string;
  place: "past" | "now" | "next";
  /** How far it has come, 0..1: the share of the least time that is served. */
  part: number;
}

/** The phases of a ramp in their order, as they are drawn. */
export function stepsOf(of: Ramp): StepShown[] {
  const last = of.steps.length + 1;
  const over = OVER.includes(of.state);
  const done = of.state === "promoted";
  const place = (number: number): StepShown["place"] => (done || number < of.step ? "past" : number === of.step && !over ? "now" : number === of.step ? "past" : "next");
  const least = (time: number, exposures: number) => `${duration(time)}${exposures > 0 ? `, ${grouped(exposures)} requests` : ""}`;
  const now = `${duration(of.step_seconds)}${of.min_seconds > 0 ? ` of ${duration(of.min_seconds)}` : ""}${of.min_exposures > 0 ? `; ${grouped(of.exposures)} of ${grouped(of.min_exposures)} requests` : ""}`;
  const part = of.min_seconds > 0 ? Math.min(1, of.step_seconds / of.min_seconds) : 1;
  const shown: StepShown[] = of.steps.map((step, at) => ({
    key: `step ${at + 1}`,
    share: step.share,
    name: `step ${at + 1}${place(at + 1) === "now" ? ", now" : ""}`,
    words: place(at + 1) === "now" ? now : place(at + 1) === "past" ? "held" : least(step.min_time, step.min_exposures),
    place: place(at + 1),
    part,
  }));
  if (of.warm_up) {
    shown.unshift({
      key: "warm-up", share: of.warm_up.share, name: `warm-up${place(0) === "now" ? ", now" : ""}`,
      words: place(0) === "now" ? now : place(0) === "past" ? "done" : least(of.warm_up.min_time, of.warm_up.min_exposures), place: place(0), part,
    });
  }
  if (of.verify) {
    const words = place(last) === "now" ? now : place(last) === "past" ? "done" : `${duration(of.verify.min_time)}; ${share(Math.round((1 - of.verify.share) * 10_000))}${NB}% stay behind`;
    shown.push({ key: "verify", share: of.verify.share, name: `verification${place(last) === "now" ? ", now" : ""}`, words, place: place(last), part });
  }
  shown.push({ key: "promoted", share: 1, name: "promoted", words: `${of.control} gets nothing more`, place: done ? "past" : "next", part: 0 });
  return shown;
}

/** How the ramp stands, in a sentence. */
export function stateWords(of: Ramp): string {
  const open = of.guardrails.filter((each) => each.required && each.verdict !== "held");
  const step = of.step === 0 ? "Warm-up" : of.step > of.steps.length ? "Verification" : `Step ${of.step} of ${of.steps.length}`;
  const next = of.steps[of.step];
  switch (of.state) {
    case "running": {
      if (of.step > of.steps.length) return `${step}. After ${duration(of.seconds_left)} more ${of.variant} is promoted, unless something speaks against it.`;
      const to = next ? `It widens to ${shareOf(next.share)}` : "It goes to verification";
      if (of.step === 0) return `${step}. ${to} after ${duration(of.min_seconds)}; a cold variant may be slow, but not fail.`;
      const required = of.guardrails.filter((each) => each.required).length;
      const what = open.length === 0 ? (required === 1 ? "the guardrail is held" : `all ${required} guardrails are held`) : `${listed(open.map(named))} ${open.length === 1 ? "is" : "are"} held`;
      return `${step}. ${to} when ${what}, after ${duration(of.min_seconds)}${of.min_exposures > 0 ? ` and ${grouped(of.min_exposures)} requests` : ""}.`;
    }
    case "holding":
      return `${step}, holds${of.holding ? `: ${of.holding.replaceAll("_", " ")}` : ""}. It neither widens nor goes back by itself.`;
    case "paused":
      return `${step}, paused; still judging. Harm would still roll it back.`;
    case "promoted":
      return `${of.variant} was promoted.`;
    case "rolled_back":
      return `${of.variant} was rolled back.`;
    default:
      return "Aborted.";
  }
}

function named(each: Guardrail): string {
  const { label, note } = measure(each.metric);
  return `${label.toLowerCase()}${note.startsWith("p") ? ` ${note}` : ""}`;
}

function RolledBack({ of }: { of: Ramp }) {
  const decision = of.decisions.find((each) => each.action === "roll_back");
  if (of.state !== "rolled_back" || !decision) return null;
  const breached = decision.evidence.guardrails.filter((each) => each.verdict === "breached");
  return (
    <div class="rolled">
      <VerdictMark of={{ sign: "worse", word: `${of.variant} was rolled back`, sentence: "" }}> <Time exact at={decision.at} />, {duration(decision.evidence.step_seconds)} into {of.step === 0 ? "warm-up" : `step ${of.step}`}.</VerdictMark>
      <p class="q">
        {cap(decision.words)}.{" "}
        {breached.map((each) =>
          each.events ? `Tolerated is ${figures(1 + each.thresholds.tolerance)}×. ` : "",
        )}
        {of.cool_until && <>It may be tried again <Time exact at={of.cool_until} />.</>}
      </p>
    </div>
  );
}

function cap(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

type Hand = "pause" | "resume" | "abort" | "promote";

const HANDS: Record<Hand, { words: string; effect: (of: Ramp) => string; bad?: boolean }> = {
  pause: { words: "Pause", effect: () => "The share is frozen; a breach still rolls it back." },
  resume: { words: "Resume", effect: (of) => (of.holding === "sample_ratio" ? "It goes on, and the mismatch of the sample ratio is thereby accepted." : "It goes on from where it stands.") },
  abort: { words: "Abort…", effect: (of) => `No more traffic to ${of.variant}, and the ramp is over.`, bad: true },
  promote: { words: "Promote…", effect: (of) => `All traffic to ${of.variant}, whatever the evidence says, and the ramp is over.` },
};

function Hands({ of, name }: { of: Ramp; name: string }) {
  const [open, setOpen] = useState<Hand | null>(null);
  const [reason, setReason] = useState("");
  if (!may("experiment:ramp") || OVER.includes(of.state)) return null;
  const off = busy.value !== null || isStale.value;
  const hands: Hand[] = of.state === "running" ? ["pause", "abort", "promote"] : ["resume", "abort", "promote"];
  const send = async (hand: Hand) => {
    const body = reason.trim() === "" ? {} : { reason: reason.trim() };
    if (await move(name, hand, body)) {
      setOpen(null);
      setReason("");
    }
  };
  return (
    <>
      <span class="row right">
        {hands.map((hand) => (
          <button key={hand} class="btn" type="button" disabled={off} aria-expanded={HANDS[hand].words.endsWith("…") ? open === hand : undefined} onClick={() => (HANDS[hand].words.endsWith("…") ? setOpen(open === hand ? null : hand) : void send(hand))}>
            {HANDS[hand].words}
          </button>
        ))}
      </span>
      {open && (
        <form
          class="asks"
          onSubmit={(event) => {
            event.preventDefault();
            void send(open);
          }}
        >
          <p>{HANDS[open].effect(of)}</p>
          <label class="lab" for="ramp-why">Reason, for the history</label>
          <input class="field" id="ramp-why" maxLength={300} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
          <div class="act">
            <button class={`btn ${HANDS[open].bad ? "bad" : "go"}`} type="submit" disabled={off}>{HANDS[open].words.replace("…", "")} the ramp</button>
            <button class="btn bare" type="button" onClick={() => setOpen(null)}>Not now</button>
          </div>
        </form>
      )}
    </>
  );
}

function Start({ of, before }: { of: Experiment; before: Ramp | null }) {
  const others = variantOrder(of).slice(1);
  const [open, setOpen] = useState(false);
  const [variant, setVariant] = useState(before?.variant ?? others[0] ?? "");
  const [reason, setReason] = useState("");
  if (!may("experiment:ramp") || of.state !== "running" || others.length === 0) return null;
  const off = busy.value !== null || isStale.value;
  const send = async (event: Event) => {
    event.preventDefault();
    const body: Record<string, unknown> = { variant };
    if (reason.trim() !== "") body.reason = reason.trim();
    if (await move(of.name, "start", body)) setOpen(false);
  };
  if (!open) return <button class="btn" type="button" disabled={off} onClick={() => setOpen(true)}>{before ? "Ramp again…" : "Start a ramp…"}</button>;
  return (
    <form class="asks" onSubmit={(event) => void send(event)}>
      <p>{variant} gets more and more traffic for as long as nothing speaks against it, and none once something does: 1{NB}%, 5, 25, 50, 98, then all. That takes an hour and a half at least.</p>
      {others.length > 1 && (
        <>
          <label class="lab" for="ramp-variant">Variant</label>
          <select class="field" id="ramp-variant" value={variant} onChange={(event) => setVariant(event.currentTarget.value)}>
            {others.map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        </>
      )}
      <label class="lab" for="ramp-why">Reason, for the history</label>
      <input class="field" id="ramp-why" maxLength={300} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      <div class="act">
        <button class="btn go" type="submit" disabled={off}>Start the ramp of {variant}</button>
        <button class="btn bare" type="button" onClick={() => setOpen(false)}>Not now</button>
      </div>
      <p class="s qq">Other steps and guardrails: <code>weir ramp start {of.name} --settings ramp.json</code></p>
    </form>
  );
}

export function RampSection({ of, ramp }: { of: Experiment; ramp: Ramp | null }) {
  if (ramp === null) {
    if (of.state !== "running" || of.order.length < 2) return null;
    return (
      <section class="sec" aria-labelledby="h-ramp">
        <header><h2 id="h-ramp">Ramp</h2><span class="s">none; the split stays as it is until somebody moves it</span></header>
        <Start of={of} before={null} />
      </section>
    );
  }
  const at = Math.max(1, variantOrder(of).indexOf(ramp.variant));
  const steps = stepsOf(ramp);
  const over = OVER.includes(ramp.state);
  return (
    <section class="sec" aria-labelledby="h-ramp">
      <header>
        <h2 id="h-ramp">Ramp of {ramp.variant}</h2>
        <span class="s">{stateWords(ramp)}</span>
        <Hands of={ramp} name={of.name} />
      </header>
      <RolledBack of={ramp} />
      {!over && (
        <ol class={`steps v${Math.min(4, at)}`} style={{ "--n": steps.length }}>
          {steps.map((step) => (
            <li key={step.key} class={step.place} aria-current={step.place === "now" ? "step" : undefined}>
              <div class="lift" style={{ "--y": `${Math.max(4, step.share * 78)}px`, "--x": `${Math.max(2, step.share * 100)}%`, "--p": `${step.part * 100}%` }}><i /></div>
              <div class="cap"><b>{share(Math.round(step.share * 10_000))}<span class="u">{NB}%</span></b> <span class="q">{step.name}</span><br /><span class="qq">{step.words}</span></div>
            </li>
          ))}
        </ol>
      )}
      {ramp.guardrails.length > 0 && (
        <>
          <div class="row evidence-head">
            <h3>Evidence</h3>
            <span class="s q">what a stake of 1 has grown to: upwards, the bet that {ramp.variant} stays within this step’s margin; downwards, the bet that it does harm. Looking often costs nothing.</span>
          </div>
          <div class="evid">{ramp.guardrails.map((each) => <EvidenceChart key={each.metric} of={each} at={at} />)}</div>
        </>
      )}
      {ramp.decisions.length > 0 && (
        <details class="decisions">
          <summary class="s q">{counted(ramp.decisions.length, "decision")}</summary>
          <ol>{ramp.decisions.map((each) => <li key={`${each.at}${each.action}`}><span class="qq"><Time exact at={each.at} /></span> {cap(each.words)}</li>)}</ol>
        </details>
      )}
      {over && <Start of={of} before={ramp} />}
    </section>
  );
}
