// Figures that move in place: each is a text of its own, so that a frame redraws what changed and nothing
// around it.
import { useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";
import { frame, type Frame } from "../live";
import { NB, NOTHING, type Quantity } from "../words/numbers";

/** A number of the present. */
export function Now({ of }: { of: (frame: Frame) => Quantity | undefined }) {
  const read = useRef(of);
  read.current = of;
  const told = useComputed(() => (frame.value === null ? NOTHING : read.current(frame.value) ?? NOTHING));
  const number = useComputed(() => told.value.number);
  const unit = useComputed(() => (told.value.unit === "" || told.value.unit.startsWith("/") ? told.value.unit : NB + told.value.unit));
  return (
    <>
      {number}
      <span class="u">{unit}</span>
    </>
  );
}
