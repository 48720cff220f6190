// What each variant does now: requests, failures and time, all over the same fifteen minutes and with the
// same revisions marked.
import { TimeChart, type Mark } from "../../charts/time";
import type { Dealt } from "../../charts/fall";
import { past, sliding5, sliding30 } from "./columns";
import { figures } from "../../words/numbers";

export function LiveCharts({ name, names, dealt }: { name: string; names: readonly string[]; dealt: readonly Dealt[] }) {
  const marks: Mark[] = dealt.filter((each) => each.revision > 1).map((each) => ({ at: each.at, label: `r${each.revision}` }));
  return (
    <section class="sec" aria-labelledby="h-live">
      <header><h2 id="h-live">Live</h2><span class="s">last 15 minutes</span></header>
      <div class="trio">
        <TimeChart id={`${name}/rate`} title="Requests" unit="per second, over 5 s" names={names} marks={marks} column={(variant) => sliding5(name, variant)} words={(value) => (value >= 100 ? value.toFixed(0) : value === 0 ? "0" : value.toFixed(1))} />
        <TimeChart id={`${name}/failed`} title="Failed" unit="% of requests, over 30 s" names={names} marks={marks} column={(variant) => sliding30(name, variant)} words={(value) => (value === 0 ? "0" : figures(value))} />
        <TimeChart id={`${name}/p95`} title="Total time, p95" unit="ms, over 10 s" names={names} marks={marks} column={(variant) => past.column(`${name}/${variant}/p95`).map((value) => (value === null ? null : value * 1000))} words={(value) => figures(value, 3)} />
      </div>
    </section>
  );
}
