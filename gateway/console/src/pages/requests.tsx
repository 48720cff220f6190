// Stored outcomes: what is looked for, when they failed, how long they took, and one of them in full.
import { signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiFault, get, variantOrder } from "../api";
import type { Experiment, List } from "../api";
import { isStale, now } from "../live";
import { go, query } from "../router";
import { useResource } from "../resource";
import { Scroll, Swatch, Trouble, VerdictMark, Waiting, hue } from "../parts/marks";
import { counted, grouped, latency, said } from "../words/numbers";
import { clock, minute } from "../words/times";
import { type Filter, ofQuery, read, toQuery, write } from "../words/filter";
import { timeTicks } from "../charts/density";
import { One } from "./requests/one";
import { type Row, endedAt, isFailure, outcomeWords } from "./requests/row";

/** So many are kept on the page. */
const MOST = 600;

interface Seen {
  rows: Row[];
  error: ApiFault | null;
  at: number;
}

/** Rows that fit `filter`, newest first; new ones come every two seconds while they are followed. */
function useRows(filter: Filter, follow: boolean): Seen {
  const seen = useMemo(() => signal<Seen>({ rows: [], error: null, at: 0 }), []);
  const key = toQuery(filter, {});
  useEffect(() => {
    let over = false;
    seen.value = { rows: [], error: null, at: 0 };
    const turn = async (limit: number) => {
      try {
        const page = await get<List<Row>>(`/requests${toQuery(filter, { limit: String(limit) })}`);
        if (over) return;
        const known = new Set(seen.value.rows.map((row) => row.request_id));
        const rows = [...page.items.filter((row) => !known.has(row.request_id)), ...seen.value.rows];
        rows.sort((a, b) => (a.request_id < b.request_id ? 1 : -1));
        seen.value = { rows: rows.slice(0, MOST), error: null, at: performance.now() };
      } catch (error) {
        if (!over && error instanceof ApiFault) seen.value = { ...seen.value, error };
      }
    };
    void turn(300);
    const timer = setInterval(() => {
      if (follow && !document.hidden && !isStale.value) void turn(100);
    }, 2_000);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, [key, follow]);
  return seen.value;
}

interface Placed {
  order: string[];
  place: (experiment: string | undefined, variant: string | undefined) => number;
}

function Pictures({ rows, placed, picked }: { rows: readonly Row[]; placed: Placed; picked: string | null }) {
  const dated = rows.map((row) => ({ row, at: endedAt(row), at0: placed.place(row.experiment, row.variant) }));
  const to = dated[0]?.at ?? now.value;
  const from = Math.min(dated.at(-1)?.at ?? to - 60, to - 1);
  const x = (at: number) => ((at - from) / (to - from)) * 1000;
  const failed = dated.filter(({ row }) => isFailure(row));
  const variants = [...new Set(dated.map(({ row }) => row.variant ?? "no variant"))].sort((a, b) => placed.order.indexOf(a) - placed.order.indexOf(b)).slice(0, 6);
  const seconds = dated.map(({ row }) => Math.max(row.t_total, 100) / 1e6);
  const [low, high] = [Math.min(...seconds) / 1.15, Math.max(...seconds) * 1.15];
  const y = (value: number) => 100 - (Math.log(value / low) / Math.log(high / low)) * 100;
  const lane = 100 / Math.max(1, variants.length);
  const ticks = timeTicks(low, high);
  return (
    <>
      <div class="spread base"><h3>Failed</h3><span class="xs qq">each tick one request; {grouped(failed.length)} of {grouped(rows.length)}</span></div>
      <div class="plot ticks" role="img" aria-label={`${counted(failed.length, "request")} of ${grouped(rows.length)} failed`} style={{ "--h": `${variants.length * 18}px` }}>
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          {failed.map(({ row, at, at0 }) => {
            const place = Math.max(0, variants.indexOf(row.variant ?? "no variant"));
            return <path key={row.request_id} class={`miss ${hue(at0)}`} d={`M${x(at).toFixed(1)} ${(place + 0.15) * lane}v${lane * 0.7}`} />;
          })}
        </svg>
        {variants.map((name, at) => <span key={name} class="tx lane" style={{ top: `${(at + 0.5) * lane}%` }}>{placed.order.includes(name) ? <Swatch at={placed.order.indexOf(name)} name={name} /> : name}</span>)}
      </div>
      <div class="spread base second"><h3>Total time</h3><span class="xs qq">log scale; all {grouped(rows.length)} drawn</span></div>
      <div class="plot scatter" role="img" aria-label={`Total time of the newest ${grouped(rows.length)} requests, from ${said(latency(Math.min(...seconds)))} to ${said(latency(Math.max(...seconds)))}`}>
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          {ticks.map((tick) => <line key={tick} class="grid" x1="0" x2="1000" y1={y(tick)} y2={y(tick)} />)}
          {placed.order.map((_, at) => <path key={at} class={`dot ${hue(at)}`} d={dated.filter((each) => each.at0 === at && !isFailure(each.row)).map((each) => `M${x(each.at).toFixed(1)} ${y(Math.max(each.row.t_total, 100) / 1e6).toFixed(1)}h.01`).join("")} />)}
          <path class="dot failed" d={failed.map((each) => `M${x(each.at).toFixed(1)} ${y(Math.max(each.row.t_total, 100) / 1e6).toFixed(1)}h.01`).join("")} />
          {dated.filter(({ row }) => row.request_id === picked).map(({ row, at }) => <path key="picked" class="dot picked" d={`M${x(at).toFixed(1)} ${y(Math.max(row.t_total, 100) / 1e6).toFixed(1)}h.01`} />)}
        </svg>
        {ticks.map((tick) => <span key={tick} class="tx y" style={{ top: `${y(tick)}%` }}>{said(latency(tick)).replace(/\.0+(?=\D)/, "").replace(/(\.\d*?)0+(?=\D)/, "$1")}</span>)}
      </div>
      <div class="xax scattered"><span class="edge" style={{ left: "0%" }}>{to - from > 120 ? minute(from) : clock(from)}</span><span class="last" style={{ left: "100%" }}>{to - from > 120 ? minute(to) : clock(to)}</span></div>
    </>
  );
}

export function Requests({ id }: { id: string | null }) {
  const filter = ofQuery(query.value);
  const experiments = useResource<List<Experiment>>("/experiments").value.data?.items ?? [];
  const [follow, setFollow] = useState(true);
  const [text, setText] = useState<string | null>(null);
  const seen = useRows(filter, follow && id === null);
  const written = write(filter);
  const typed = text === null ? { filter, trouble: null } : read(text);

  const orders = new Map(experiments.map((of) => [of.name, variantOrder(of)]));
  const shown = filter.experiment !== undefined ? experiments.filter((of) => of.name === filter.experiment) : experiments.length <= 4 ? experiments : [];
  const order = [...new Set(shown.flatMap((of) => variantOrder(of)))];
  const placed: Placed = {
    order: order.length > 0 ? order : ["–"],
    place: (experiment, variant) => Math.max(0, (experiment !== undefined ? orders.get(experiment) ?? [] : []).indexOf(variant ?? "")),
  };
  const set = (change: Filter) => go(`/requests${toQuery({ ...filter, ...change })}`, true);
  const drop = (name: keyof Filter) => {
    const next = { ...filter };
    delete next[name];
    go(`/requests${toQuery(next)}`, true);
  };
  const send = (event: Event) => {
    event.preventDefault();
    if (typed.trouble !== null) return;
    go(`/requests${toQuery(typed.filter)}`, true);
    setText(null);
  };
  const pill = (label: preact.ComponentChild, on: boolean, press: () => void, key: string) => <button key={key} class="pill" type="button" aria-pressed={on} onClick={press}>{label}</button>;
  const link = (row: Row) => `/requests/${row.request_id}${toQuery(filter)}`;

  return (
    <>
      <div class="spread base"><h1>Requests</h1><span class="s qq">{seen.at > 0 && (id !== null && follow ? "new ones wait while one is picked" : `the newest ${grouped(seen.rows.length)}`)}</span></div>
      <form class="filters" onSubmit={send}>
        <label class="grow"><span class="sr">Look for</span>
          <input class="field" placeholder="route:chat outcome:failed slower:500ms" spellcheck={false} autocomplete="off" aria-invalid={typed.trouble !== null} aria-describedby="filter-trouble" value={text ?? written} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        {order.map((name, at) => pill(<Swatch at={at} name={name} />, filter.variant === name, () => (filter.variant === name ? drop("variant") : set({ variant: name })), name))}
        {pill("failed", filter.outcome === "failed", () => (filter.outcome === "failed" ? drop("outcome") : set({ outcome: "failed" })), "failed")}
        {pill("slower than 1 s", filter.slower === "1s", () => (filter.slower === "1s" ? drop("slower") : set({ slower: "1s" })), "slow")}
        {pill("following", follow, () => setFollow(!follow), "follow")}
      </form>
      <p class="s trouble" id="filter-trouble" role="alert">{typed.trouble}</p>
      <div class={`rq${id === null ? "" : " open"}`}>
        <div class="found">
          {seen.error && <Trouble what="Requests" message={seen.error.message} />}
          {seen.at === 0 && !seen.error && <Waiting what="requests" />}
          {seen.at > 0 && seen.rows.length === 0 && !seen.error && <p class="q">{written === "" ? "No request is stored yet." : <>No stored request fits <code>{written}</code>.</>}</p>}
          {seen.rows.length > 0 && (
            <>
              <Pictures rows={seen.rows} placed={placed} picked={id} />
              <Scroll label="Requests">
                <table class="reqs">
                  <thead><tr><th scope="col">ended</th><th scope="col">variant</th><th scope="col">outcome</th><th scope="col" class="num m-no">status</th><th scope="col" class="num m-no">first byte</th><th scope="col" class="num">total</th><th scope="col" class="num m-no">tokens in → out</th><th scope="col" class="num m-no">tries</th></tr></thead>
                  <tbody>
                    {seen.rows.slice(0, 50).map((row) => (
                      <tr key={row.request_id} class={row.request_id === id ? "pick" : ""}>
                        <td><a href={link(row)} aria-current={row.request_id === id ? "true" : undefined}>{clock(endedAt(row))}<span class="qq">.{String(Math.floor((endedAt(row) % 1) * 1000)).padStart(3, "0")}</span></a></td>
                        <td>{row.variant ? <Swatch at={placed.place(row.experiment, row.variant)} name={row.variant} /> : <span class="qq">–</span>}</td>
                        <td>{isFailure(row) ? <VerdictMark of={{ sign: "worse", word: outcomeWords(row.outcome), sentence: "" }} /> : <span class={row.outcome === "ok" ? "" : "q"}>{outcomeWords(row.outcome)}</span>}</td>
                        <td class="num q m-no">{row["http.response.status_code"] ?? "–"}</td>
                        <td class="num m-no">{said(latency(row.t_first_byte === undefined ? null : row.t_first_byte / 1e6))}</td>
                        <td class="num">{said(latency(row.t_total / 1e6))}</td>
                        <td class="num q m-no">{row["gen_ai.usage.output_tokens"] === undefined ? "–" : `${grouped(row["gen_ai.usage.input_tokens"] ?? 0)} → ${grouped(row["gen_ai.usage.output_tokens"])}`}</td>
                        <td class="num q m-no">{row.attempts ?? "–"}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Scroll>
              {seen.rows.length > 50 && <p class="s qq more">The newest 50 of {grouped(seen.rows.length)} are listed, all are drawn. Narrow what is looked for to see others.</p>}
            </>
          )}
        </div>
        {id !== null && (
          <aside class="fallpane" aria-label="The picked request">
            <p class="xs"><a href={`/requests${toQuery(filter)}`}>close</a></p>
            <One key={id} id={id} place={placed.place} />
          </aside>
        )}
      </div>
    </>
  );
}

