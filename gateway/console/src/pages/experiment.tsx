// One experiment: the split and what it does, from the instrument down to the settings.
import { useEffect, useState } from "preact/hooks";
import { stop, undo, busy } from "../act";
import { enc, may, variantOrder } from "../api";
import type { Experiment, List, Ramp, Results, Revision, Route, Shadow } from "../api";
import { EVERYTHING, frame, watch } from "../live";
import { useResource } from "../resource";
import { Dialog } from "../parts/floating";
import { Note, Time, Trouble, UndoIcon, Waiting } from "../parts/marks";
import { listed, perSecond, said } from "../words/numbers";
import { Latency } from "./experiment/latency";
import { LiveCharts } from "./experiment/live";
import { RampSection } from "./experiment/ramp";
import { Revisions } from "./experiment/revisions";
import { Settings, SampleRatio } from "./experiment/side";
import { ShadowSection } from "./experiment/shadow";
import { Split, dealt } from "./experiment/split";
import { Verdicts } from "./experiment/verdicts";
import { revisionWords } from "./overview";

function StopDialog({ of, backend, onClose }: { of: Experiment; backend: string; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const others = variantOrder(of).filter((name) => (of.variants[name]?.share ?? 0) > 0 && of.variants[name]?.backend !== backend);
  const now = frame.value?.experiments[of.name]?.variants;
  const moving = now ? others.reduce((sum, name) => sum + (now[name]?.rate ?? 0), 0) : null;
  const ramp = of.ramp && ["running", "holding"].includes(of.ramp.state) ? of.ramp : null;
  return (
    <Dialog title={`Send all of ${of.route} to ${backend}?`} onClose={onClose} alert>
      <p class="q">
        {others.length > 0 ? `${listed(others)} ${others.length === 1 ? "gets" : "get"} no new requests from now on${moving === null ? "" : `: ${said(perSecond(moving))} move`}. ` : ""}
        Running answers finish where they are.{ramp ? ` The ramp of ${ramp.variant} is paused.` : ""}
      </p>
      <label class="lab" for="stop-why">Reason (it may stay empty)</label>
      <input class="field" id="stop-why" maxLength={300} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      <div class="act">
        <button
          class="btn bad" type="button"
          onClick={() => {
            void stop(of.name, reason);
            onClose();
          }}
        >
          Stop {of.name}
        </button>
        <button class="btn" type="button" onClick={onClose}>Keep it running</button>
      </div>
    </Dialog>
  );
}

function Head({ of, route, backend, revisions }: { of: Experiment; route: Route | undefined; backend: string; revisions: readonly Revision[] }) {
  const [stopping, setStopping] = useState(false);
  const newest = revisions[0];
  const what = newest && newest.revision === of.revision ? revisionWords(variantOrder(of), newest, revisions[1]) : "";
  const canUndo = may("experiment:undo") && of.owner !== "file" && of.revision > 1;
  return (
    <div class="spread title">
      <div>
        <p class="s q">{of.route} <span class="qq">{route?.pattern}{route?.model ? `, model ${route.model}` : ""}</span></p>
        <h1>{of.name}</h1>
        <p class="s q">
          <b class={of.state === "running" ? "ink" : "tag bad"}>{of.state === "running" ? "Running" : of.state}</b>, revision {of.revision}. <b>{of.changed_by}</b> changed it <Time at={of.changed_at} />
          {what !== "" && `: ${what}`}{of.reason && `, “${of.reason}”`}
        </p>
      </div>
      <div class="row acts">
        {canUndo && <button class="btn" type="button" disabled={busy.value !== null} onClick={() => void undo(of.name, of.revision)}><UndoIcon />Undo revision {of.revision}</button>}
        {may("experiment:stop") && of.state === "running" && <button class="btn bad" type="button" onClick={() => setStopping(true)}>Stop: all to {backend}</button>}
      </div>
      {stopping && <StopDialog of={of} backend={backend} onClose={() => setStopping(false)} />}
    </div>
  );
}

/** A shadow has the hue of the variant that it is, or the next one that is free. */
function shadowHue(of: Experiment, shadow: Shadow): number {
  const order = variantOrder(of);
  const same = order.findIndex((name) => name === shadow.name || of.variants[name]?.backend === shadow.backend);
  return same > 0 ? same : order.length;
}

function NoSuch({ name }: { name: string }) {
  // Nothing can be watched of it; the rest goes on.
  useEffect(() => watch(EVERYTHING), []);
  return (
    <>
      <h1>There is no experiment {name}</h1>
      <p class="q">It may be called otherwise, or not be in the file any more. <a href="/experiments">All experiments</a></p>
    </>
  );
}

export function ExperimentPage({ name }: { name: string }) {
  const path = `/experiments/${enc(name)}`;
  const experiment = useResource<Experiment>(path).value;
  const history = useResource<{ revisions: Revision[]; next: string | null }>(`${path}/history?limit=40`).value;
  const results = useResource<Results>(`${path}/results?sketch=120`, 5).value;
  const ramp = useResource<Ramp>(experiment.data?.ramp ? `${path}/ramp` : null, 2).value;
  const routes = useResource<List<Route>>("/routes").value;
  const shadows = useResource<List<Shadow>>("/shadows", 10).value;
  const of = experiment.data;
  if (!of) {
    if (experiment.error?.status === 404) return <NoSuch name={name} />;
    if (experiment.error) return <><h1>{name}</h1><Trouble what={name} message={experiment.error.message} /></>;
    return <><h1>{name}</h1><Waiting what="the experiment" /></>;
  }
  const route = routes.data?.items.find((each) => each.name === of.route);
  const backend = route?.backend ?? of.variants[of.control]?.backend ?? "the route’s backend";
  const revisions = history.data?.revisions ?? [];
  const copies = (shadows.data?.items ?? []).filter((each) => each.route === of.route);
  const order = variantOrder(of);
  return (
    <>
      <Head of={of} route={route} backend={backend} revisions={revisions} />
      {of.set_aside && <div class="needs"><Note kind="wait"><p><b>Set aside: it does not fit the file any more, and takes no traffic.</b> {of.set_aside}.</p></Note></div>}
      <Split of={of} revisions={revisions} backend={backend} />
      <LiveCharts name={of.name} names={order} dealt={dealt(of, revisions)} />
      {results.data ? <Verdicts of={of} results={results.data} /> : results.error ? <section class="sec"><Trouble what="Results" message={results.error.message} /></section> : <section class="sec"><Waiting what="results" /></section>}
      <RampSection of={of} ramp={of.ramp ? ramp.data : null} />
      <div class={`sec${copies.length > 0 ? " two" : ""}`}>
        {results.data && <Latency results={results.data} />}
        {copies.length > 0 && <div>{copies.map((each) => <ShadowSection key={each.name} of={each} at={shadowHue(of, each)} />)}</div>}
      </div>
      <div class="sec side">
        <Revisions of={of} revisions={revisions} next={history.data?.next ?? null} />
        <div>
          {results.data && <SampleRatio of={of} results={results.data} />}
          <Settings of={of} />
        </div>
      </div>
    </>
  );
}
