// A line without axes: the last ten minutes of one number, from 0, so that noise looks like noise. Drawn
// only while it is seen.
import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { frame, past } from "../live";
import { largest, line, widen } from "./domain";

/** Ends of axes that are watched, by column. */
const ends = new Map<string, number>();

const observer = new IntersectionObserver((changes) => {
  for (const change of changes) seen.get(change.target)?.(change.isIntersecting);
});
const seen = new WeakMap<Element, (isSeen: boolean) => void>();

export function Spark({ column, span = 600 }: { column: string; span?: number }) {
  const box = useRef<HTMLSpanElement>(null);
  const wash = useRef<SVGPathElement>(null);
  const ink = useRef<SVGPathElement>(null);
  const isSeen = useRef(false);

  const draw = () => {
    if (!isSeen.current || !wash.current || !ink.current) return;
    const { times, step } = past;
    const values = past.column(column);
    // The last seconds are incomplete.
    const count = Math.max(0, times.length - (step > 1 ? 1 : 2));
    const last = times[count - 1] ?? 0;
    const end = widen(ends.get(column) ?? 0, largest([values]));
    ends.set(column, end);
    const xs = times.slice(0, count).map((at) => 1000 - ((last - at) / span) * 1000);
    const ys = values.slice(0, count).map((value) => (value === null || end === 0 ? (value === null ? null : 100) : 100 - (value / end) * 100));
    const path = line(xs, ys, ((step * 2.5) / span) * 1000);
    ink.current.setAttribute("d", path);
    // The wash needs one closed shape: gaps are on the ground.
    const low = xs.map((x, at) => `L${x.toFixed(1)} ${(ys[at] ?? 100).toFixed(1)}`).join("");
    wash.current.setAttribute("d", xs.length > 1 ? `M${xs[0]!.toFixed(1)} 100${low}L${xs.at(-1)!.toFixed(1)} 100Z` : "");
  };

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    seen.set(element, (value) => {
      isSeen.current = value;
      if (value) draw();
    });
    observer.observe(element);
    return () => observer.unobserve(element);
  }, []);
  useSignalEffect(() => {
    void frame.value;
    draw();
  });

  return (
    <span class="spark" ref={box}>
      <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
        <path class="wash" ref={wash} />
        <path ref={ink} />
      </svg>
    </span>
  );
}
