// A new experiment: a second model beside what serves, at 0 %, so that making it changes nothing.
import { useState } from "preact/hooks";
import { tell } from "../../act";
import { ApiFault, call, enc } from "../../api";
import type { Experiment, List, Route } from "../../api";
import { isStale } from "../../live";
import { refreshList, useResource } from "../../resource";
import { go } from "../../router";

interface Problem {
  what: string;
  mend?: string;
}

export function NewExperiment({ onClose }: { onClose: () => void }) {
  const all = useResource<List<Route>>("/routes").value.data?.items ?? [];
  // Two experiments on one route share a layer, and layers stand in the file.
  const routes = all.filter((each) => each.experiments.length === 0);
  const taken = all.filter((each) => each.experiments.length > 0);
  const backends = useResource<List<{ name: string }>>("/backends").value.data?.items ?? [];
  const [name, setName] = useState("");
  const [route, setRoute] = useState<string | null>(null);
  const [unit, setUnit] = useState("header:x-user-id, key");
  const [variant, setVariant] = useState("canary");
  const [backend, setBackend] = useState<string | null>(null);
  const [reason, setReason] = useState("");
  const [problems, setProblems] = useState<Problem[]>([]);
  const [busy, setBusy] = useState(false);
  const chosen = routes.find((each) => each.name === route) ?? routes[0];
  const others = backends.map((each) => each.name).filter((each) => each !== chosen?.backend);
  const other = backend !== null && others.includes(backend) ? backend : others[0];
  const control = variant.trim() === "stable" ? "control" : "stable";

  const send = async (event: Event) => {
    event.preventDefault();
    if (!chosen || other === undefined || busy) return;
    setBusy(true);
    const body: Record<string, unknown> = {
      name: name.trim(), route: chosen.name, control,
      unit: unit.split(",").map((each) => each.trim()).filter((each) => each !== ""),
      variants: { [control]: { backend: chosen.backend, weight: 100 }, [variant.trim()]: { backend: other, weight: 0 } },
    };
    if (reason.trim() !== "") body.reason = reason.trim();
    try {
      const made = await call<Experiment>("POST", "/experiments", { body });
      refreshList("/experiments");
      tell({ head: `${made.name} is made.`, text: `Nothing moved: ${variant.trim()} is at 0 %.`, undo: null, kind: "done" });
      go(`/experiments/${enc(made.name)}`);
    } catch (error) {
      if (error instanceof ApiFault) {
        const told = error.details.map((each) => ({ what: String(each.what ?? each.message ?? ""), mend: typeof each.mend === "string" ? each.mend : undefined })).filter((each) => each.what !== "");
        setProblems(told.length > 0 ? told : [{ what: error.message }]);
      } else setProblems([{ what: "something in this page went wrong" }]);
    } finally {
      setBusy(false);
    }
  };
  if (all.length > 0 && routes.length === 0) {
    return <p class="q lead">Every route is split already: {taken.map((each) => `${each.name} by ${each.experiments.join(", ")}`).join("; ")}. End one of these first; several on one route share a layer, which stands in the configuration file.</p>;
  }
  if (backends.length > 0 && others.length === 0) {
    return <p class="q lead">There is no second backend to put beside {chosen?.backend}. Backends stand in the configuration file.</p>;
  }
  return (
    <form class="asks wide" onSubmit={(event) => void send(event)}>
      <p>A second model beside what serves. It begins at 0 %, so making it changes nothing.</p>
      <div class="make">
        <label><span class="lab">Name</span><input class="field" required maxLength={64} autocomplete="off" value={name} onInput={(event) => setName(event.currentTarget.value)} /></label>
        <label><span class="lab">Route</span><select class="field" value={chosen?.name} onChange={(event) => setRoute(event.currentTarget.value)}>{routes.map((each) => <option key={each.name} value={each.name}>{each.name}</option>)}</select></label>
        <label><span class="lab">New variant</span><input class="field" required maxLength={64} autocomplete="off" value={variant} onInput={(event) => setVariant(event.currentTarget.value)} /></label>
        <label><span class="lab">Its backend</span><select class="field" value={other} onChange={(event) => setBackend(event.currentTarget.value)}>{others.map((each) => <option key={each} value={each}>{each}</option>)}</select></label>
        <label><span class="lab">Unit: what stays on one variant</span><input class="field" required autocomplete="off" spellcheck={false} value={unit} onInput={(event) => setUnit(event.currentTarget.value)} /></label>
        <label><span class="lab">Reason, for the history</span><input class="field" maxLength={300} value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>
      </div>
      <p class="s q">Control is <b>{control}</b>: {chosen?.backend ?? "the route’s backend"}, with everything. Units are the first that is present: <code>header:NAME</code>, <code>jwt:sub</code>, <code>cookie:NAME</code>, <code>key</code>, <code>address</code>, <code>request</code>.</p>
      {taken.length > 0 && <p class="s q">Not offered, as they are split already: {taken.map((each) => `${each.name} (${each.experiments.join(", ")})`).join(", ")}.</p>}
      {problems.length > 0 && <div class="trouble s" role="alert"><ul>{problems.map((each) => <li key={each.what}>{each.what}{each.mend ? ` — ${each.mend}` : ""}</li>)}</ul></div>}
      <div class="act">
        <button class="btn go" type="submit" disabled={busy || isStale.value || !chosen || other === undefined}>Make the experiment</button>
        <button class="btn bare" type="button" onClick={onClose}>Not now</button>
      </div>
    </form>
  );
}
