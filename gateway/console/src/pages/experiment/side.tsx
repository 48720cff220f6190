// Whether units arrive as dealt, and how the experiment is set up.
import { useState } from "preact/hooks";
import { busy, end } from "../../act";
import { may, variantOrder } from "../../api";
import type { Experiment, Results } from "../../api";
import { isStale } from "../../live";
import { Swatch, Tick, Time } from "../../parts/marks";
import { NB, grouped, percent, said } from "../../words/numbers";
import { unitNoun } from "../../words/split";
import { chance } from "../../words/verdict";

export function SampleRatio({ of, results }: { of: Experiment; results: Results }) {
  const { sample_ratio: ratio } = results;
  const noun = unitNoun(of.unit);
  const all = (counts: Record<string, number>) => Object.values(counts).reduce((sum, each) => sum + each, 0);
  const [expected, observed] = [all(ratio.expected), all(ratio.observed)];
  const part = (count: number | undefined, sum: number) => said(percent(sum > 0 ? (count ?? 0) / sum : null));
  const cap = noun.many.charAt(0).toUpperCase() + noun.many.slice(1);
  return (
    <section class="sub" aria-labelledby="sr">
      <header><h2 id="sr">Sample ratio</h2></header>
      {ratio.verdict === "ok" ? (
        <p><Tick><b>{cap} arrive as dealt</b> <span class="q">(p = {chance(ratio.p_value)}; alarm below {ratio.threshold})</span></Tick></p>
      ) : (
        <p><b class="waits">{cap} do not arrive as dealt.</b> <span class="q">p = {chance(ratio.p_value)}, alarm below {ratio.threshold}. Something loses its requests before they are counted; verdicts are withheld.</span></p>
      )}
      <table class="ratio">
        <thead><tr><th scope="col"><span class="sr">variant</span></th><th scope="col" class="num">dealt</th><th scope="col" class="num">arrived</th><th scope="col" class="num">{noun.many}</th></tr></thead>
        <tbody>
          {results.order.map((name, at) => (
            <tr key={name}>
              <td><Swatch at={at} name={name} /></td>
              <td class="num q">{part(ratio.expected[name], expected)}</td>
              <td class="num">{part(ratio.observed[name], observed)}</td>
              <td class="num q">{grouped(ratio.observed[name] ?? 0)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="s qq more">Assigned p = {chance(ratio.assigned)}, served p = {chance(ratio.served)}, feedback p = {chance(ratio.feedback)}.{ratio.closed ? ` The sample is full; it stands as it was.` : ""}</p>
    </section>
  );
}

function FromFile({ of }: { of: NonNullable<Experiment["file"]> }) {
  const text = (value: unknown) => (value === null || value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));
  return (
    <details>
      <summary>file and live differ</summary>
      <table class="ratio">
        <thead><tr><th scope="col">{of.path.split("/").pop()}{of.line === null ? "" : `:${of.line}`}</th><th scope="col" class="num">file</th><th scope="col" class="num">live</th></tr></thead>
        <tbody>
          {of.differences.map((each) => <tr key={each.member}><td class="mono">{each.member}</td><td class="num q">{text(each.file)}</td><td class="num">{text(each.live)}</td></tr>)}
        </tbody>
      </table>
    </details>
  );
}

/** The end of an experiment: the route's backend serves everything, results stay. */
function End({ of }: { of: Experiment }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  if (!may("experiment:edit") || of.owner === "file" || of.state === "ended") return null;
  const off = busy.value !== null || isStale.value;
  if (!open) return <p class="more"><button class="btn" type="button" disabled={off} onClick={() => setOpen(true)}>End it…</button></p>;
  return (
    <form
      class="asks"
      onSubmit={(event) => {
        event.preventDefault();
        void end(of, reason).then((ended) => ended && setOpen(false));
      }}
    >
      <p>The route’s backend serves everything; results and history stay.{of.defined_by === "file" ? " The file still declares it: take it out there too." : ""}</p>
      <label class="lab" for="end-why">Reason, for the history</label>
      <input class="field" id="end-why" maxLength={300} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      <div class="act">
        <button class="btn bad" type="submit" disabled={off}>End {of.name}</button>
        <button class="btn bare" type="button" onClick={() => setOpen(false)}>Not now</button>
      </div>
    </form>
  );
}

export function Settings({ of }: { of: Experiment }) {
  const order = variantOrder(of);
  return (
    <section class="sub settings" aria-labelledby="h-set">
      <header><h2 id="h-set">Settings</h2></header>
      <dl class="facts">
        <dt>owner</dt><dd>{of.owner === "file" ? "the file; it refuses live changes" : "api"}{of.defined_by === "api" ? ", made through the API" : of.file ? `, declared in ${of.file.path.split("/").pop()}${of.file.line === null ? "" : `:${of.file.line}`}` : ""}{of.differs_from_file && of.file && <FromFile of={of.file} />}</dd>
        <dt>unit</dt><dd>{of.unit.map((unit, at) => <>{at > 0 && ", else "}<code key={unit}>{unit}</code></>)}</dd>
        <dt>if a variant fails</dt><dd>{of.on_failure === "fallback" ? `${of.control} serves instead` : "its requests fail"}</dd>
        {of.layer && <><dt>layer</dt><dd>{of.layer.name}, {of.layer.percent}{NB}%</dd></>}
        {of.targets.length > 0 && (
          <>
            <dt>targets</dt>
            <dd>{of.targets.map((target, at) => <div key={at}><code>{condition(target.when)}</code> → <Swatch at={order.indexOf(target.variant)} name={target.variant} /></div>)}</dd>
          </>
        )}
        <dt>changed</dt><dd>{of.changed_by}, <Time exact at={of.changed_at} /></dd>
      </dl>
      <End of={of} />
    </section>
  );
}

/** `x-team: research`, of `{"header":{"name":"x-team","value":"research"}}`. */
export function condition(when: unknown): string {
  if (typeof when !== "object" || when === null) return String(when);
  return Object.entries(when as Record<string, unknown>)
    .map(([kind, value]) => {
      if (typeof value === "object" && value !== null && "name" in value) {
        const named = value as { name: string; value?: string };
        return `${named.name}${named.value === undefined ? "" : `: ${named.value}`}`;
      }
      return `${kind} ${Array.isArray(value) ? value.join(", ") : String(value)}`;
    })
    .join(", ");
}
