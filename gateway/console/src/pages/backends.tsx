// Backends and their endpoints: who serves, who was ejected, how much is under way.
import type { List } from "../api";
import { useResource } from "../resource";
import { Now } from "../parts/live";
import { Scroll, Trouble, VerdictMark, Waiting } from "../parts/marks";
import { counted, grouped } from "../words/numbers";

interface Backend {
  name: string;
  model: string | null;
  endpoints: { address: string; host: string; scheme: string; state: string; in_flight: number }[];
  unresolved: { host: string; error: string }[];
  in_flight: number;
  open_connections: number;
  ejections: number;
}

const STATES: Record<string, { sign: "no_worse" | "worse" | "early"; word: string }> = {
  serving: { sign: "no_worse", word: "serving" },
  ejected: { sign: "worse", word: "ejected" },
  on_trial: { sign: "early", word: "on trial" },
};

export function Backends() {
  const held = useResource<List<Backend>>("/backends", 2).value;
  if (!held.data) return <><h1>Backends</h1>{held.error ? <Trouble what="The backends" message={held.error.message} /> : <Waiting what="backends" />}</>;
  const { items } = held.data;
  const endpoints = items.reduce((sum, of) => sum + of.endpoints.length, 0);
  return (
    <>
      <div class="spread base"><h1>{counted(items.length, "backend")}, {counted(endpoints, "endpoint")}</h1></div>
      {items.length === 0 && <p class="q">There is no backend yet. Backends stand in the configuration file: <code>[backends.llama-8b]</code> with its endpoints.</p>}
      {items.map((of) => (
        <section key={of.name} class="backend" aria-labelledby={`backend-${of.name}`}>
          <header>
            <h2 id={`backend-${of.name}`}>{of.name}</h2>
            <span class="s qq">{of.model ? `model ${of.model}, ` : ""}<Now of={(f) => ({ number: grouped(f.backends[of.name]?.in_flight ?? of.in_flight), unit: "" })} /> under way, {counted(of.open_connections, "connection")} open, {of.ejections === 0 ? "never ejected" : `ejected ${counted(of.ejections, "time")} since the start`}</span>
          </header>
          <Scroll label={`Endpoints of ${of.name}`}>
            <table class="rows">
              <thead><tr><th scope="col">endpoint</th><th scope="col">host</th><th scope="col">protocol</th><th scope="col">state</th><th scope="col" class="num">under way</th></tr></thead>
              <tbody>
                {of.endpoints.map((endpoint) => {
                  const state = STATES[endpoint.state] ?? { sign: "early" as const, word: endpoint.state };
                  return (
                    <tr key={endpoint.address}>
                      <td class="mono">{endpoint.address}</td><td class="q">{endpoint.host}</td><td class="q">{endpoint.scheme}</td>
                      <td><VerdictMark of={{ ...state, sentence: "" }} /></td><td class="num">{grouped(endpoint.in_flight)}</td>
                    </tr>
                  );
                })}
                {of.unresolved.map((each) => (
                  <tr key={each.host}><td class="qq">no address</td><td class="mono">{each.host}</td><td /><td colSpan={2}><VerdictMark of={{ sign: "worse", word: "not resolved", sentence: each.error }} /></td></tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        </section>
      ))}
    </>
  );
}
