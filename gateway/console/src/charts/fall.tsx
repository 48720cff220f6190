// The fall: what really arrived, as share of requests, newest on top, directly under the bar and on its
// scale. After a change the new edge grows downwards from the bar; that is the proof that it works.
import { frame, past } from "../live";
import { hue } from "../parts/marks";
import { sliding, type Column } from "../past";
import { clock, utc } from "../words/times";

/** What is shown, and how finely; seconds. */
const SPAN = 300;
const ROW = 4;
const MEAN = 12;
const HEIGHT = 300;
/** Height of a line of words, in seconds of the picture. */
const WORDS = 20;

/** A revision and the shares it dealt. */
export interface Dealt {
  revision: number;
  at: number;
  /** Basis points, in the order of the names. */
  shares: number[];
  words: string;
}

/** For each row, newest first: the share of each variant that arrived, `null` where nothing did. */
export function rows(names: readonly string[], times: readonly number[], shareOf: (name: string) => Column, rateOf: (name: string) => Column, now: number, cutsAt: readonly number[]): (number[] | null)[] {
  const cuts = cutsAt.map((at) => times.findIndex((time) => time > at)).filter((place) => place > 0);
  const total = times.map((_, at) => names.reduce((sum, name) => sum + (rateOf(name)[at] ?? 0), 0));
  const means = names.map((name) => sliding(shareOf(name), MEAN, total.map((value) => Math.max(value, 1e-9)), cuts));
  const found: (number[] | null)[] = [];
  let place = times.length - 1;
  for (let from = 0; from < SPAN; from += ROW) {
    while (place >= 0 && (times[place] ?? 0) > now - from) place -= 1;
    const time = times[place];
    const row = time !== undefined && time > now - from - ROW ? means.map((mean) => mean[place] ?? null) : null;
    const sum = row?.reduce((all: number, value) => all + (value ?? 0), 0) ?? 0;
    found.push(row && sum > 0.01 ? row.map((value) => (value ?? 0) / sum) : null);
  }
  return found;
}

export function Fall({ experiment, names, dealt }: { experiment: string; names: readonly string[]; dealt: readonly Dealt[] }) {
  const now = frame.value?.at_unix ?? Date.now() / 1000;
  const column = (name: string, of: string) => past.column(`${experiment}/${name}/${of}`);
  const shown = rows(names, past.times, (name) => column(name, "assigned_share"), (name) => column(name, "rate"), now, dealt.map((each) => each.at));
  const y = (seconds: number) => (seconds / SPAN) * HEIGHT;

  const areas = names.map((_, at) => {
    let path = "";
    shown.forEach((row, place) => {
      if (row === null) return;
      const left = row.slice(0, at).reduce((sum, value) => sum + value, 0) * 1000;
      const width = (row[at] ?? 0) * 1000;
      if (width > 0) path += `M${left.toFixed(1)} ${y(place * ROW)}h${width.toFixed(1)}v${y(ROW)}h${(-width).toFixed(1)}z`;
    });
    return path;
  });
  // What was dealt: the edges of each revision for as long as it was in force.
  const edges = dealt
    .map((each, at) => {
      const until = dealt[at - 1]?.at ?? now;
      const [top, bottom] = [Math.max(0, now - until), Math.min(SPAN, now - each.at)];
      if (bottom <= top) return "";
      let left = 0;
      return each.shares.slice(0, -1).map((share) => {
        left += share;
        return left <= 0 || left >= 10_000 ? "" : `M${left / 10} ${y(top)}V${y(bottom)}`;
      }).join("");
    })
    .join("");
  const marks = dealt.filter((each) => now - each.at < SPAN - 4 && each.at <= now + 2 && each.revision > 1);
  // Words stand above their line, or below it at the very top. Of two that touch the newer is read.
  let taken = -Infinity;
  const told = marks.map((mark) => {
    const place = Math.max(0, now - mark.at);
    const below = place < WORDS;
    const hasRoom = (below ? place : place - WORDS) >= taken;
    taken = Math.max(taken, hasRoom && below ? place + WORDS : place);
    return { ...mark, place, below, hasRoom };
  });
  const newest = marks[0];
  const label = `Where requests really went in the last 5 minutes, newest on top.${newest ? ` Revision ${newest.revision} at ${clock(newest.at)}: ${newest.words}.` : ""}`;
  const isEmpty = shown.every((row) => row === null);
  return (
    <div class="fall" role="img" aria-label={label}>
      <svg viewBox={`0 0 1000 ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        {areas.map((path, at) => <path key={names[at]} class={`area ${hue(at)}`} d={path} />)}
        <path class="dealt" d={edges} />
      </svg>
      {told.map((mark) => (
        <div key={mark.revision} class={`rev${mark.below ? " below" : ""}`} style={{ top: `${(mark.place / SPAN) * 100}%` }} title={utc(mark.at)}>
          {mark.hasRoom && <span>{clock(mark.at)} <b>revision {mark.revision}</b>{mark.words !== "" && `, ${mark.words}`}</span>}
        </div>
      ))}
      {["now", "1 min", "2 min", "3 min", "4 min", "5 min"].map((text, at) => (
        <span key={text} class="ago" style={{ top: `${at === 0 ? 2.5 : at === 5 ? 98 : at * 20}%` }}>{text}</span>
      ))}
      {isEmpty && <p class="none s">No request has arrived in the last 5 minutes.</p>}
    </div>
  );
}
