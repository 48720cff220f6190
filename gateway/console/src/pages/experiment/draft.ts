// A draft of a split: kept until it is put in force or discarded, whatever others do meanwhile, and when
// the session ends too.
import { signal } from "@preact/signals";
import type { Experiment } from "../../api";
import { variantOrder } from "../../api";

export interface Draft {
  experiment: string;
  names: string[];
  /** What was in force when it was begun. */
  seen: { revision: number; shares: number[] };
  shares: number[];
  /** The revision it goes back to, as long as nothing else was moved. */
  to: number | null;
  reason: string;
}

export const draft = signal<Draft | null>(null);

export function sharesInForce(of: Experiment): number[] {
  return variantOrder(of).map((name) => Math.round((of.variants[name]?.share ?? 0) * 10_000));
}

/** The draft of this experiment, if it has one. */
export function draftOf(name: string): Draft | null {
  return draft.value?.experiment === name ? draft.value : null;
}

export function redraft(of: Experiment, shares: number[], to: number | null = null): void {
  const before = draftOf(of.name);
  const seen = before?.seen ?? { revision: of.revision, shares: sharesInForce(of) };
  draft.value = { experiment: of.name, names: variantOrder(of), seen, shares, to, reason: before?.reason ?? "" };
}

export function discard(): void {
  draft.value = null;
}

/** The same wish, seen from what is in force now. */
export function again(of: Experiment, wanted: readonly number[], reason: string): void {
  draft.value = { experiment: of.name, names: variantOrder(of), seen: { revision: of.revision, shares: sharesInForce(of) }, shares: wanted.slice(), to: null, reason };
}
