// Every revision, newest first. Going back makes a new one; nothing is erased.
import { may, variantOrder } from "../../api";
import type { Experiment, Revision } from "../../api";
import { isStale } from "../../live";
import { Bar, Time, parts } from "../../parts/marks";
import { grouped } from "../../words/numbers";
import { sharesOf } from "../../words/split";
import { revisionWords } from "../overview";
import { redraft } from "./draft";

export function Revisions({ of, revisions, next }: { of: Experiment; revisions: readonly Revision[]; next: string | null }) {
  const order = variantOrder(of);
  const shares = (row: Revision) => (row.state === "running" ? sharesOf(order.map((name) => row.weights[name] ?? 0)) : order.map((_, at) => (at === 0 ? 10_000 : 0)));
  const canGoBack = may("experiment:undo") && of.owner !== "file" && of.state === "running" && !isStale.value;
  const back = (row: Revision) => {
    redraft(of, shares(row), row.revision);
    const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector(".weir")?.scrollIntoView({ block: "center", behavior: quiet ? "auto" : "smooth" });
    requestAnimationFrame(() => document.getElementById("why")?.focus({ preventScroll: true }));
  };
  return (
    <section class="sub" aria-labelledby="h-hi">
      <header><h2 id="h-hi">Revisions</h2><span class="s">going back makes a new revision; nothing is erased</span></header>
      <table class="hist">
        <thead><tr><th scope="col">rev.</th><th scope="col">when</th><th scope="col">who</th><th scope="col">what</th><th scope="col">why</th><th scope="col" class="num">buckets</th><th scope="col"><span class="sr">go back</span></th></tr></thead>
        <tbody>
          {revisions.slice(0, 30).map((row, at) => {
            const named = row.state === "running";
            return (
              <tr key={row.revision}>
                <td class="q">{row.revision}</td>
                <td class="nb q"><Time exact at={row.at} /></td>
                <td class="nb"><b>{row.by}</b></td>
                <td>{revisionWords(order, row, revisions[at + 1])}<Bar size="tiny" of={parts(order, shares(row))} /></td>
                <td class="why">{row.reason ? `“${row.reason}”` : <span class="qq">{row.source === "file" ? "as the file says" : "no reason given"}</span>}</td>
                <td class="num q">{grouped(row.buckets_moved)}</td>
                <td class="num">
                  {at === 0 ? <span class="s">in force</span> : canGoBack && named ? <button class="btn bare" type="button" onClick={() => back(row)}>Back to {row.revision}…<span class="sr"> (a preview first)</span></button> : null}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {next !== null && <p class="s qq more">Older ones: <code>weir history {of.name}</code></p>}
    </section>
  );
}
