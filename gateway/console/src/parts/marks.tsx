// The small things that everything is made of: a variant's mark and name, a bar, a verdict, a time.
import { computed } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { now } from "../live";
import type { Quantity } from "../words/numbers";
import { NB, share } from "../words/numbers";
import { ago, stamp, unix, utc } from "../words/times";
import type { Verdict } from "../words/verdict";

/** The class of the variant at a place of its experiment's order; control is first. Hues come again after
 *  five, hatched. */
export function hue(at: number): string {
  return at < 5 ? `v${at}` : `v${((at - 1) % 4) + 1} again`;
}

export function Swatch({ at, name, shadow = false }: { at: number; name: string; shadow?: boolean }) {
  return <span class={`sw ${hue(at)}${shadow ? " sh" : ""}`}>{name}</span>;
}

export function Qty({ of }: { of: Quantity }) {
  return (
    <>
      {of.number}
      {of.unit !== "" && <span class="u">{of.unit.startsWith("/") ? of.unit : `${NB}${of.unit}`}</span>}
    </>
  );
}

export interface Part {
  name: string;
  at: number;
  /** Basis points. */
  share: number;
}

export function parts(names: readonly string[], shares: readonly number[]): Part[] {
  return names.map((name, at) => ({ name, at, share: shares[at] ?? 0 }));
}

/** A split, to be read. */
export function Bar({ of, size = "", dead = false }: { of: readonly Part[]; size?: "" | "tiny"; dead?: boolean }) {
  const open = of.filter((part) => part.share > 0);
  const label = open.map((part) => `${part.name} ${share(part.share)} %`).join(", ");
  return (
    <div class={`bar ${size}${dead ? " dead" : ""}`} role="img" aria-label={label === "" ? "nothing is split" : label}>
      {open.map((part) => (
        <i key={part.name} class={hue(part.at)} style={{ "--w": part.share }} />
      ))}
    </div>
  );
}

export function SplitKey({ of, rates }: { of: readonly Part[]; rates?: (part: Part) => ComponentChildren }) {
  return (
    <div class="splitkey">
      {of.map((part) => (
        <span key={part.name}>
          <Swatch at={part.at} name={part.name} /> <b>{share(part.share)}<span class="u">{NB}%</span></b>
          {rates && <> <span class="qq">{rates(part)}</span></>}
        </span>
      ))}
    </div>
  );
}

const SIGNS = {
  worse: <path d="M6 1 11.5 11H.5z" stroke="none" />,
  no_worse: <path d="M1.5 6.5 4.8 10 10.5 2.5" fill="none" stroke-width="1.8" />,
  better: <path d="M1.5 3.8 4.8 7.3 10.5.3M1.5 8.3 4.8 11.8 10.5 4.8" fill="none" stroke-width="1.6" />,
  early: <circle cx="6" cy="6" r="4.4" fill="none" stroke-width="1.5" stroke-dasharray="2.6 2" />,
};

/** A sign, a word and a sentence: colour is never the only carrier. */
export function VerdictMark({ of, children }: { of: Pick<Verdict, "sign" | "word" | "sentence">; children?: ComponentChildren }) {
  return (
    <span class={`vd ${of.sign}`}>
      <svg viewBox="0 0 12 12" aria-hidden="true">{SIGNS[of.sign]}</svg>
      <span>
        <b>{of.word}</b>
        {of.sentence !== "" && `: ${of.sentence}`}
        {children}
      </span>
    </span>
  );
}

/** A tick before something that is as it should be. */
export function Tick({ children }: { children: ComponentChildren }) {
  return (
    <span class="vd">
      <svg viewBox="0 0 12 12" aria-hidden="true">{SIGNS.no_worse}</svg>
      <span>{children}</span>
    </span>
  );
}

/** A time: how long ago, or when; the full UTC time on hover and focus, and for whoever listens. */
export function Time({ at, exact = false }: { at: string | number | null | undefined; exact?: boolean }) {
  const seconds = typeof at === "number" ? at : unix(at);
  // A text of its own: a second that passes changes the text, if that, and nothing around it.
  const text = useMemo(() => computed(() => (seconds === null ? "–" : exact ? stamp(seconds, now.value) : ago(seconds, now.value))), [seconds, exact]);
  if (seconds === null) return <>–</>;
  return (
    <time class="when" dateTime={new Date(seconds * 1000).toISOString()} data-utc={utc(seconds)} tabIndex={0}>
      {text}
      <span class="sr">, {utc(seconds)}</span>
    </time>
  );
}

const NOTE_SIGNS = {
  harm: <><path d="M8 1.8 15 14H1z" /><path d="M8 6.2v3.6M8 11.4v1" /></>,
  wait: <><circle cx="8" cy="8" r="6.2" /><path d="M8 4.6v4.2M8 10.6v1" /></>,
  plain: <path d="M2.5 8.5 6 12l7.5-9" />,
};

export function Note({ kind, children, action }: { kind: "harm" | "wait" | "plain"; children: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class={`note ${kind}`}>
      <svg viewBox="0 0 16 16" aria-hidden="true">{NOTE_SIGNS[kind]}</svg>
      <div>{children}</div>
      {action}
    </div>
  );
}

/** Words that are on their way; nothing before 400 ms, and after 5 s what is waited for. */
export function Waiting({ what }: { what: string }) {
  return (
    <p class="waiting s qq" role="status">
      <span class="soon">Reading {what}…</span>
      <span class="late"> The gateway has not answered for more than 5{NB}s.</span>
    </p>
  );
}

/** What could not be read. */
export function Trouble({ what, message }: { what: string; message: string }) {
  return <Note kind="wait"><p><b>{what} could not be read.</b> {message}.</p></Note>;
}

export const UndoIcon = () => (
  <svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true">
    <path d="M6 2.5 2.5 6 6 9.5M2.5 6H10a3.7 3.7 0 0 1 0 7.5H6.5" />
  </svg>
);

/** Something wide that scrolls in itself; with keys too. */
export function Scroll({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="scroll" role="region" aria-label={label} tabIndex={0}>{children}</div>;
}
