// How long each variant took, overlaid; since its evidence began.
import type { Results } from "../../api";
import { DensityChart } from "../../charts/density";
import { Time } from "../../parts/marks";

export function Latency({ results }: { results: Results }) {
  return (
    <section class="sub" aria-labelledby="h-lat">
      <header><h2 id="h-lat">Total time</h2><span class="s">{results.since && <>since <Time exact at={results.since} />, </>}log scale, each variant to area 1</span></header>
      <DensityChart names={results.order} of={(name) => results.variants[name]?.latency} />
    </section>
  );
}
