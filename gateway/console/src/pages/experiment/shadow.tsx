// A shadow: what a model that no client sees would have done, beside what clients got.
import { enc } from "../../api";
import type { Bounded, Shadow } from "../../api";
import { RatioBins, type Bin } from "../../charts/ratios";
import { Now } from "../../parts/live";
import { Swatch, Tick, Time, VerdictMark } from "../../parts/marks";
import { useResource } from "../../resource";
import { NB, figures, grouped, latency, perSecond, percent, said } from "../../words/numbers";

interface Paired {
  pairs: number;
  ratio: Bounded | null;
  verdict: string;
  sign_test: { slower: number; faster: number };
  histogram: Bin[];
}

interface Comparison {
  revision: number;
  since: string;
  compare: { kind: string } | null;
  words: string;
  pairs: number;
  agreement: { value: number | null; low: number; high: number; agreed: number; pairs: number };
  differences: Record<string, number>;
  not_comparable: Record<string, number>;
  status_pairs: { live: number | null; copy: number | null; count: number }[];
  latency: { first_byte: Paired | null; first_token: Paired | null; end: Paired | null };
  failures: { only_copy: number; only_live: number; both: number; verdict: "breached" | "held" | "too_early" };
  passed?: boolean;
  to_pass?: { agreement: number; min_pairs: number; words: string };
}

/** `12 % slower (11 to 13)`, of a ratio of times. */
function slowdown(ratio: Bounded): string {
  const value = ratio.value ?? 1;
  const isSlower = value >= 1;
  const turn = (end: number) => Math.round((isSlower ? end - 1 : 1 - end) * 100);
  const [low, high] = isSlower ? [ratio.low ?? 1, ratio.high ?? 1] : [ratio.high ?? 1, ratio.low ?? 1];
  return `${Math.abs(turn(value))}${NB}% ${isSlower ? "slower" : "faster"} (${String(turn(low)).replace("-", "−")} to ${String(turn(high)).replace("-", "−")})`;
}

function cap(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Both answered well, one failed, or both: four numbers of many statuses. */
function outcomes(of: Comparison): { ok: [number, number]; failed: [number, number] } {
  const fine = (status: number | null) => status !== null && status < 400;
  const count = (live: boolean, copy: boolean) => of.status_pairs.filter((pair) => fine(pair.live) === live && fine(pair.copy) === copy).reduce((sum, pair) => sum + pair.count, 0);
  return { ok: [count(true, true), count(true, false)], failed: [count(false, true), count(false, false)] };
}

export function ShadowSection({ of, at }: { of: Shadow; at: number }) {
  const comparison = useResource<Comparison>(`/shadows/${enc(of.name)}/comparison`, 5).value.data;
  const all = of.ok + of.error;
  const { agreement } = comparison ?? {};
  const timed = comparison?.latency.first_byte ?? comparison?.latency.end ?? null;
  const table = comparison ? outcomes(comparison) : null;
  const hollow = `v${Math.min(4, at)}`;
  return (
    <section class="sub" aria-labelledby={`h-sh-${of.name}`}>
      <header><h2 id={`h-sh-${of.name}`}>Shadow <Swatch at={at} name={of.name} shadow /></h2><span class="s">{of.percent}{NB}% of requests, copied to {of.backend}; no client sees its answers</span></header>
      {comparison && agreement && comparison.pairs > 0 ? (
        <>
          <div class="pair">
            <div>
              <p><span class="key">{said(percent(agreement.value)).replace(/\u00a0?%/, "")}<span class="u">{NB}%</span></span> <span class="q">agree ({figures(agreement.low * 100, 3)} to {figures(agreement.high * 100, 3)})</span></p>
              <p class="s qq">in {grouped(agreement.pairs)} pairs, compared by {comparison.compare?.kind ?? "status"}, since <Time exact at={comparison.since} /></p>
              {table && (
                <table class="ratio">
                  <thead><tr><th scope="col">client got</th><th scope="col" class="num">copy ok</th><th scope="col" class="num">failed</th></tr></thead>
                  <tbody>
                    <tr><td>ok</td><td class="num">{grouped(table.ok[0])}</td><td class="num">{grouped(table.ok[1])}</td></tr>
                    <tr><td>failed</td><td class="num">{grouped(table.failed[0])}</td><td class="num">{grouped(table.failed[1])}</td></tr>
                  </tbody>
                </table>
              )}
            </div>
            {timed?.ratio && (
              <div>
                <p class="s q">{comparison.latency.first_byte ? "First byte" : "Whole answer"}, copy over live: <b class="ink">{slowdown(timed.ratio)}</b></p>
                <RatioBins bins={timed.histogram} pairs={timed.pairs} hue={hollow} />
              </div>
            )}
          </div>
          <p class="s more">
            {comparison.passed ? (
              <Tick><b>Passed</b>{comparison.to_pass && `: ${comparison.to_pass.words}`}</Tick>
            ) : comparison.failures.verdict === "breached" ? (
              <VerdictMark of={{ sign: "worse", word: "fails more often", sentence: `only the copy failed in ${grouped(comparison.failures.only_copy)} pairs, only the live answer in ${grouped(comparison.failures.only_live)}` }} />
            ) : (
              <VerdictMark of={{ sign: "early", word: "not passed", sentence: comparison.to_pass?.words ?? "" }} />
            )}
          </p>
        </>
      ) : (
        <dl class="facts">
          <dt>copies</dt><dd><Now of={(f) => perSecond(f.shadows[of.name]?.rate)} />, {grouped(all)} in all</dd>
          <dt>failed</dt><dd>{said(percent(all > 0 ? of.error / all : null))}</dd>
          <dt>time</dt><dd>p50 {said(latency(of.p50))}, p95 {said(latency(of.p95))}, p99 {said(latency(of.p99))}</dd>
          {comparison && <><dt>compared</dt><dd>{cap(comparison.words)}</dd></>}
        </dl>
      )}
      {of.dropped > 0 && <p class="s qq more">{grouped(of.dropped)} copies were dropped, so that no client waits.</p>}
    </section>
  );
}
