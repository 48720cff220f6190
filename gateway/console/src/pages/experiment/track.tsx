// The bar with its handles: the instrument. What is dragged, typed or moved by keys here is a draft.
import { useEffect, useRef, useState } from "preact/hooks";
import { hue, Swatch } from "../../parts/marks";
import { NB, share } from "../../words/numbers";
import { drag, edge, nearest, moved } from "../../words/split";

/** The pointer moves by half percents; keys and fields are finer. */
const POINTER_STEP = 50;
/** Half the width in which a handle can be taken, pixels. */
const REACH = 22;

interface Props {
  names: readonly string[];
  /** In force, and drafted: the same if there is no draft. */
  live: readonly number[];
  shares: readonly number[];
  /** Handles are drawn only for whoever may move them. */
  canMove: boolean;
  onMove: (shares: number[]) => void;
  /** The drag is over, or a key was pressed some time ago: the preview may be told. */
  onSettle: () => void;
}

/** Where labels begin, in pixels: where their segment does, leaning left where there is no room. */
function places(widths: readonly number[], wanted: readonly number[], room: number): number[] {
  const found = wanted.slice();
  for (let at = found.length - 1; at >= 0; at -= 1) {
    const next = at === found.length - 1 ? room + 12 : found[at + 1] ?? room;
    found[at] = Math.min(found[at] ?? 0, next - (widths[at] ?? 0) - 12);
  }
  for (let at = 0; at < found.length; at += 1) {
    const before = at === 0 ? 0 : (found[at - 1] ?? 0) + (widths[at - 1] ?? 0) + 12;
    found[at] = Math.max(found[at] ?? 0, before);
  }
  return found;
}

export function Track({ names, live, shares, canMove, onMove, onSettle }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const handles = useRef<(HTMLDivElement | null)[]>([]);
  const taken = useRef<number | null>(null);
  const [on, setOn] = useState<number | null>(null);
  const [width, setWidth] = useState(680);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const placeOf = (event: PointerEvent) => {
    const { left, width: wide } = box.current!.getBoundingClientRect();
    return ((event.clientX - left) / wide) * 10_000;
  };
  const take = (event: PointerEvent) => {
    if (!canMove || event.button !== 0) return;
    const place = placeOf(event);
    const at = nearest(shares, place);
    if ((Math.abs(edge(shares, at) - place) / 10_000) * width > REACH) return;
    taken.current = at;
    setOn(at);
    box.current?.setPointerCapture(event.pointerId);
    handles.current[at]?.focus({ preventScroll: true });
    event.preventDefault();
  };
  const move = (event: PointerEvent) => {
    if (taken.current === null) return;
    onMove(drag(shares, taken.current, placeOf(event), POINTER_STEP));
  };
  const leave = () => {
    if (taken.current === null) return;
    taken.current = null;
    setOn(null);
    onSettle();
  };
  const key = (at: number) => (event: KeyboardEvent) => {
    const fine = event.shiftKey ? 10 : 100;
    const by: Record<string, number> = { ArrowLeft: -fine, ArrowDown: -fine, ArrowRight: fine, ArrowUp: fine, PageDown: -1_000, PageUp: 1_000, Home: -10_000, End: 10_000 };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    onMove(drag(shares, at, edge(shares, at) + step));
    onSettle();
  };

  const percent = (at: number) => `${share(shares[at] ?? 0)}${NB}%`;
  const widths = names.map((name, at) => Math.max(name.length * 7.4 + 16, share(shares[at] ?? 0).length * 13 + 22));
  const wanted = names.map((_, at) => ((at === 0 ? 0 : edge(shares, at - 1)) / 10_000) * width);
  const labels = places(widths, wanted, width);
  const changes = moved(live, shares) > 0;
  return (
    <>
      <div class="heads" aria-hidden="true">
        {names.map((name, at) => (
          <div key={name} style={{ left: `${labels[at]}px` }}>
            <Swatch at={at} name={name} />
            <br />
            <b>{share(shares[at] ?? 0)}<span class="u">{NB}%</span></b>
          </div>
        ))}
      </div>
      <div
        class={`track${canMove ? " can" : ""}`}
        ref={box}
        onPointerDown={take}
        onPointerMove={move}
        onPointerUp={leave}
        onPointerCancel={leave}
        onLostPointerCapture={leave}
        role="group"
        aria-label={`Split: ${names.map((name, at) => `${name} ${share(shares[at] ?? 0)} %`).join(", ")}`}
      >
        {names.map((name, at) => <div key={name} class={`seg ${hue(at)}`} style={{ width: `${(shares[at] ?? 0) / 100}%` }} />)}
        {changes &&
          names.slice(1).map((name, at) => {
            const [from, to] = [edge(live, at), edge(shares, at)];
            return <i key={name} class="was" style={{ left: `${Math.min(from, to) / 100}%`, width: `${Math.abs(from - to) / 100}%` }} />;
          })}
        {canMove &&
          names.slice(1).map((name, at) => (
            <div
              key={name}
              class="handle"
              role="slider"
              tabIndex={0}
              data-on={on === at ? "" : undefined}
              ref={(element) => {
                handles.current[at] = element;
              }}
              style={{ left: `${edge(shares, at) / 100}%` }}
              aria-label={`Between ${names[at]} and ${name}`}
              aria-valuemin={(at === 0 ? 0 : edge(shares, at - 1)) / 100}
              aria-valuemax={edge(shares, at + 1) / 100}
              aria-valuenow={edge(shares, at) / 100}
              aria-valuetext={`${names[at]} ${percent(at)}, ${name} ${percent(at + 1)}`}
              onKeyDown={key(at)}
            />
          ))}
      </div>
    </>
  );
}
