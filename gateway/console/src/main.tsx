// The console of Weir. Start reading here: who is it, what is watched, which page.
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { may, me, whoAmI } from "./api";
import { EVERYTHING, begin as beginLive, watch } from "./live";
import { begin as beginResources } from "./resource";
import { begin as beginRouter, path } from "./router";
import { begin as beginActs } from "./act";
import { ToastPlace } from "./parts/floating";
import { Shell } from "./parts/frame";
import { SignIn, signIn, tokenOfLink } from "./pages/signin";
import { Overview } from "./pages/overview";
import { Experiments } from "./pages/experiments";
import { ExperimentPage } from "./pages/experiment";
import { Requests } from "./pages/requests";
import { Backends } from "./pages/backends";
import { Audit } from "./pages/audit";
import { Keys } from "./pages/keys";
import { Gateway } from "./pages/gateway";
import { Missing, NotForYou } from "./pages/missing";

interface Page {
  /** What the page watches: the query of `/live`. */
  live: string;
  title: string;
  body: preact.ComponentChild;
}

function page(at: string): Page {
  if (at === "/") return { live: EVERYTHING, title: "Overview", body: <Overview /> };
  if (at === "/experiments") return { live: EVERYTHING, title: "Experiments", body: <Experiments /> };
  const experiment = /^\/experiments\/([^/]+)$/.exec(at)?.[1];
  if (experiment !== undefined) {
    const name = decodeURIComponent(experiment);
    return { live: `?since=15m&experiment=${encodeURIComponent(name)}`, title: name, body: <ExperimentPage key={name} name={name} /> };
  }
  const request = /^\/requests(?:\/([^/]+))?$/.exec(at);
  if (request) return { live: EVERYTHING, title: "Requests", body: <Requests id={request[1] ?? null} /> };
  if (at === "/backends") return { live: EVERYTHING, title: "Backends", body: <Backends /> };
  if (at === "/gateway") return { live: EVERYTHING, title: "Gateway", body: <Gateway /> };
  if (at === "/audit" && may("audit:read")) return { live: EVERYTHING, title: "Audit", body: <Audit /> };
  if (at === "/keys" && may("keys:manage")) return { live: EVERYTHING, title: "Keys", body: <Keys /> };
  if (at === "/audit" || at === "/keys") return { live: EVERYTHING, title: "Not for this key", body: <NotForYou what={at.slice(1)} /> };
  return { live: EVERYTHING, title: "Nothing here", body: <Missing /> };
}

function Console() {
  const who = me.value;
  const shown = page(path.value);
  useEffect(() => {
    if (!who) return;
    watch(shown.live);
    document.title = `${shown.title} · Weir`;
  }, [who, shown.live, shown.title]);
  if (who === undefined) return null;
  if (who === null) return <SignIn />;
  return (
    <>
      <Shell>{shown.body}</Shell>
      <ToastPlace />
    </>
  );
}

/** Finds out who is signed in, for as long as the gateway does not answer. */
async function identify(): Promise<void> {
  try {
    me.value = await whoAmI();
  } catch {
    setTimeout(() => void identify(), 2_000);
  }
}

beginLive();
beginResources();
beginRouter();
beginActs();
render(<Console />, document.getElementById("console") ?? document.body);
const token = tokenOfLink();
void (token === null ? identify() : signIn(token));
// The link may also be pasted where the console is open already.
addEventListener("hashchange", () => {
  const next = tokenOfLink();
  if (next !== null) void signIn(next);
});
