// The split: bar and fall beside the fields; a draft, its preview, and putting it in force.
import { useEffect, useRef, useState } from "preact/hooks";
import { busy, conflict, putInForce, undo } from "../../act";
import { may, me, variantOrder } from "../../api";
import type { Experiment, Revision } from "../../api";
import { Fall, type Dealt } from "../../charts/fall";
import { frame, isStale } from "../../live";
import { Dialog } from "../../parts/floating";
import { Bar, Qty, SplitKey, Swatch, Time, UndoIcon, parts } from "../../parts/marks";
import { Now } from "../../parts/live";
import { grouped, NB, perSecond, share } from "../../words/numbers";
import { moved, parsePercent, preview, previewWords, sharesOf, type, unitNoun, changeWords } from "../../words/split";
import { unix } from "../../words/times";
import { again, discard, draft, draftOf, redraft, sharesInForce } from "./draft";
import { Track } from "./track";

/** Revisions with the shares they dealt, newest first. */
export function dealt(of: Experiment, revisions: readonly Revision[]): Dealt[] {
  const order = variantOrder(of);
  const shares = (row: Revision) =>
    row.state === "running" ? sharesOf(order.map((name) => row.weights[name] ?? 0)) : order.map((_, at) => (at === 0 ? 10_000 : 0));
  return revisions.map((row, at) => {
    const before = revisions[at + 1];
    const words =
      row.state !== "running" ? row.state : row.undoes !== null ? `undo of ${row.undoes}` : changeWords(order, before ? shares(before) : null, shares(row));
    return { revision: row.revision, at: unix(row.at) ?? 0, shares: shares(row), words: `${row.by}: ${words}` };
  });
}

/** Why the split cannot be moved here; `null` if it can. */
function lock(of: Experiment): "state" | "file" | "role" | "stale" | null {
  if (of.state !== "running") return "state";
  if (of.owner === "file") return "file";
  if (!may("experiment:weights")) return "role";
  return isStale.value ? "stale" : null;
}

/** The file's text that would make a split. */
function tomlOf(of: Experiment): string {
  const lines = variantOrder(of).map((name) => `${name} = { backend = "${of.variants[name]?.backend ?? ""}", weight = ${of.variants[name]?.weight ?? 0} }`);
  return `[experiments.${of.name}.variants]\n${lines.join("\n")}`;
}

function Locked({ why, of, backend }: { why: NonNullable<ReturnType<typeof lock>>; of: Experiment; backend: string }) {
  const who = me.value;
  switch (why) {
    case "state":
      return of.state === "ended" ? (
        <p class="s q">It is over: everything goes to <b>{backend}</b>. Results are kept.</p>
      ) : (
        <>
          <p>Everything goes to <b>{backend}</b> since <Time at={of.changed_at} />.</p>
          {may("experiment:undo") && of.owner !== "file" && (
            <p class="again-go"><button class="btn" type="button" disabled={busy.value !== null} onClick={() => void undo(of.name, of.revision)}><UndoIcon />Take the stop back</button></p>
          )}
        </>
      );
    case "file":
      return (
        <>
          <p>Change it in the configuration file; the gateway reads it again by itself.</p>
          <pre class="code">{tomlOf(of)}</pre>
        </>
      );
    case "role":
      return <p>You can look at everything here. Moving weights needs the role <b>experimenter</b>; your key <code>{who?.key.name}</code> is {who?.role}.</p>;
    case "stale":
      return <p class="s q">The split can be moved again once the gateway answers.{draftOf(of.name) ? " The draft is kept." : ""}</p>;
  }
}

function Field({ name, points, onType }: { name: string; points: number; onType: (points: number) => void }) {
  const [text, setText] = useState<string | null>(null);
  const wrong = text !== null && parsePercent(text) === null;
  return (
    <span class="pct">
      <input
        class="field" inputMode="decimal" autocomplete="off" aria-label={`${name}, percent`} aria-invalid={wrong}
        value={text ?? share(points)}
        onInput={(event) => {
          setText(event.currentTarget.value);
          const typed = parsePercent(event.currentTarget.value);
          if (typed !== null) onType(typed);
        }}
        onBlur={() => setText(null)}
      />
      <span aria-hidden="true">%</span>
    </span>
  );
}

/** What the draft would do, told once it has settled. */
function usePreviewTold(words: string, settled: number): string {
  const [told, tell] = useState("");
  useEffect(() => {
    if (words === "") {
      tell("");
      return undefined;
    }
    const timer = setTimeout(() => tell(words), 500);
    return () => clearTimeout(timer);
  }, [words, settled]);
  return told;
}

export function Split({ of, revisions, backend }: { of: Experiment; revisions: readonly Revision[]; backend: string }) {
  const names = variantOrder(of);
  const live = of.state === "running" ? sharesInForce(of) : names.map((_, at) => (at === 0 ? 10_000 : 0));
  const why = lock(of);
  const own = draftOf(of.name);
  // A draft is of the variants that were there when it was begun.
  const kept = own !== null && own.names.join() === names.join() ? own : null;
  const shares = kept?.shares ?? live;
  const seen = kept?.seen ?? { revision: of.revision, shares: live };
  const [settled, settle] = useState(0);
  const noun = unitNoun(of.unit);
  const rates = frame.value?.experiments[of.name]?.variants;
  const load = rates ? Object.values(rates).reduce((sum, each) => sum + each.rate, 0) : null;
  const told = preview(names, seen.shares, shares);
  const words = told.moved > 0 ? previewWords(told, noun.one, load) : null;
  const spoken = usePreviewTold(words ? `${words.move} ${words.keep}` : "", settled);
  const isBusy = busy.value === of.name;
  const canMove = why === null && !isBusy && names.length > 1;
  const reason = useRef<HTMLInputElement>(null);

  const move = (next: number[]) => {
    if (moved(live, next) === 0 && seen.revision === of.revision) discard();
    else redraft(of, next);
  };
  const send = async (event: Event) => {
    event.preventDefault();
    const wanted = draftOf(of.name);
    if (!wanted || told.moved === 0 || !canMove) return;
    const { seen: from, shares: next, names: order, to } = wanted;
    if (await putInForce({ of, seen: from, names: order, shares: next, reason: wanted.reason, to })) discard();
  };
  const escape = (event: KeyboardEvent) => {
    if (event.key === "Escape" && kept && !isBusy) discard();
  };
  const theirs = kept !== null && seen.revision !== of.revision;
  const ramp = of.ramp && ["running", "holding", "paused"].includes(of.ramp.state) ? of.ramp : null;
  const rampMoves = ramp !== null && shares[names.indexOf(ramp.variant)] !== seen.shares[names.indexOf(ramp.variant)];

  return (
    <section class={`weir${isStale.value ? " old" : ""}`} aria-label="Split" onKeyDown={escape}>
      <div class="crest">
        <Track names={names} live={seen.shares} shares={shares} canMove={canMove} onMove={move} onSettle={() => settle((count) => count + 1)} />
        <Fall experiment={of.name} names={names} dealt={dealt(of, revisions)} />
        <div class="fallnote">
          <span>What arrived in the last 5 minutes, newest on top. Dotted: what was dealt.</span>
          <span class="nb"><Qty of={perSecond(load)} /></span>
        </div>
      </div>
      <form class="dials" autocomplete="off" onSubmit={(event) => void send(event)}>
        <div class="th">share of {noun.many}</div><div class="th">&nbsp;</div><div class="th">now</div>
        {names.map((name, at) => (
          <Dial key={name} of={of} name={name} at={at} points={shares[at] ?? 0} canMove={canMove} onType={(points) => move(type(shares, at, points))} />
        ))}
        <div class="below">
          {why !== null && <div class="locked"><Locked why={why} of={of} backend={backend} /></div>}
          {why === null && !kept && (
            <p class="hint s qq">Drag a handle, or type. Arrow keys move a handle by 1{NB}%, with <kbd>Shift</kbd> by 0.1{NB}%. Nothing changes until you confirm.</p>
          )}
          {kept && (
            <div class="moves">
              {theirs && <p class="theirs s">{of.changed_by} put revision {of.revision} in force, <Time at={of.changed_at} />. Your draft starts from revision {seen.revision}.</p>}
              {words ? (
                <>
                  <p>{kept.to !== null ? `Back to revision ${kept.to}. ` : ""}{words.move.split(/(\d[\d,]* of 10,000)/).map((text, place) => (place === 1 ? <b key="moved">{text}</b> : text))}</p>
                  <p class="s q">{words.keep}</p>
                  {rampMoves && <p class="s q">The ramp of {ramp.variant} goes on judging, from the new share.</p>}
                </>
              ) : (
                <p>No {noun.one} bucket would move.</p>
              )}
              <label class="lab" for="why">Reason, for the history</label>
              <input
                class="field" id="why" ref={reason} maxLength={300} placeholder="What do you expect to see?" disabled={isBusy}
                value={kept.reason} onInput={(event) => (draft.value = { ...kept, reason: event.currentTarget.value })}
              />
              <div class="act">
                <button class="btn go" type="submit" disabled={!canMove || told.moved === 0}>Put revision {seen.revision + 1} in force</button>
                <button class="btn bare" type="button" disabled={isBusy} onClick={discard}>Discard <kbd>Esc</kbd></button>
              </div>
            </div>
          )}
          <div class="sr" role="status">{spoken}</div>
        </div>
      </form>
      {conflict.value?.experiment === of.name && <ConflictDialog of={of} />}
    </section>
  );
}

function Dial({ of, name, at, points, canMove, onType }: { of: Experiment; name: string; at: number; points: number; canMove: boolean; onType: (points: number) => void }) {
  return (
    <>
      <div class="cell">
        <span><Swatch at={at} name={name} /> {at === 0 && <span class="qq s">control</span>}</span>
        <span class="xs qq mono">{of.variants[name]?.backend ?? ""}</span>
      </div>
      <div class="cell num">
        {canMove && at > 0 ? <Field name={name} points={points} onType={onType} /> : <span class="read" title={at === 0 && canMove ? "Control has what the others leave" : undefined}>{share(points)}<span class="u">{NB}%</span></span>}
      </div>
      <div class="cell num s"><span><Now of={(f) => perSecond(f.experiments[of.name]?.variants[name]?.rate)} /></span></div>
    </>
  );
}

function ConflictDialog({ of }: { of: Experiment }) {
  const found = conflict.value!;
  const { theirs, seen, wanted, names } = found;
  const inForce = theirs.state === "running" ? sharesInForce(theirs) : names.map((_, at) => (at === 0 ? 10_000 : 0));
  const noun = unitNoun(of.unit);
  const close = () => {
    conflict.value = null;
  };
  const row = (label: string, shares: readonly number[], words?: string | null) => (
    <>
      <span class="qq">{label}</span>
      <div>
        <Bar of={parts(names, shares)} />
        <SplitKey of={parts(names, shares)} />
        {words && <p class="q">“{words}”</p>}
      </div>
    </>
  );
  return (
    <Dialog title={`${theirs.changed_by} changed this`} onClose={close}>
      <p class="q"><Time at={theirs.changed_at} />. You started from revision {seen.revision}; <b>revision {theirs.revision}</b> is in force now. Nothing of yours was applied.</p>
      <div class="cmp">
        {row(`you saw, r${seen.revision}`, seen.shares)}
        {row(`${theirs.changed_by}, r${theirs.revision}`, inForce, theirs.reason)}
        {row("you wanted", wanted)}
      </div>
      {theirs.state === "running" ? (
        <p>From revision {theirs.revision}, what you wanted would move <b>{grouped(moved(inForce, wanted))} of 10,000</b> {noun.one} buckets.</p>
      ) : (
        <p>It is {theirs.state} now: everything goes to the route’s backend.</p>
      )}
      <div class="act">
        {theirs.state === "running" && (
          <button
            class="btn go" type="button"
            onClick={() => {
              again(theirs, wanted, draftOf(of.name)?.reason ?? "");
              close();
            }}
          >
            Start again from revision {theirs.revision}
          </button>
        )}
        <button
          class="btn bare" type="button"
          onClick={() => {
            discard();
            close();
          }}
        >
          Discard mine
        </button>
      </div>
    </Dialog>
  );
}
