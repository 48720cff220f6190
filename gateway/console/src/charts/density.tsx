// How long requests took: density over log time, from the sketch's own buckets, each variant to area 1.
import type { Quantiles } from "../api";
import { hue } from "../parts/marks";
import { latency, said } from "../words/numbers";
import { line, pushApart } from "./domain";

export interface Density {
  /** Middle of each bucket and its density over the logarithm of time. */
  points: [number, number][];
  from: number;
  to: number;
}

/** Buckets as `[upper edge, count]`, ascending: all but the last are as wide as each other in log time. */
export function density(sketch: readonly [number, number][]): Density | null {
  const total = sketch.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0 || sketch.length < 2) return null;
  const [first, second] = [sketch[0]!, sketch[1]!];
  const width = Math.log(second[0] / first[0]);
  const points: [number, number][] = [];
  let lower = first[0] / Math.exp(width);
  const from = lower;
  for (const [upper, count] of sketch) {
    const wide = Math.max(Math.log(upper / lower), 1e-9);
    points.push([Math.sqrt(lower * upper), count / total / wide]);
    lower = upper;
  }
  return { points, from, to: lower };
}

/** Mean over neighbours, so that a hundred buckets read as one shape; the area stays. */
export function smooth(points: readonly [number, number][], reach = 2): [number, number][] {
  return points.map(([x], at) => {
    let [sum, weight] = [0, 0];
    for (let other = at - reach; other <= at + reach; other += 1) {
      const each = reach + 1 - Math.abs(other - at);
      sum += (points[other]?.[1] ?? 0) * each;
      weight += each;
    }
    return [x, sum / weight];
  });
}

/** Round times between two. */
export function timeTicks(from: number, to: number): number[] {
  const found: number[] = [];
  for (let size = 10 ** Math.floor(Math.log10(from)); size <= to; size *= 10) {
    for (const step of [1, 2, 5]) if (step * size >= from && step * size <= to) found.push(Number((step * size).toPrecision(3)));
  }
  return found.length > 7 ? found.filter((tick) => /^[15]/.test((tick * 1e9).toPrecision(1))) : found;
}

export function DensityChart({ names, of }: { names: readonly string[]; of: (name: string) => Quantiles | undefined }) {
  const all = names
    .map((name, at) => ({ name, at, quantiles: of(name), shape: density(of(name)?.sketch ?? []) }))
    .filter((each) => each.shape !== null && each.quantiles !== undefined);
  if (all.length === 0) return <p class="q">No request was timed yet.</p>;
  const from = Math.min(...all.map((each) => each.shape!.from));
  const to = Math.max(...all.map((each) => each.shape!.to));
  const x = (seconds: number) => (Math.log(seconds / from) / Math.log(to / from)) * 1000;
  const shapes = all.map((each) => ({ ...each, points: smooth(each.shape!.points) }));
  const most = Math.max(...shapes.flatMap((each) => each.points.map(([, y]) => y)));
  const y = (value: number) => 100 - (value / most) * 92;
  // Control below, judged variants above.
  const drawn = shapes.map((each) => {
    const xs = each.points.map(([seconds]) => x(seconds));
    const ys = each.points.map(([, value]) => y(value));
    const path = line(xs, ys);
    return { ...each, path, area: `${path}L${xs.at(-1)!.toFixed(1)} 100L${xs[0]!.toFixed(1)} 100Z`, peak: xs[ys.indexOf(Math.min(...ys))]!, top: Math.min(...ys) };
  });
  const finding = all.map((each) => `${each.name}: p50 ${said(latency(each.quantiles!.p50.value))}, p95 ${said(latency(each.quantiles!.p95.value))}, p99 ${said(latency(each.quantiles!.p99.value))}`).join("; ");
  const tops = pushApart(drawn.map((each) => each.top), 10, 2, 90);
  const ticks = timeTicks(from, to);
  return (
    <>
      <div class="plot tall" role="img" aria-label={`Density of total time on a log scale. ${finding}.`}>
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          {drawn.map((each) => <path key={each.name} class={`area ${hue(each.at)}`} d={each.area} opacity={each.at === 0 ? 0.45 : 0.22} />)}
          {drawn.map((each) => <path key={each.name} class={`ln ${hue(each.at)}`} d={each.path} />)}
          <line class="base" x1="0" x2="1000" y1="100" y2="100" />
        </svg>
        {drawn.map((each, at) => (
          <span key={each.name} class="tx on peak" style={{ left: `${Math.min(88, each.peak / 10)}%`, top: `${tops[at]}%` }}><span class={`sw ${hue(each.at)}`}>{each.name}</span></span>
        ))}
      </div>
      <div class="xax">{ticks.map((tick) => <span key={tick} class={x(tick) > 930 ? "last" : x(tick) < 50 ? "edge" : ""} style={{ left: `${x(tick) / 10}%` }}>{said(latency(tick)).replace(/\.0+(?=\D)/, "").replace(/(\.\d*?)0+(?=\D)/, "$1")}</span>)}</div>
      <table class="quant">
        <thead><tr><th scope="col"><span class="sr">variant</span></th><th scope="col" class="dots"><span class="sr">on the same scale</span></th><th scope="col" class="num">p50</th><th scope="col" class="num">p95</th><th scope="col" class="num">p99</th></tr></thead>
        <tbody>
          {all.map((each) => {
            const [p50, p95, p99] = [each.quantiles!.p50.value, each.quantiles!.p95.value, each.quantiles!.p99.value];
            const places = [p50, p95, p99].filter((value) => value !== null).map((value) => x(value!));
            return (
              <tr key={each.name}>
                <td><span class={`sw ${hue(each.at)}`}>{each.name}</span></td>
                <td class="dots">
                  <div class="plot"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true"><g class={hue(each.at)}>
                    {places.length > 1 && <path class="ln" d={`M${places[0]} 50H${places.at(-1)}`} />}
                    {places.map((place) => <path key={place} class="pt" d={`M${place} 50h.01`} />)}
                  </g></svg></div>
                </td>
                <td class="num">{said(latency(p50))}</td><td class="num">{said(latency(p95))}</td><td class="num">{said(latency(p99))}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </>
  );
}
