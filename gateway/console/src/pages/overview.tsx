// Everything at a glance: what needs somebody, what arrives, what is split, who changed it.
import { type Signal, computed, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { enc, get, variantOrder } from "../api";
import type { Experiment, List, Results, Revision, Route, Shadow } from "../api";
import { frame, isStale } from "../live";
import { type Held, useResource } from "../resource";
import { Spark } from "../charts/spark";
import { Bar, Note, SplitKey, Swatch, Time, Trouble, VerdictMark, Waiting, parts } from "../parts/marks";
import { Now } from "../parts/live";
import { NB, counted, grouped, latency, listed, perSecond, percent, said } from "../words/numbers";
import { changeWords, sharesOf, unitNoun } from "../words/split";
import { overall } from "../words/verdict";
import { type Need, needs, stateOf } from "./worst";

interface Status {
  config: { last_error: string | null };
  store: { up: boolean; last_error: string | null };
}

/** Results of what runs, as they were last read, each a signal of its own: what is read anew redraws one
 *  experiment. One is read after the other, so that fifty of them cost the gateway no more than one. */
const results = new Map<string, Signal<Results | null>>();

function resultsOf(name: string): Signal<Results | null> {
  let found = results.get(name);
  if (found === undefined) {
    found = signal<Results | null>(null);
    results.set(name, found);
  }
  return found;
}

function useResults(names: readonly string[]): void {
  const key = names.join("\n");
  useEffect(() => {
    let over = false;
    const readAt = new Map<string, number>();
    const turn = async () => {
      if (over) return;
      if (!document.hidden && !isStale.value) {
        const due = names.filter((name) => performance.now() - (readAt.get(name) ?? -Infinity) > 15_000);
        const oldest = due.sort((a, b) => (readAt.get(a) ?? 0) - (readAt.get(b) ?? 0))[0];
        if (oldest !== undefined) {
          readAt.set(oldest, performance.now());
          try {
            resultsOf(oldest).value = await get<Results>(`/experiments/${enc(oldest)}/results`);
          } catch {
            // Its turn comes again; the connection says by itself that it is lost.
          }
        }
      }
      if (!over) setTimeout(() => void turn(), readAt.size < names.length ? 60 : 1_000);
    };
    void turn();
    return () => {
      over = true;
    };
  }, [key]);
}

/** What the frames say of the gateway's state; the same text is the same state. */
const state = computed(() => stateOf(frame.value));

function Needs({ all }: { all: Need[] }) {
  const [worst] = all;
  const more = all.length - 1;
  return (
    <div class="needs" role="status">
      {worst ? (
        <Note kind={worst.kind} action={worst.action !== "" && <a class="btn" href={worst.to}>{worst.action}</a>}>
          <p><b>{worst.head}</b></p>
          <p>{worst.body}{more > 0 && ` And ${more} more${all[1] ? `: ${all[1].head}` : ""}`}</p>
        </Note>
      ) : (
        <Note kind="plain"><p>Nothing needs you.</p></Note>
      )}
    </div>
  );
}

function Figures() {
  return (
    <section class="figs" aria-label="All routes together">
      <div class="fig"><div class="k">requests</div><div class="n"><Now of={(f) => perSecond(f.gateway.rate)} /></div><Spark column="rate" /></div>
      <div class="fig"><div class="k">failed</div><div class="n"><Now of={(f) => percent(f.gateway.failed)} /></div><Spark column="failed" /></div>
      <div class="fig"><div class="k">rejected by Weir</div><div class="n"><Now of={(f) => perSecond(f.gateway.rejected)} /></div><Spark column="rejected" /></div>
      <div class="fig"><div class="k">requests under way</div><div class="n"><Now of={(f) => ({ number: grouped(f.gateway.in_flight), unit: "" })} /></div></div>
      <div class="fig"><div class="k">client connections</div><div class="n"><Now of={(f) => ({ number: grouped(f.gateway.connections), unit: "" })} /></div></div>
    </section>
  );
}

function rampWords(experiment: Experiment): string | null {
  const { ramp } = experiment;
  if (!ramp) return null;
  const place = ramp.step === 0 ? "warm-up" : ramp.step > ramp.steps ? "verification" : `step ${ramp.step} of ${ramp.steps}`;
  switch (ramp.state) {
    case "running": return `${ramp.variant} ramps: ${place}`;
    case "holding": return `${ramp.variant} holds: ${place}`;
    case "paused": return `${ramp.variant} ramps, paused: ${place}`;
    case "rolled_back": return `${ramp.variant} was rolled back`;
    case "promoted": return `${ramp.variant} was promoted`;
    default: return null;
  }
}

export function Who({ of }: { of: Pick<Experiment, "changed_by" | "changed_at" | "reason" | "revision" | "state"> }) {
  const did = of.state === "stopped" ? "stopped it" : of.revision === 1 ? "made it" : "changed it";
  return (
    <p class="who">
      <b>{of.changed_by}</b> {did}, <Time at={of.changed_at} />{of.reason ? <>: “{of.reason}”</> : "."}
    </p>
  );
}

function Experimented({ of, backend }: { of: Experiment; backend: string }) {
  const order = variantOrder(of);
  const shares = order.map((name) => Math.round((of.variants[name]?.share ?? 0) * 10_000));
  const all = parts(order, shares);
  const found = resultsOf(of.name).value;
  const runs = of.state === "running";
  return (
    <div class="experiment">
      <div class="ex">
        <h3><a href={`/experiments/${enc(of.name)}`}>{of.name}</a></h3>
        {!runs && <span class={`tag${of.state === "stopped" ? " bad" : ""}`}>{of.state}</span>}
        <span class="s q">revision {of.revision}{runs ? ", running" : ""}{of.owner === "file" ? ", owned by the file" : ""}</span>
        <span class="s q right">{runs ? rampWords(of) : null}</span>
      </div>
      {runs ? (
        <>
          <Bar of={all} />
          <SplitKey of={all} rates={(part) => <Now of={(f) => perSecond(f.experiments[of.name]?.variants[part.name]?.rate)} />} />
          <ul class="vlist">
            {order.slice(1).map((name, at) => {
              const rate = frame.peek()?.experiments[of.name]?.variants[name]?.rate ?? null;
              return (
                <li key={name}>
                  <Swatch at={at + 1} name={name} />
                  {(of.variants[name]?.share ?? 0) === 0 && !found?.variants[name]?.requests ? (
                    <span class="q">gets no traffic</span>
                  ) : found ? (
                    <VerdictMark of={overall(name, found, rate)} />
                  ) : (
                    <span class="qq">–</span>
                  )}
                </li>
              );
            })}
          </ul>
        </>
      ) : (
        <>
          <Bar of={parts([backend], [10_000])} />
          <p class="s q more">Everything goes to <b>{backend}</b>. Results up to then are kept.</p>
        </>
      )}
      <Who of={of} />
    </div>
  );
}

function Shadows({ of }: { of: Shadow[] }) {
  return (
    <>
      {of.map((shadow) => (
        <p key={shadow.name} class="s q more">
          Shadow <Swatch at={1} name={shadow.name} shadow />: copies {shadow.percent}{NB}% of requests to {shadow.backend};{" "}
          <Now of={(f) => perSecond(f.shadows[shadow.name]?.rate)} />, failed <Now of={(f) => percent(f.shadows[shadow.name]?.failed)} />
          {shadow.comparison?.agreement.value !== undefined && shadow.comparison.agreement.value !== null && `; ${said(percent(shadow.comparison.agreement.value))} agree with what the client got`}
        </p>
      ))}
    </>
  );
}

function RouteArticle({ of, experiments, shadows }: { of: Route; experiments: Experiment[]; shadows: Shadow[] }) {
  return (
    <article class="route" aria-labelledby={`route-${of.name}`}>
      <div>
        <h3 id={`route-${of.name}`}>{of.name}</h3>
        <div class="xs qq mono">{of.pattern}{of.model ? `, model ${of.model}` : ""}</div>
        <Spark column={`${of.name}/rate`} />
        <dl class="nums">
          <dt>rate</dt><dd><Now of={(f) => perSecond(f.routes[of.name]?.rate)} /></dd>
          <dt>failed</dt><dd><Now of={(f) => percent(f.routes[of.name]?.failed)} /></dd>
          <dt>p95</dt><dd><Now of={(f) => latency(f.routes[of.name]?.p95)} /></dd>
        </dl>
      </div>
      <div>
        {experiments.map((experiment) => <Experimented key={experiment.name} of={experiment} backend={of.backend} />)}
        {experiments.length === 0 && <p class="s q">Nothing is split: everything goes to <b>{of.backend}</b>.</p>}
        <Shadows of={shadows} />
      </div>
    </article>
  );
}

interface ChangeItem {
  experiment: string;
  order: string[];
  row: Revision;
  before: Revision | undefined;
}

/** The newest revisions of the experiments that changed last. */
function useChanges(experiments: readonly Experiment[]): ChangeItem[] {
  const latest = experiments.slice().sort((a, b) => b.changed_at.localeCompare(a.changed_at)).slice(0, 4);
  const key = latest.map((of) => `${of.name}@${of.revision}`).join("\n");
  const found = useMemo(() => signal<ChangeItem[]>([]), []);
  useEffect(() => {
    let over = false;
    void Promise.all(
      latest.map(async (of) => {
        const { revisions } = await get<{ revisions: Revision[] }>(`/experiments/${enc(of.name)}/history?limit=7`);
        return revisions.slice(0, 6).map((row, at) => ({ experiment: of.name, order: variantOrder(of), row, before: revisions[at + 1] }));
      }),
    )
      .then((all) => {
        if (!over) found.value = all.flat().sort((a, b) => b.row.at.localeCompare(a.row.at)).slice(0, 7);
      })
      .catch(() => undefined);
    return () => {
      over = true;
    };
  }, [key]);
  return found.value;
}

export function revisionWords(order: readonly string[], row: Revision, before: Revision | undefined): string {
  const shares = (of: Revision) => sharesOf(order.map((name) => of.weights[name] ?? 0));
  if (row.state === "stopped") return "stopped";
  if (row.state === "ended") return "ended";
  if (row.undoes !== null) return `undo of ${row.undoes}`;
  const same = before && before.state === row.state ? shares(before) : null;
  const words = changeWords(order, same, shares(row));
  return words === "" ? "the same shares" : before && before.state !== row.state ? `started again, ${words}` : words;
}

function Changes({ of }: { of: Experiment[] }) {
  const changes = useChanges(of);
  return (
    <aside aria-labelledby="h-c">
      <div class="sub"><header><h2 id="h-c">Changes</h2></header></div>
      {changes.length === 0 && <p class="s q">Nothing was changed yet.</p>}
      <ol class="log">
        {changes.map(({ experiment, order, row, before }) => (
          <li key={`${experiment}@${row.revision}`}>
            <div class="spread"><b>{row.by}</b><span class="qq xs"><Time at={row.at} /></span></div>
            <p><a href={`/experiments/${enc(experiment)}`}>{experiment}</a> r{row.revision}: {revisionWords(order, row, before)}</p>
            <Bar size="tiny" of={parts(order, row.state === "running" ? sharesOf(order.map((name) => row.weights[name] ?? 0)) : order.map((_, at) => (at === 0 ? 10_000 : 0)))} />
            {row.reason && <p class="q">“{row.reason}”</p>}
          </li>
        ))}
      </ol>
    </aside>
  );
}

/** From so many routes on there is a field to find one. */
const MANY = 12;

export function Overview() {
  const routes = useResource<List<Route>>("/routes").value as Held<List<Route>>;
  const experiments = useResource<List<Experiment>>("/experiments").value;
  const shadows = useResource<List<Shadow>>("/shadows", 30).value;
  const status = useResource<Status>("/status", 30).value;
  const filter = useMemo(() => signal(""), []);
  const all = experiments.data?.items ?? [];
  const running = all.filter((of) => of.state === "running");
  useResults(running.map((of) => of.name));
  const need = useMemo(
    () => computed(() => needs({ experiments: all, results: (name) => resultsOf(name).value, state: state.value, status: status.data })),
    [experiments, status],
  );

  if (routes.error && !routes.data) return <><h1>Overview</h1><Trouble what="The routes" message={routes.error.message} /></>;
  if (!routes.data || !experiments.data) return <><h1>Overview</h1><Waiting what="routes and experiments" /></>;
  const wanted = filter.value.trim().toLowerCase();
  const shown = routes.data.items.filter(
    (route) => wanted === "" || [route.name, route.pattern, ...route.experiments].some((text) => text.toLowerCase().includes(wanted)),
  );
  const many = routes.data.items.length > MANY;
  const nouns = [...new Set(running.map((of) => unitNoun(of.unit).many))];
  return (
    <>
      <div class="spread base">
        <h1>{counted(routes.data.items.length, "route")}, {counted(running.length, "experiment")} running</h1>
        <span class="s qq nb">last 10 minutes</span>
      </div>
      <NeedsNow of={need} />
      <Figures />
      <div class="ov">
        <section aria-labelledby="h-r">
          <div class="sub">
            <header>
              <h2 id="h-r">Routes</h2>
              <span class="s">{nouns.length > 0 ? `shares are of ${listed(nouns)}; rates are what arrives now` : "rates are what arrives now"}</span>
            </header>
          </div>
          {many && (
            <label class="find">
              <span class="sr">Find a route or an experiment</span>
              <input class="field" type="search" placeholder="Find a route or an experiment" value={filter.value} onInput={(event) => (filter.value = event.currentTarget.value)} />
            </label>
          )}
          {routes.data.items.length === 0 && (
            <p class="q">There is no route yet. Routes stand in the configuration file: <code>[routes.chat]</code> with a path and a backend.</p>
          )}
          {shown.length === 0 && many && <p class="q">No route or experiment is called so.</p>}
          {shown.map((route) => (
            <RouteArticle
              key={route.name}
              of={route}
              experiments={all.filter((of) => of.route === route.name)}
              shadows={(shadows.data?.items ?? []).filter((of) => of.route === route.name)}
            />
          ))}
        </section>
        <Changes of={all} />
      </div>
    </>
  );
}

function NeedsNow({ of }: { of: { value: Need[] } }) {
  return <Needs all={of.value} />;
}
