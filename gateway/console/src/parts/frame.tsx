// What stands around every page: the places, whether what is shown is live, and who is signed in.
import { useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, may, me } from "../api";
import { frame, link, now, paused, setPaused, tryNow } from "../live";
import { path } from "../router";
import { useResource } from "../resource";
import { NB } from "../words/numbers";
import { clock, duration, zone } from "../words/times";
import { Time } from "./marks";

interface Place {
  to: string;
  name: string;
  needs?: string;
}

const PLACES: Place[] = [
  { to: "/", name: "Overview" },
  { to: "/experiments", name: "Experiments" },
  { to: "/requests", name: "Requests" },
  { to: "/backends", name: "Backends" },
  { to: "/audit", name: "Audit", needs: "audit:read" },
  { to: "/keys", name: "Keys", needs: "keys:manage" },
  { to: "/gateway", name: "Gateway" },
];

export function signOut(): void {
  void call("DELETE", "/session").catch(() => undefined).finally(() => {
    me.value = null;
  });
}

function Brand() {
  return (
    <a class="brand" href="/">
      <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" aria-hidden="true">
        <path d="M1.5 6h17M4 6.2V17M8 6.2V17M14.5 6.2c0 4 1.6 6.4 4 7.6M5 2.6h0M10 2.6h5" />
      </svg>
      weir
    </a>
  );
}

export function SchemeSwitch() {
  const flip = () => {
    const root = document.documentElement;
    const dark = root.dataset.scheme ? root.dataset.scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.scheme = dark ? "light" : "dark";
    try {
      localStorage.setItem("weir-scheme", root.dataset.scheme);
    } catch {
      // It holds for this page.
    }
    dispatchEvent(new Event("weir-scheme"));
  };
  return (
    <button class="theme" type="button" aria-label="Switch light and dark" onClick={flip}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.3" fill="none" stroke="currentColor" stroke-width="1.5" />
        <path d="M8 1.7a6.3 6.3 0 0 1 0 12.6z" fill="currentColor" />
      </svg>
    </button>
  );
}

function LiveState() {
  const { state } = link.value;
  const words = { connecting: "connecting", live: "live, 1 s", stale: "not live", paused: "paused" }[state];
  return (
    <button
      class={`live ${state === "live" ? "" : "off"}`}
      type="button"
      aria-pressed={paused.value}
      title={paused.value ? "Press to follow again" : "A frame a second. Press to pause"}
      onClick={() => setPaused(!paused.value)}
    >
      {words}
      <span class="sr">. {paused.value ? "Press to follow again" : "Pause updates"}</span>
    </button>
  );
}

/** Says that what is shown is old, and how old. */
function StaleBar() {
  const { state, nextTry } = link.value;
  if (state !== "stale") return null;
  const at = frame.value?.at_unix;
  const left = nextTry === null ? 0 : Math.ceil(nextTry - now.value);
  return (
    <div class="stalebar">
      <b>Not live.</b>
      <span>
        {at !== undefined && `These numbers are from ${clock(at)}, ${duration(now.value - at)} ago. `}
        {left > 0 ? `Trying again in ${left}${NB}s.` : "Trying again now."}
      </span>
      <button class="btn bare" type="button" onClick={tryNow}>Try now</button>
    </div>
  );
}

/** Tells screen readers that the connection is lost or back; the figures themselves are not announced. */
function LinkNews() {
  const [words, tell] = useState("");
  const before = useRef(link.value.state);
  useSignalEffect(() => {
    const { state } = link.value;
    if (state === "stale" && before.current === "live") tell("Not live: the gateway does not answer.");
    if (state === "live" && before.current === "stale") tell("Live again.");
    before.current = state;
  });
  return <div class="sr" role="status">{words}</div>;
}

interface Version {
  version: string;
  uptime_seconds: number;
  edge: string;
}

function Footer() {
  const status = useResource<Version>("/status").value.data;
  // Worked out when it was read: what was said then about a duration is old by now.
  const since = useMemo(() => (status ? Math.round(Date.now() / 1000 - status.uptime_seconds) : 0), [status]);
  const who = me.value;
  return (
    <footer class="foot">
      {status && <span>Weir {status.version}</span>}
      {status && <span>edge at {status.edge}, serving since <Time exact at={since} /></span>}
      <span>times are local ({zone(now.value)})</span>
      {who && (
        <span class="right">
          {who.key.name}, {who.role} · <button class="text" type="button" onClick={signOut}>sign out</button>
        </span>
      )}
    </footer>
  );
}

export function Shell({ children }: { children: ComponentChildren }) {
  const who = me.value;
  const current = (to: string) => (to === "/" ? path.value === "/" : path.value === to || path.value.startsWith(`${to}/`));
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    // Whoever follows a link with the keyboard stands at the beginning of the new page.
    if (first.current) first.current = false;
    else main.current?.focus({ preventScroll: true });
    // On a phone the place may lie outside of what is seen of the row of places.
    document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [path.value]);
  return (
    <>
      <a class="skip" href="#main">Skip to content</a>
      <header class="top">
        <Brand />
        <nav class="nav" aria-label="Main">
          {PLACES.filter((place) => place.needs === undefined || may(place.needs)).map((place) => (
            <a key={place.to} href={place.to} aria-current={current(place.to) ? "page" : undefined}>{place.name}</a>
          ))}
        </nav>
        <div class="end">
          <LiveState />
          {who && <span class="me">{who.key.name}, {who.role}</span>}
          <SchemeSwitch />
        </div>
      </header>
      <StaleBar />
      <LinkNews />
      <main class="page" id="main" ref={main} tabIndex={-1}>
        {children}
        <Footer />
      </main>
    </>
  );
}
