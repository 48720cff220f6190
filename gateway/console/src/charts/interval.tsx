// Where the ratio to control lies: a log axis from 0.5× to 6×, the same for all rows, so that lengths compare.
import type { Bounded } from "../api";
import { hue } from "../parts/marks";
import { figures } from "../words/numbers";

const LOW = 0.5;
const HIGH = 6;
export const RATIO_TICKS = [0.5, 0.7, 1, 1.5, 2, 3, 5];

/** Place of a ratio on the axis, 0..1; outside of it where the ratio is. */
export function placeOf(ratio: number): number {
  return Math.log(ratio / LOW) / Math.log(HIGH / LOW);
}

interface Props {
  at: number;
  control: string;
  ratio: Bounded;
  /** What is tolerated, as ratios: `[low, high]`, open ends as 0 and infinity. */
  fine: [number, number];
  decided: boolean;
}

export function IntervalPlot({ at, control, ratio, fine, decided }: Props) {
  const clamp = (value: number) => Math.max(0, Math.min(1, value));
  const place = (value: number) => clamp(value <= 0 ? 0 : placeOf(value)) * 1000;
  const { value, low, high } = ratio;
  // From nothing to anything says nothing.
  const known = value !== null || (low ?? 0) > 0 || high !== null;
  const [from, to] = [low ?? 0, high ?? Infinity];
  const [left, right] = [place(from), Number.isFinite(to) ? place(to) : 1000];
  const label =
    value === null
      ? known && low !== null ? `at least ${figures(low)} times ${control}` : "nothing to compare yet"
      : `${figures(value)} times ${control}, between ${figures(from)} and ${Number.isFinite(to) ? figures(to) : "any number"}`;
  const beyond = to > HIGH;
  const before = from < LOW;
  const inside = value !== null && value >= LOW && value <= HIGH;
  return (
    <div class="plot" role="img" aria-label={label}>
      <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
        <g class={hue(at)}>
          <rect class="ok" x={place(fine[0])} width={Math.max(0, (Number.isFinite(fine[1]) ? place(fine[1]) : 1000) - place(fine[0]))} y="0" height="100" />
          <line class="one" x1={place(1)} x2={place(1)} y1="-40" y2="140" />
          {known && <path class={`rng${decided ? "" : " soft"}`} d={`M${left} 50H${Math.max(right, left + 1)}`} />}
          {inside && <path class="pt" d={`M${place(value)} 50h.01`} />}
          {inside && !decided && <path class="hole" d={`M${place(value)} 50h.01`} />}
        </g>
      </svg>
      {known && beyond && <span class="tx arrow right" style={{ left: "100%" }}>{from > HIGH ? `${figures(from)}× or more ▸` : Number.isFinite(to) && to < 1000 ? `${figures(to)}× ▸` : "▸"}</span>}
      {known && before && <span class="tx arrow" style={{ left: "0%" }}>{from > 0 ? `◂ ${figures(from)}×` : "◂"}</span>}
    </div>
  );
}

export function RatioAxis() {
  return (
    <div class="plot axis">
      {RATIO_TICKS.map((tick, at) => (
        <span key={tick} class={`tx${at === 0 ? " first" : ""}`} style={{ left: `${placeOf(tick) * 100}%` }}>{tick}×</span>
      ))}
    </div>
  );
}
