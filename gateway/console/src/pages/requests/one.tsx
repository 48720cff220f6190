// One request: how it ended, where its time went, why it went there, and what else is known of it.
import { useState } from "preact/hooks";
import { enc } from "../../api";
import { Waterfall } from "../../charts/waterfall";
import { useResource } from "../../resource";
import { Swatch, Time, Trouble, Waiting, hue } from "../../parts/marks";
import { NB, bytes, grouped, latency, said, shareOf } from "../../words/numbers";
import { type Told, isFailure, outcomeWords } from "./row";

/** Words of assignment reasons, as telemetry has them. */
const REASONS: Record<string, string> = {
  split: "Dealt by the split", targeting_match: "Sent by a target, before the split", override: "Forced by a header, before the split", static: "One variant has every bucket, so nothing was dealt",
  default: "No unit was named, so control served", holdout: "Held out of every experiment", outside: "Outside this experiment’s part of its layer", disabled: "The experiment was stopped", none: "Its route has no experiment",
};

function Why({ of, at }: { of: Told; at: number }) {
  const { decision } = of;
  if (!decision) return <p class="q">Its route has no experiment.</p>;
  const reason = REASONS[decision.reason] ?? decision.reason.replaceAll("_", " ");
  const range = decision.bucket_range;
  return (
    <>
      {decision.bucket !== null && (
        <p>
          {decision.unit_hash && <>The unit <code>{decision.unit_hash.slice(0, 6)}…</code> falls into </>}
          {!decision.unit_hash && "It falls into "}bucket <b>{grouped(decision.bucket)}</b> of 10,000.
          {range && <> {range.variant} holds {grouped(range.first)} to {grouped(range.end - 1)}{decision.share !== null && `, in all ${shareOf(decision.share)}`}.</>}
        </p>
      )}
      {decision.bucket !== null && (
        <div class="buckets" role="img" aria-label={`Bucket ${grouped(decision.bucket)} of 10,000`}>
          {range && <i class={hue(at)} style={{ left: `${range.first / 100}%`, width: `${(range.end - range.first) / 100}%` }} />}
          <b style={{ left: `${decision.bucket / 100}%` }}>▴</b>
        </div>
      )}
      <p class="s q">{reason}{decision.revision > 0 ? `, at revision ${decision.revision}` : ""}. {decision.reason === "split" && "The same unit gets the same variant until the split moves it."} {decision.eligible === false && "It is no evidence."}</p>
      {decision.served && decision.served !== decision.variant && <p class="s q">Assigned {decision.variant}, served by <b>{decision.served}</b>.</p>}
    </>
  );
}

export function One({ id, place }: { id: string; place: (experiment: string | undefined, variant: string | undefined) => number }) {
  const held = useResource<Told>(`/requests/${enc(id)}`).value;
  const [copied, setCopied] = useState(false);
  const of = held.data;
  if (!of) {
    if (held.error) return held.error.status === 404 ? <p class="q">No outcome of request <code>{id}</code> is stored. It may be too old, or not be written yet.</p> : <Trouble what="The request" message={held.error.message} />;
    return <Waiting what="the request" />;
  }
  const at = place(of.experiment, of.variant);
  const text = (member: string) => (of[member] === undefined || of[member] === null ? null : String(of[member]));
  const total = said(latency(of.t_total / 1e6));
  const tries = of.attempts ?? 1;
  const cap = outcomeWords(of.outcome).charAt(0).toUpperCase() + outcomeWords(of.outcome).slice(1);
  const fact = (name: string, value: unknown) => (value === null || value === undefined || value === "" ? null : <><dt>{name}</dt><dd>{value as string}</dd></>);
  const tokens = of["gen_ai.usage.output_tokens"];
  return (
    <>
      <p class="s q">{of.variant && <Swatch at={at} name={of.variant} />} {of.route}{of.experiment ? `, ${of.experiment}@${text("experiment.revision") ?? "?"}` : ""}</p>
      <h2 class={isFailure(of) ? "bad" : ""}>{cap} {of.outcome === "ok" ? "in" : "after"} {total}{tries > 1 ? `, ${tries} tries` : ""}</h2>
      <p class="s qq mono id">
        {of.request_id}{" "}
        <button class="text" type="button" onClick={() => void navigator.clipboard?.writeText(of.request_id).then(() => setCopied(true))}>{copied ? "copied" : "copy"}</button>
      </p>
      <Waterfall phases={of.phases} attempts={of.attempt_list} hue={hue(at)} />
      <section class="sub"><header><h3>Why this variant</h3></header><Why of={of} at={at} /></section>
      <section class="sub">
        <header><h3>Facts</h3></header>
        <dl class="facts">
          <dt>ended</dt><dd><Time exact at={of.timestamp} />, {text("network.protocol.version") ? `HTTP/${text("network.protocol.version")}` : ""}, key {text("auth.key_id") ?? "–"}</dd>
          {fact("asked for", `${text("http.request.method") ?? ""} ${text("url.path") ?? ""}${of.stream ? ", streaming" : ""}`)}
          {fact("served by", `${text("backend") ?? "nobody"}${text("server.backend.address") ? ` at ${text("server.backend.address")}` : ""}`)}
          {fact("status", `${of["http.response.status_code"] ?? "–"}${text("error.type") ? `, ${text("error.type")}` : ""}`)}
          {tokens !== undefined && fact("tokens", `${grouped(of["gen_ai.usage.input_tokens"] ?? 0)} in, ${grouped(tokens)} out, ${text("usage.source") ?? ""}`)}
          {fact("finished", text("gen_ai.response.finish_reason"))}
          {fact("bytes", `${said(bytes(Number(of["http.request.body.size"] ?? 0)))} in, ${said(bytes(Number(of["http.response.body.size"] ?? 0)))} out`)}
          {fact("shadow", of.shadow === true ? "copied" : "not copied")}
          {fact("trace", text("trace_id"))}
        </dl>
        <p class="s qq">Bodies are not stored. The unit is a keyed hash.{NB}</p>
      </section>
    </>
  );
}
