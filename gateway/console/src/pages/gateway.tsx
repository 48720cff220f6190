// The gateway itself: which one, what it was told, whether its store and its accounts are in order.
import { useMemo } from "preact/hooks";
import { useResource } from "../resource";
import { Note, Tick, Time, Trouble, VerdictMark, Waiting } from "../parts/marks";
import { Now } from "../parts/live";
import { bytes, grouped, perSecond, percent, said } from "../words/numbers";
import { duration } from "../words/times";

interface Status {
  version: string;
  uptime_seconds: number;
  generation: number;
  config: { file: string; loaded_at: string; last_error: string | null; notices: string[] };
  edge: string;
  admin: string;
  draining: boolean;
  store: { up: boolean; mode: string; last_error: string | null };
  recording: { assigned: number; recorded: number; dropped: number; dropped_by_reason: Record<string, number>; pending: number; running: number; spooled: number; spool_bytes: number };
}

export function Gateway() {
  const held = useResource<Status>("/status", 2).value;
  const of = held.data;
  const since = useMemo(() => (of ? Math.round(Date.now() / 1000 - of.uptime_seconds) : 0), [of]);
  if (!of) return <><h1>Gateway</h1>{held.error ? <Trouble what="The status" message={held.error.message} /> : <Waiting what="the status" />}</>;
  const { recording, store, config } = of;
  const modes: Record<string, string> = { sync: "a row is on stable storage before the last byte of its answer", group: "a row is on stable storage within 50 ms", async: "a row is on stable storage soon", off: "no rows are stored; counts stay exact" };
  return (
    <>
      <div class="spread base"><h1>Gateway</h1><span class="s qq">Weir {of.version}, serving for {duration(of.uptime_seconds)}</span></div>
      {config.last_error && <div class="needs"><Note kind="wait"><p><b>The last reload changed nothing.</b></p><pre class="problems">{config.last_error}</pre></Note></div>}
      {of.draining && <div class="needs"><Note kind="wait"><p><b>Draining.</b> It finishes what runs and takes nothing new.</p></Note></div>}
      <section class="figs" aria-label="Now">
        <div class="fig"><div class="k">requests</div><div class="n"><Now of={(f) => perSecond(f.gateway.rate)} /></div></div>
        <div class="fig"><div class="k">failed</div><div class="n"><Now of={(f) => percent(f.gateway.failed)} /></div></div>
        <div class="fig"><div class="k">rejected by Weir</div><div class="n"><Now of={(f) => perSecond(f.gateway.rejected)} /></div></div>
        <div class="fig"><div class="k">requests under way</div><div class="n"><Now of={(f) => ({ number: grouped(f.gateway.in_flight), unit: "" })} /></div></div>
        <div class="fig"><div class="k">client connections</div><div class="n"><Now of={(f) => ({ number: grouped(f.gateway.connections), unit: "" })} /></div></div>
      </section>
      <div class="two sec">
        <section class="sub" aria-labelledby="h-conf">
          <header><h2 id="h-conf">Configuration</h2><span class="s">number {of.generation} in force</span></header>
          <dl class="facts">
            <dt>file</dt><dd class="mono">{config.file}</dd>
            <dt>read</dt><dd><Time at={config.loaded_at} /></dd>
            <dt>edge</dt><dd class="mono">{of.edge}</dd>
            <dt>admin</dt><dd class="mono">{of.admin}</dd>
            <dt>since</dt><dd><Time exact at={since} /></dd>
          </dl>
          {config.notices.length > 0 && <ul class="notices s q">{config.notices.map((notice) => <li key={notice}>{notice}</li>)}</ul>}
        </section>
        <section class="sub" aria-labelledby="h-rec">
          <header><h2 id="h-rec">Recording</h2><span class="s">{modes[store.mode] ?? store.mode}</span></header>
          <p>{store.up ? <Tick><b>The store answers</b></Tick> : <VerdictMark of={{ sign: "worse", word: "the store does not answer", sentence: store.last_error ?? "" }} />}</p>
          <table class="ratio">
            <tbody>
              <tr><th scope="row">assigned</th><td class="num">{grouped(recording.assigned)}</td><td class="q">requests since the start</td></tr>
              <tr><th scope="row">recorded</th><td class="num">{grouped(recording.recorded)}</td><td class="q" /></tr>
              <tr><th scope="row">pending</th><td class="num">{grouped(recording.pending)}</td><td class="q">{grouped(recording.running)} under way{recording.spooled > 0 ? `, ${grouped(recording.spooled)} in the spool (${said(bytes(recording.spool_bytes))})` : ""}</td></tr>
              <tr><th scope="row">dropped</th><td class="num">{grouped(recording.dropped)}</td><td class="q">{Object.entries(recording.dropped_by_reason).filter(([, count]) => count > 0).map(([reason, count]) => `${reason.replaceAll("_", " ")}: ${grouped(count)}`).join(", ")}</td></tr>
            </tbody>
          </table>
          <p class="s qq more">Assigned is recorded, pending and dropped together.</p>
        </section>
      </div>
    </>
  );
}
