// What a stake of 1 has grown to: upwards the bet that the variant stays within the step's margin, downwards
// the bet that it does harm. Thresholds say when a guardrail is held, and when the ramp is rolled back.
import type { Guardrail } from "../api";
import { figures, grouped, plain } from "../words/numbers";
import { unix } from "../words/times";
import { measure } from "../words/verdict";
import { VerdictMark } from "../parts/marks";
import { line } from "./domain";

/** Beyond 400 to 1 nobody needs to know more. */
const CUT = Math.log(400);

/** `9.4 to 1`, `over 400 to 1`. */
export function odds(logE: number): string {
  const value = Math.exp(logE);
  if (value > 400) return "over 400 to 1";
  return `${value >= 100 ? grouped(value) : figures(Math.max(value, 0.001))} to 1`;
}

export function EvidenceChart({ of, at }: { of: Guardrail; at: number }) {
  const { label, note } = measure(of.metric);
  const times = of.series.map((point) => unix(point.at) ?? 0);
  const [from, to] = [times[0] ?? 0, times.at(-1) ?? 1];
  const x = (time: number) => (to > from ? ((time - from) / (to - from)) * 1000 : 1000);
  const top = Math.max(CUT, of.thresholds.held) * 1.08;
  const bottom = Math.max(CUT, of.thresholds.breach) * 1.08;
  const y = (value: number) => ((top - Math.max(-bottom, Math.min(top, value))) / (top + bottom)) * 100;
  const cut = (value: number) => Math.max(0, Math.min(CUT, value));
  const xs = times.map(x);
  const safe = line(xs, of.series.map((point) => y(cut(point.log_e_safe))));
  const harm = line(xs, of.series.map((point) => y(-cut(point.log_e_harm))));
  // Where next to nothing fails, being rare is enough, whatever the ratio is.
  const byCeiling = of.log_e_safe < of.thresholds.held && (of.log_e_below_ceiling ?? 0) >= of.thresholds.held;
  const verdict =
    of.verdict === "breached" ? { sign: "worse" as const, word: "harm shown", sentence: odds(of.log_e_harm) }
    : of.verdict === "held" ? { sign: "no_worse" as const, word: "held", sentence: byCeiling ? `under the ceiling, ${odds(of.log_e_below_ceiling ?? 0)}` : odds(of.log_e_safe) }
    : { sign: "early" as const, word: "too early", sentence: `${odds(Math.max(0, of.log_e_safe))}, needs ${plain(Math.exp(of.thresholds.held))}` };
  return (
    <figure>
      <h3>{label} <span class="qq">{note}</span></h3>
      <div class="plot" role="img" aria-label={`${label} ${note}: ${verdict.word}. For safety ${odds(of.log_e_safe)}, held from ${plain(Math.exp(of.thresholds.held))}; for harm ${odds(of.log_e_harm)}, rolled back from ${plain(Math.exp(of.thresholds.breach))}.`}>
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          <line class="thr" x1="0" x2="1000" y1={y(of.thresholds.held)} y2={y(of.thresholds.held)} />
          <line class="thr harmful" x1="0" x2="1000" y1={y(-of.thresholds.breach)} y2={y(-of.thresholds.breach)} />
          <line class="grid" x1="0" x2="1000" y1={y(0)} y2={y(0)} />
          <g class={`v${Math.min(4, at)}`}>
            <path class="ln" d={safe} />
            <path class="ln" d={harm} />
            {xs.length > 0 && <path class="pt" d={`M1000 ${y(cut(of.log_e_safe))}h.01`} />}
            {xs.length > 0 && <path class="pt" d={`M1000 ${y(-cut(of.log_e_harm))}h.01`} />}
          </g>
        </svg>
      </div>
      <VerdictMark of={verdict}>{!of.required && <span class="qq"> (only shown)</span>}</VerdictMark>
    </figure>
  );
}
