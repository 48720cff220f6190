// How long a copy took over what the client got, pair by pair: bins of ratios on a log axis, 1× in the
// middle. Paler where the copy was slower.
import { counted } from "../words/numbers";

export interface Bin {
  from: number | null;
  to: number | null;
  count: number;
}

const TICKS = [0.25, 0.5, 1, 2, 4];
const place = (ratio: number) => ((Math.log2(ratio) + 2.25) / 4.5) * 1000;

export function RatioBins({ bins, pairs, hue }: { bins: readonly Bin[]; pairs: number; hue: string }) {
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const slower = bins.filter((bin) => (bin.from ?? 0) >= 1).reduce((sum, bin) => sum + bin.count, 0);
  return (
    <>
      <div class="plot ratios" role="img" aria-label={`Times of copies over live answers in ${counted(pairs, "pair")}; ${counted(slower, "copy was", "copies were")} slower`}>
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          {bins.map((bin, at) => {
            const [left, right] = [place(bin.from ?? 2 ** -2.25), place(bin.to ?? 2 ** 2.25)];
            const high = (bin.count / most) * 96;
            return <rect key={at} class={`area ${hue}`} x={left + 1} width={Math.max(0, right - left - 2)} y={100 - high} height={high} opacity={(bin.from ?? 0) >= 1 ? 0.5 : 0.95} />;
          })}
          <line class="base" x1="0" x2="1000" y1="100" y2="100" />
          <line class="mark" x1={place(1)} x2={place(1)} y1="-6" y2="100" />
        </svg>
      </div>
      <div class="xax">{TICKS.map((tick) => <span key={tick} style={{ left: `${place(tick) / 10}%` }}>{tick === 1 ? "same" : `${tick}×`}</span>)}</div>
    </>
  );
}
