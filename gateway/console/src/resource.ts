// What is read from the API: fetched once for everybody who shows it, again when there is news of it, and
// from time to time where numbers move.
import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { ApiFault, get, me } from "./api";
import { epoch, frame, isStale, onNews, paused } from "./live";

export interface Held<T> {
  data: T | null;
  error: ApiFault | null;
  /** When `data` was read, milliseconds of the page; 0: not yet. */
  at: number;
}

interface Entry<T> {
  held: Signal<Held<T>>;
  users: number;
  every: number;
  abort: AbortController | null;
  /** Asked for again while it was being fetched. */
  again: boolean;
}

const entries = new Map<string, Entry<unknown>>();

function entryOf<T>(path: string): Entry<T> {
  let entry = entries.get(path) as Entry<T> | undefined;
  if (entry === undefined) {
    entry = { held: signal<Held<T>>({ data: null, error: null, at: 0 }), users: 0, every: 0, abort: null, again: false };
    entries.set(path, entry as Entry<unknown>);
  }
  return entry;
}

async function fetchEntry<T>(path: string, entry: Entry<T>): Promise<void> {
  if (entry.abort !== null) {
    entry.again = true;
    return;
  }
  const abort = new AbortController();
  entry.abort = abort;
  try {
    const data = await get<T>(path, abort.signal);
    entry.held.value = { data, error: null, at: performance.now() };
  } catch (error) {
    if (error instanceof ApiFault) entry.held.value = { ...entry.held.value, error };
  } finally {
    entry.abort = null;
    if (entry.again) {
      entry.again = false;
      void fetchEntry(path, entry);
    }
  }
}

/** Reads again whatever is shown of these paths, and of what lies below them. */
export function refresh(...above: string[]): void {
  const lies = (path: string) => above.some((each) => path === each || (path.startsWith(each) && "/?".includes(path.charAt(each.length))));
  for (const [path, entry] of entries) if (entry.users > 0 && lies(path)) void fetchEntry(path, entry);
}

/** Reads everything again. */
function refreshAll(): void {
  for (const [path, entry] of entries) if (entry.users > 0) void fetchEntry(path, entry);
}

/** Reads again one list that is shown, and nothing below it. */
export function refreshList(wanted: string): void {
  const entry = entries.get(wanted);
  if (entry !== undefined && entry.users > 0) void fetchEntry(wanted, entry);
}

/** Puts what is known already, as an answer to a change is. */
export function put<T>(path: string, change: (data: T) => T): void {
  const entry = entries.get(path) as Entry<T> | undefined;
  if (entry?.held.value.data) entry.held.value = { ...entry.held.value, data: change(entry.held.value.data) };
}

/** What `path` answers; `null` asks nothing. With `every`, again after so many seconds while it is seen. */
export function useResource<T>(path: string | null, every = 0): Signal<Held<T>> {
  const nothing = useMemo(() => signal<Held<T>>({ data: null, error: null, at: 0 }), []);
  useEffect(() => {
    if (path === null) return undefined;
    const entry = entryOf<T>(path);
    entry.users += 1;
    entry.every = every;
    // What somebody saw a moment ago is shown while it is read anew.
    void fetchEntry(path, entry);
    return () => {
      entry.users -= 1;
      if (entry.users > 0) return;
      entry.abort?.abort();
      // Kept a while: going back shows it at once.
      setTimeout(() => entry.users === 0 && entries.delete(path), 60_000);
    };
  }, [path, every]);
  return path === null ? nothing : entryOf<T>(path).held;
}

export function begin(): void {
  onNews((news) => {
    const named = new Set(news.map((each) => each.experiment).filter((name) => typeof name === "string"));
    refresh(...[...named].map((name) => `/experiments/${encodeURIComponent(name)}`), "/audit");
    if (named.size > 0) refreshList("/experiments");
    if (news.some((each) => each.kind === "reload")) {
      refreshList("/experiments");
      refresh("/routes", "/backends", "/shadows", "/status");
    }
    if (news.some((each) => each.kind === "key")) refresh("/keys");
  });
  epoch.subscribe((count) => {
    if (count > 0) refreshAll();
  });
  me.subscribe((who) => {
    if (!who) entries.clear();
  });
  setInterval(() => {
    if (document.hidden || paused.value || isStale.value || frame.value === null) return;
    for (const [path, entry] of entries) {
      const age = (performance.now() - entry.held.value.at) / 1000;
      if (entry.users > 0 && entry.every > 0 && age >= entry.every) void fetchEntry(path, entry);
    }
  }, 500);
}
