// What happens now: one stream of the gateway, a frame a second, for as long as somebody looks.
//
// The stream is closed while the tab is hidden or updates are paused, and asked for again afterwards, with
// the history that was missed. A view says what it wants to see; everything that is drawn reads the signals
// below and nothing else.
import { computed, signal } from "@preact/signals";
import { me, whoAmI } from "./api";
import { Past, type History } from "./past";

export interface VariantNow {
  weight: number;
  share: number;
  assigned_share: number | null;
  rate: number;
  failed: number | null;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  first_byte_p95: number | null;
}

export interface ExperimentNow {
  revision: number;
  state: "running" | "stopped" | "ended";
  variants: Record<string, VariantNow>;
  ramp: null | { variant: string; state: string; step: number; steps: number; share: number | null };
}

export interface RouteNow {
  rate: number;
  failed: number | null;
  rejected: number;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  in_flight: number;
}

export interface News {
  kind: string;
  at: string;
  experiment?: string | null;
  revision?: number | null;
  by?: string | null;
  reason?: string | null;
  words?: string | null;
}

export interface Frame {
  at: string;
  at_unix: number;
  gateway: {
    rate: number;
    failed: number | null;
    rejected: number;
    in_flight: number;
    connections: number;
    draining: boolean;
    revision: number;
  };
  routes: Record<string, RouteNow>;
  experiments: Record<string, ExperimentNow>;
  shadows: Record<string, { rate: number; failed: number | null; dropped: number }>;
  backends: Record<string, { endpoints: number; serving: number; ejected: number; in_flight: number }>;
  events: News[];
}

export interface Link {
  state: "connecting" | "live" | "stale" | "paused";
  /** When another try is made, seconds since 1970; while it runs, `null`. */
  nextTry: number | null;
}

/** What most pages watch: everything, and ten minutes of it in places of five seconds. */
export const EVERYTHING = "?since=10m&step=5";

/** No frame for so long: what is shown is not live. */
const STALE_AFTER = 3_000;
/** Waits between tries, seconds. */
const WAITS = [1, 2, 4, 8, 10];

export const frame = signal<Frame | null>(null);
export const link = signal<Link>({ state: "connecting", nextTry: null });
export const paused = signal(false);
/** The present, seconds since 1970; moves once a second while the page is seen. */
export const now = signal(Date.now() / 1000);
/** Rises when everything must be read again: after the connection was lost and is back. */
export const epoch = signal(0);
/** The last minutes of what the view watches. */
export const past = new Past();
export const isLive = computed(() => link.value.state === "live");
/** Whether what is shown is old, and not because somebody wanted it so. */
export const isStale = computed(() => link.value.state === "stale");

type Heard = (news: News[]) => void;
const listeners = new Set<Heard>();

/** Calls `heard` with what happened, as it happens. Returns how to stop. */
export function onNews(heard: Heard): () => void {
  listeners.add(heard);
  return () => listeners.delete(heard);
}

let query = "";
let source: EventSource | null = null;
let lastFrame = 0;
let tries = 0;
/** Nobody looked for a while: what was read before may be old. */
let wasAway = false;
let timer: ReturnType<typeof setTimeout> | undefined;
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

/** What a view watches: the query of `/live`. The same again changes nothing. */
export function watch(wanted: string): void {
  if (wanted === query && source !== null) return;
  query = wanted;
  past.clear();
  open();
}

function close(): void {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function open(): void {
  close();
  if (!me.value || document.hidden || paused.value || query === "") return;
  if (link.value.state === "paused") link.value = { state: "connecting", nextTry: null };
  else link.value = { ...link.value, nextTry: null };
  const stream = new EventSource(`/api/v1/live${query}`);
  source = stream;
  // It gets as long for its first frame as for every other.
  lastFrame = performance.now();
  stream.addEventListener("history", (event) => {
    const history = JSON.parse(event.data as string) as History;
    past.begin(history);
    if (history.events?.length) listeners.forEach((heard) => heard(history.events ?? []));
  });
  stream.addEventListener("frame", (event) => {
    if (source === stream) take(JSON.parse(event.data as string) as Frame);
  });
  stream.onerror = () => {
    if (source === stream) void lost();
  };
  // A gateway that stands still accepts connections and says nothing.
  timer = setTimeout(() => {
    if (source === stream && performance.now() - lastFrame > STALE_AFTER) void lost();
  }, 8_000);
}

function take(next: Frame): void {
  lastFrame = performance.now();
  tries = 0;
  clearTimeout(timer);
  past.add(next);
  now.value = Date.now() / 1000;
  if (link.value.state === "stale" || wasAway) epoch.value += 1;
  wasAway = false;
  if (link.value.state !== "live") link.value = { state: "live", nextTry: null };
  // Whoever asked for less motion gets a picture every five seconds.
  if (!reduced.matches || frame.value === null || next.at_unix % 5 === 0) frame.value = next;
  if (next.events.length > 0) listeners.forEach((heard) => heard(next.events));
}

async function lost(): Promise<void> {
  close();
  const wait = WAITS[Math.min(tries, WAITS.length - 1)] ?? 10;
  tries += 1;
  const stale = frame.value !== null || tries > 1;
  link.value = { state: stale ? "stale" : "connecting", nextTry: Date.now() / 1000 + wait };
  timer = setTimeout(open, wait * 1000);
  try {
    // The stream does not say why it ended; this does, and signs out who is not signed in any more.
    if ((await whoAmI()) === null) me.value = null;
  } catch {
    // It does not answer either: the next try comes.
  }
}

/** Tries again at once. */
export function tryNow(): void {
  tries = 0;
  open();
}

export function setPaused(value: boolean): void {
  paused.value = value;
  if (value) {
    wasAway = true;
    close();
    link.value = { state: "paused", nextTry: null };
  } else {
    open();
  }
}

/** Begins to watch over the page: its visibility, who is signed in, and the age of the last frame. */
export function begin(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      wasAway = true;
      close();
    } else if (!paused.value && query !== "") open();
  });
  me.subscribe((who) => {
    if (who) {
      if (source === null && query !== "") open();
    } else {
      close();
      frame.value = null;
      past.clear();
      link.value = { state: "connecting", nextTry: null };
    }
  });
  setInterval(() => {
    if (document.hidden) return;
    now.value = Date.now() / 1000;
    const silent = performance.now() - lastFrame > STALE_AFTER;
    if (link.value.state === "live" && silent) {
      link.value = { state: "stale", nextTry: null };
      void lost();
    }
  }, 1_000);
}
