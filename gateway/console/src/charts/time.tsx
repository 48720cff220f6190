// A number of each variant over the last minutes. Drawn by uPlot; labels stand at the ends of the lines, as
// words of the page. Axes begin at 0, grow and do not shrink while somebody watches.
import uPlot from "uplot";
import { useEffect, useRef, useState } from "preact/hooks";
import { frame, past } from "../live";
import { hue } from "../parts/marks";
import type { Column } from "../past";
import { plain } from "../words/numbers";
import { clock, minute, utc } from "../words/times";
import { largest, pushApart, ticks, widen } from "./domain";

/** Seconds that are shown. */
const SPAN = 15 * 60;
const HEIGHT = 132;
/** A line is broken where nothing was counted for so long, seconds. */
const GAP = 3;

export interface Mark {
  at: number;
  label: string;
}

interface Props {
  id: string;
  title: string;
  unit: string;
  names: readonly string[];
  /** The column of a variant, with a place for each of `past.times`. */
  column: (name: string) => Column;
  /** A number of it in words, without its unit. */
  words: (value: number) => string;
  marks: readonly Mark[];
}

const ends = new Map<string, number>();

/** Marks whose labels have room; of two that touch the newer. Newest first. */
export function readable(marks: readonly Mark[], now: number): Mark[] {
  let next = Infinity;
  return marks.filter((mark) => {
    if (mark.at <= now - SPAN || mark.at > next - SPAN / 12) return false;
    next = mark.at;
    return true;
  });
}

/** Colours as the canvas needs them: worked out by the page, in the scheme in force. */
function colours(count: number): { lines: string[]; hair: string; edge: string; text: string; ink: string } {
  const probe = document.createElement("span");
  document.body.append(probe);
  const read = (variable: string) => {
    probe.style.color = `var(${variable})`;
    return getComputedStyle(probe).color;
  };
  const lines = Array.from({ length: count }, (_, at) => read(`--${hue(at).split(" ")[0]}-line`));
  const found = { lines, hair: read("--hair"), edge: read("--edge"), text: read("--ink-3"), ink: read("--ink") };
  probe.remove();
  return found;
}

export function TimeChart({ id, title, unit, names, column, words, marks }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ column, words, marks, names });
  latest.current = { column, words, marks, names };
  const [under, setUnder] = useState<{ at: number; values: (number | null)[] } | null>(null);
  const key = `${id}\n${names.join("\n")}`;
  const now = frame.value?.at_unix ?? Date.now() / 1000;

  const data = (): uPlot.AlignedData => {
    const { times } = past;
    const from = times.findIndex((at) => at > now - SPAN);
    const start = from < 0 ? times.length : from;
    // A gap in the seconds is a gap in the lines.
    const xs: number[] = [];
    const columns: (number | null)[][] = latest.current.names.map(() => []);
    const sources = latest.current.names.map((name) => latest.current.column(name));
    for (let at = start; at < times.length; at += 1) {
      const time = times[at]!;
      if (xs.length > 0 && time - xs[xs.length - 1]! > GAP) {
        xs.push(xs[xs.length - 1]! + 1);
        columns.forEach((each) => each.push(null));
      }
      xs.push(time);
      columns.forEach((each, place) => each.push(sources[place]?.[at] ?? null));
    }
    return [xs, ...columns];
  };
  const shown = data();
  const end = widen(ends.get(id) ?? 0, largest(shown.slice(1) as (number | null)[][]));
  ends.set(id, end);

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const build = () => {
      plot.current?.destroy();
      const found = colours(names.length);
      plot.current = new uPlot(
        {
          width: Math.max(60, element.clientWidth),
          height: HEIGHT,
          padding: [6, 0, 0, 0],
          cursor: { sync: { key: "live" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
          legend: { show: false },
          scales: { x: { time: false, range: () => [(frame.peek()?.at_unix ?? Date.now() / 1000) - SPAN, frame.peek()?.at_unix ?? Date.now() / 1000] }, y: { range: () => [0, ends.get(id) || 1] } },
          axes: [
            { show: false },
            { show: false, grid: { show: true, stroke: found.hair, width: 1 }, splits: () => ticks(ends.get(id) ?? 0) },
          ],
          series: [{}, ...names.map((name, at) => ({ label: name, stroke: found.lines[at], width: 1.6, points: { show: false }, spanGaps: false }))],
          hooks: {
            drawClear: [
              (chart) => {
                // Grid and ground first, lines above them.
                const { ctx, bbox } = chart;
                ctx.save();
                ctx.lineWidth = devicePixelRatio;
                ctx.strokeStyle = found.hair;
                for (const tick of ticks(ends.get(id) ?? 0)) {
                  const y = Math.round(chart.valToPos(tick, "y", true)) + 0.5;
                  ctx.beginPath();
                  ctx.moveTo(bbox.left, y);
                  ctx.lineTo(bbox.left + bbox.width, y);
                  ctx.stroke();
                }
                ctx.strokeStyle = found.edge;
                ctx.beginPath();
                ctx.moveTo(bbox.left, bbox.top + bbox.height - 0.5);
                ctx.lineTo(bbox.left + bbox.width, bbox.top + bbox.height - 0.5);
                ctx.stroke();
                ctx.strokeStyle = found.ink;
                ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
                for (const mark of latest.current.marks) {
                  const x = Math.round(chart.valToPos(mark.at, "x", true)) + 0.5;
                  if (x < bbox.left) continue;
                  ctx.beginPath();
                  ctx.moveTo(x, bbox.top - 6 * devicePixelRatio);
                  ctx.lineTo(x, bbox.top + bbox.height);
                  ctx.stroke();
                }
                ctx.restore();
              },
            ],
            setCursor: [
              (chart) => {
                const at = chart.cursor.idx;
                const time = at === null || at === undefined || (chart.cursor.left ?? -1) < 0 ? undefined : chart.data[0][at];
                setUnder(time === undefined ? null : { at: time, values: chart.data.slice(1).map((each) => each[at!] ?? null) });
              },
            ],
          },
        },
        shown,
        element,
      );
    };
    build();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(60, element.clientWidth), height: HEIGHT }));
    observer.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", build);
    addEventListener("weir-scheme", build);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", build);
      removeEventListener("weir-scheme", build);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [key]);
  useEffect(() => {
    plot.current?.setData(shown);
  });

  const last = shown.slice(1).map((each) => {
    for (let at = each.length - 1; at >= Math.max(0, each.length - 5); at -= 1) if (each[at] !== null && each[at] !== undefined) return each[at] ?? null;
    return null;
  });
  const told = names.map((name, at) => ({ name, at, value: last[at] ?? null })).filter((each) => each.value !== null);
  const places = pushApart(told.map((each) => (1 - (each.value ?? 0) / (end || 1)) * 100), (14 / HEIGHT) * 100, 0, 100);
  const finding = told.length === 0 ? "nothing in the last 15 minutes" : told.map((each) => `${each.name} ${words(each.value ?? 0)}`).join(", ");
  const isUnder = under !== null;
  return (
    <figure class="chart">
      <div class="spread base">
        <h3 id={`${id}-title`}>{title}</h3>
        <span class="xs qq nb">{isUnder ? <time data-utc={utc(under.at)}>{clock(under.at)}</time> : unit}</span>
      </div>
      <div class="lined">
        <div class="canvas" role="img" aria-label={`${title}, ${unit}, last 15 minutes. Now: ${finding}.`} ref={box} />
        {ticks(end).concat(0).map((tick) => <span key={tick} class="tx y" style={{ top: `${(1 - tick / (end || 1)) * 100}%` }}>{plain(tick)}</span>)}
        {told.map((each, at) => (
          <span key={each.name} class="tx end" style={{ top: `${places[at]}%` }}>
            <span class={`sw ${hue(each.at)}`}>{each.name} {isUnder ? (under.values[each.at] === null || under.values[each.at] === undefined ? "–" : words(under.values[each.at]!)) : words(each.value ?? 0)}</span>
          </span>
        ))}
        {readable(marks, now).map((mark) => <span key={mark.label} class="tx box" style={{ left: `${100 - ((now - mark.at) / SPAN) * 100}%` }}>{mark.label}</span>)}
        {told.length === 0 && <p class="none s">No request in the last 15 minutes.</p>}
      </div>
      <div class="xax">
        {[15, 10, 5].map((ago, at) => <span key={ago} class={at === 0 ? "edge" : ""} style={{ left: `${(1 - ago / 15) * 100}%` }}>{minute(now - ago * 60)}</span>)}
        <span class="last" style={{ left: "100%" }}>now</span>
      </div>
      <AsTable title={title} unit={unit} names={names} data={shown} words={words} />
    </figure>
  );
}

/** The same numbers, one row a minute. */
function AsTable({ title, unit, names, data, words }: { title: string; unit: string; names: readonly string[]; data: uPlot.AlignedData; words: (value: number) => string }) {
  const [open, setOpen] = useState(false);
  const rows: { at: number; values: (number | null)[] }[] = [];
  if (open) {
    const times = data[0];
    for (let at = times.length - 1; at >= 0; at -= 60) rows.push({ at: times[at]!, values: data.slice(1).map((each) => each[at] ?? null) });
  }
  return (
    <details class="astable" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary class="xs qq">as table</summary>
      {open && (
        <table>
          <caption class="sr">{title}, {unit}</caption>
          <thead><tr><th scope="col">at</th>{names.map((name) => <th key={name} scope="col" class="num">{name}</th>)}</tr></thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.at}><td><time title={utc(row.at)}>{clock(row.at)}</time></td>{row.values.map((value, at) => <td key={names[at]} class="num">{value === null ? "–" : words(value)}</td>)}</tr>
            ))}
          </tbody>
        </table>
      )}
    </details>
  );
}
