// A shadow: what a model that no client sees would have done.
import type { Shadow } from "../../api";
import { Now } from "../../parts/live";
import { Swatch } from "../../parts/marks";
import { NB, grouped, latency, perSecond, percent, said } from "../../words/numbers";

export function ShadowSection({ of }: { of: Shadow }) {
  const all = of.ok + of.error;
  return (
    <section class="sub" aria-labelledby={`h-sh-${of.name}`}>
      <header><h2 id={`h-sh-${of.name}`}>Shadow <Swatch at={1} name={of.name} shadow /></h2><span class="s">{of.percent}{NB}% of requests, copied to {of.backend}; no client sees its answers</span></header>
      <dl class="facts">
        <dt>copies</dt><dd><Now of={(f) => perSecond(f.shadows[of.name]?.rate)} />, {grouped(all)} in all</dd>
        <dt>failed</dt><dd>{said(percent(all > 0 ? of.error / all : null))}</dd>
        <dt>time</dt><dd>p50 {said(latency(of.p50))}, p95 {said(latency(of.p95))}, p99 {said(latency(of.p99))}</dd>
        <dt>dropped</dt><dd>{of.dropped === 0 ? "none" : `${grouped(of.dropped)}, so that no client waits`}</dd>
      </dl>
    </section>
  );
}
