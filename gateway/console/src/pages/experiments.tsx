// Every experiment, one a row.
import { useState } from "preact/hooks";
import { enc, may, variantOrder } from "../api";
import type { Experiment, List } from "../api";
import { useResource } from "../resource";
import { Bar, Scroll, Time, Trouble, Waiting, parts } from "../parts/marks";
import { Now } from "../parts/live";
import { NewExperiment } from "./experiments/new";
import { counted, perSecond } from "../words/numbers";

function Offer() {
  const [open, setOpen] = useState(false);
  if (!may("experiment:edit")) return null;
  return open ? <NewExperiment onClose={() => setOpen(false)} /> : <p class="lead"><button class="btn" type="button" onClick={() => setOpen(true)}>New experiment…</button></p>;
}

export function Experiments() {
  const held = useResource<List<Experiment>>("/experiments").value;
  if (held.error && !held.data) return <><h1>Experiments</h1><Trouble what="The experiments" message={held.error.message} /></>;
  if (!held.data) return <><h1>Experiments</h1><Waiting what="experiments" /></>;
  const { items } = held.data;
  if (items.length === 0) {
    return (
      <>
        <h1>No experiment yet</h1>
        <p class="q lead">Every route is served by its backend. An experiment puts a second model beside it and starts at 0 %, so making one changes nothing.</p>
        <Offer />
        <pre class="code">{`[experiments.int8]
route = "chat"
unit = ["header:x-user-id", "key"]
control = "stable"
[experiments.int8.variants]
stable = { backend = "llama-8b", weight = 100 }
canary = { backend = "llama-8b-int8", weight = 0 }`}</pre>
        <p class="s qq">Or in the configuration file; the gateway reads it again by itself.</p>
      </>
    );
  }
  const running = items.filter((of) => of.state === "running").length;
  return (
    <>
      <div class="spread base"><h1>{counted(items.length, "experiment")}</h1><span class="s qq">{running} running</span></div>
      <Offer />
      <Scroll label="Experiments">
      <table class="rows">
        <thead>
          <tr><th scope="col">experiment</th><th scope="col">route</th><th scope="col">state</th><th scope="col" class="wide">split</th><th scope="col" class="num">requests</th><th scope="col">ramp</th><th scope="col">changed</th></tr>
        </thead>
        <tbody>
          {items.map((of) => {
            const order = variantOrder(of);
            const runs = of.state === "running";
            const shares = order.map((name, at) => (runs ? Math.round((of.variants[name]?.share ?? 0) * 10_000) : at === 0 ? 10_000 : 0));
            return (
              <tr key={of.name}>
                <td><a href={`/experiments/${enc(of.name)}`}><b>{of.name}</b></a></td>
                <td class="q">{of.route}</td>
                <td>{of.state === "stopped" ? <span class="tag bad">stopped</span> : <span class="q">{of.state}</span>} <span class="qq">r{of.revision}</span></td>
                <td class="wide"><Bar of={parts(order, shares)} /></td>
                <td class="num"><Now of={(f) => {
                  const variants = f.experiments[of.name]?.variants;
                  return variants && perSecond(Object.values(variants).reduce((sum, variant) => sum + variant.rate, 0));
                }} /></td>
                <td class="q">{of.ramp ? `${of.ramp.variant}: ${of.ramp.state.replace("_", " ")}` : "–"}</td>
                <td class="q nb">{of.changed_by}, <Time at={of.changed_at} /></td>
              </tr>
            );
          })}
        </tbody>
      </table>
      </Scroll>
    </>
  );
}
