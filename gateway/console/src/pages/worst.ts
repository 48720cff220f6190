// What needs somebody: the worst first. The overview has room for one.
import type { Experiment, Results } from "../api";
import type { Frame } from "../live";
import { listed, percent, said, shareOf } from "../words/numbers";
import { overall } from "../words/verdict";

export interface Need {
  kind: "harm" | "wait";
  head: string;
  body: string;
  /** Where to look. */
  to: string;
  action: string;
}

interface Known {
  experiments: readonly Experiment[];
  results: (name: string) => Results | null;
  /** As `stateOf` has it. */
  state: string;
  status: { config: { last_error: string | null }; store: { up: boolean; last_error: string | null } } | null;
}

const at = (name: string) => `/experiments/${encodeURIComponent(name)}`;

/** What a frame says of the gateway itself, as one text: the names of backends that nobody serves, and
 *  whether it drains. */
export function stateOf(frame: Frame | null): string {
  const down = Object.entries(frame?.backends ?? {}).filter(([, backend]) => backend.endpoints > 0 && backend.serving === 0);
  return `${frame?.gateway.draining === true ? "draining" : "serving"} ${down.map(([name]) => name).join(" ")}`.trim();
}

export function needs({ experiments, results, state, status }: Known): Need[] {
  const harm: Need[] = [];
  const wait: Need[] = [];
  for (const experiment of experiments) {
    const { name } = experiment;
    const found = results(name);
    const look = { to: at(name), action: `Look at ${name}` };
    if (found && experiment.state === "running") {
      if (found.sample_ratio.verdict === "mismatch") {
        wait.push({
          kind: "wait",
          head: `${name}: ${found.counts === "units" ? "units" : "requests"} do not arrive as dealt.`,
          body: "Verdicts are withheld until it is found why.",
          ...look,
        });
        continue;
      }
      for (const variant of found.order.slice(1)) {
        const of = found.variants[variant];
        if (of?.verdict !== "worse" || (experiment.variants[variant]?.share ?? 0) === 0) continue;
        const { sentence } = overall(variant, found, null);
        const ramped = experiment.ramp?.variant === variant && ["running", "holding", "paused"].includes(experiment.ramp.state);
        harm.push({
          kind: "harm",
          head: `${name}: ${variant} is worse than ${found.control}.`,
          body: `It ${/^\d/.test(sentence) ? "is " : ""}${sentence}. ${ramped ? "A ramp watches it." : "No ramp watches it, so it stays until somebody moves it."} ${shareOf(experiment.variants[variant]?.share ?? 0)} of traffic is on it${of.error_rate.value ? `; ${said(percent(of.error_rate.value))} of its requests fail` : ""}.`,
          ...look,
        });
      }
    }
    if (experiment.ramp?.state === "rolled_back" && experiment.state === "running") {
      wait.push({ kind: "wait", head: `${name}: ${experiment.ramp.variant} was rolled back.`, body: "Its ramp says on which evidence, and when it may be tried again.", ...look });
    }
    if (experiment.ramp?.state === "holding") {
      wait.push({ kind: "wait", head: `${name}: the ramp of ${experiment.ramp.variant} holds.`, body: "It neither widens nor goes back until somebody looks.", ...look });
    }
  }
  if (status && !status.store.up) {
    harm.push({ kind: "harm", head: "The store does not answer.", body: `Traffic is served as before; outcomes wait. ${status.store.last_error ?? ""}`, to: "/gateway", action: "Look at the gateway" });
  }
  if (status?.config.last_error) {
    wait.push({ kind: "wait", head: "The last reload changed nothing.", body: status.config.last_error, to: "/gateway", action: "Look at the gateway" });
  }
  const [serves, ...down] = state.split(" ");
  if (down.length > 0) {
    harm.push({ kind: "harm", head: `${listed(down)}: no endpoint serves.`, body: "Each was ejected after failures and is tried again by itself.", to: "/backends", action: "Look at backends" });
  }
  if (serves === "draining") {
    wait.push({ kind: "wait", head: "This gateway is draining.", body: "It finishes what runs and takes nothing new.", to: "/gateway", action: "Look at the gateway" });
  }
  return [...harm, ...wait];
}
