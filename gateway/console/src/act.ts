// Changing things: each change carries the revision that was seen, says what became of it, and can be taken
// back. Nothing is repeated by itself.
import { signal } from "@preact/signals";
import { ApiFault, call, enc, get, may, variantOrder } from "./api";
import type { Changed, Experiment } from "./api";
import { put, refresh, refreshList } from "./resource";
import { NB, share } from "./words/numbers";

/** The result of one's own act; stays until the next one, or a minute. */
export interface Toast {
  head: string;
  text: string;
  /** The revision that Undo takes back. */
  undo: { experiment: string; revision: number } | null;
  kind: "busy" | "done" | "failed";
}

/** Somebody else was faster. */
export interface Conflict {
  experiment: string;
  seen: { revision: number; shares: number[] };
  wanted: number[];
  names: string[];
  /** What is in force now. */
  theirs: Experiment;
  at: number;
}

export const toast = signal<Toast | null>(null);
export const conflict = signal<Conflict | null>(null);
/** An experiment whose change is under way. */
export const busy = signal<string | null>(null);
/** The last revision that this page made, for Ctrl Z. */
const own = signal<{ experiment: string; revision: number } | null>(null);

let timer: ReturnType<typeof setTimeout> | undefined;

export function tell(next: Toast | null): void {
  clearTimeout(timer);
  toast.value = next;
  if (next && next.kind !== "busy") timer = setTimeout(() => (toast.value = null), 60_000);
}

export function failed(head: string, error: unknown): void {
  const text = error instanceof ApiFault ? `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.` : "Something in this page went wrong.";
  tell({ head, text, undo: null, kind: "failed" });
}

const pathOf = (name: string) => `/experiments/${enc(name)}`;

function sharesWords(of: Experiment): string {
  const order = variantOrder(of);
  const others = order.slice(1).map((name) => `${name} ${share(Math.round((of.variants[name]?.share ?? 0) * 10_000))}${NB}%`);
  return others.join(", ");
}

/** What an answer to a change says, put before the next reading of it. */
function took(answer: Changed, since: number): void {
  put<Experiment>(pathOf(answer.name), (before) => ({ ...before, ...answer }));
  refresh(pathOf(answer.name));
  refreshList("/experiments");
  own.value = { experiment: answer.name, revision: answer.revision };
  const took = `${Math.max(1, Math.round(performance.now() - since))}${NB}ms`;
  const state = answer.state === "running" ? sharesWords(answer) : "everything goes to the route’s backend";
  const { gateways } = answer;
  const where = gateways && gateways.known > 1 ? `, ${gateways.in_force} of ${gateways.known} gateways` : "";
  const note = answer.note ? ` ${answer.note.charAt(0).toUpperCase()}${answer.note.slice(1)}.` : "";
  tell({
    head: `Revision ${answer.revision} is in force.`,
    text: `${state}, ${took}${where}.${note}`,
    undo: may("experiment:undo") ? { experiment: answer.name, revision: answer.revision } : null,
    kind: "done",
  });
}

interface Wanted {
  of: Experiment;
  /** The revision that was seen, and its shares. */
  seen: { revision: number; shares: number[] };
  names: string[];
  shares: number[];
  reason: string;
  /** The revision that is gone back to, if the draft is just that. */
  to: number | null;
}

/** Puts a draft in force. Whether it came about; if not, the draft is kept. */
export async function putInForce({ of, seen, names, shares, reason, to }: Wanted): Promise<boolean> {
  if (busy.value !== null) return false;
  busy.value = of.name;
  tell({ head: `Putting revision ${seen.revision + 1} in force…`, text: "", undo: null, kind: "busy" });
  const since = performance.now();
  const because = reason.trim() === "" ? undefined : reason.trim();
  try {
    const weights = Object.fromEntries(names.map((name, at) => [name, (shares[at] ?? 0) / 100]));
    const answer =
      to === null
        ? await call<Changed>("PUT", `${pathOf(of.name)}/weights`, { revision: seen.revision, body: { weights, reason: because } })
        : await call<Changed>("POST", `${pathOf(of.name)}/undo`, { revision: seen.revision, body: { to, reason: because } });
    took(answer, since);
    return true;
  } catch (error) {
    if (error instanceof ApiFault && error.status === 412) {
      tell(null);
      try {
        const theirs = await get<Experiment>(pathOf(of.name));
        put<Experiment>(pathOf(of.name), () => theirs);
        conflict.value = { experiment: of.name, seen, wanted: shares, names, theirs, at: Date.now() / 1000 };
      } catch (other) {
        failed("Somebody else was faster.", other);
      }
    } else {
      failed("Nothing was changed.", error);
    }
    return false;
  } finally {
    busy.value = null;
  }
}

/** Takes the newest revision back. */
export async function undo(name: string, revision: number): Promise<void> {
  if (busy.value !== null) return;
  busy.value = name;
  tell({ head: `Undoing revision ${revision}…`, text: "", undo: null, kind: "busy" });
  const since = performance.now();
  try {
    took(await call<Changed>("POST", `${pathOf(name)}/undo`, { revision, body: {} }), since);
  } catch (error) {
    if (error instanceof ApiFault && error.status === 412) {
      failed(`Revision ${revision} is not the newest any more; nothing was undone.`, error);
      refresh(pathOf(name));
    } else {
      failed("Nothing was undone.", error);
    }
  } finally {
    busy.value = null;
  }
}

/** The kill switch: always sent, whatever revision is in force, and it says whether it arrived. */
export async function stop(name: string, reason: string): Promise<boolean> {
  tell({ head: `Stopping ${name}…`, text: "", undo: null, kind: "busy" });
  const since = performance.now();
  const abort = new AbortController();
  const late = setTimeout(() => abort.abort(), 10_000);
  try {
    const body = reason.trim() === "" ? {} : { reason: reason.trim() };
    const answer = await call<Changed>("POST", `${pathOf(name)}/stop`, { body, signal: abort.signal });
    took(answer, since);
    if (answer.stored === false && answer.warning) {
      tell({ head: `${name} is stopped.`, text: `${answer.warning}.`, undo: null, kind: "failed" });
    }
    return true;
  } catch (error) {
    if (error instanceof DOMException) failed(`Stop of ${name} was sent, and no answer came within 10 s.`, new ApiFault(0, "late", "it may have arrived; look at the gateway, or send it again"));
    else failed(`Stop of ${name} did not arrive.`, error);
    return false;
  } finally {
    clearTimeout(late);
  }
}

/** Ends an experiment: everything to the route's backend, and it is over. */
export async function end(of: Experiment, reason: string): Promise<boolean> {
  if (busy.value !== null) return false;
  busy.value = of.name;
  const since = performance.now();
  const because = reason.trim() === "" ? "" : `?reason=${enc(reason.trim())}`;
  try {
    took(await call<Changed>("DELETE", `${pathOf(of.name)}${because}`, { revision: of.revision }), since);
    return true;
  } catch (error) {
    failed(error instanceof ApiFault && error.status === 412 ? "Somebody changed it meanwhile; nothing was ended." : "Nothing was ended.", error);
    refresh(pathOf(of.name));
    return false;
  } finally {
    busy.value = null;
  }
}

/** A hand on a ramp, or a new one. */
export async function ramp(name: string, hand: "start" | "pause" | "resume" | "abort" | "promote", body: Record<string, unknown>): Promise<boolean> {
  if (busy.value !== null) return false;
  busy.value = name;
  try {
    await call("POST", `${pathOf(name)}/ramp${hand === "start" ? "" : `/${hand}`}`, { body });
    const done = { start: "The ramp begins.", pause: "The ramp is paused; it goes on judging.", resume: "The ramp goes on.", abort: "The ramp was aborted.", promote: "The variant was promoted." };
    tell({ head: done[hand], text: "", undo: null, kind: "done" });
    return true;
  } catch (error) {
    failed("The ramp was not moved.", error);
    return false;
  } finally {
    busy.value = null;
    refresh(pathOf(name));
    refreshList("/experiments");
  }
}

/** Ctrl Z outside fields takes back one's own last change, as long as it is the newest. */
export function begin(): void {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
    if ((event.target as Element | null)?.closest("input, textarea, select")) return;
    const last = own.value;
    if (last === null || !may("experiment:undo")) return;
    event.preventDefault();
    void undo(last.experiment, last.revision);
  });
}
