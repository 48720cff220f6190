// What each variant did against control: an interval beside every estimate, a word beside every interval.
import type { Compared, Experiment, Results } from "../../api";
import { IntervalPlot, RatioAxis } from "../../charts/interval";
import { frame } from "../../live";
import { Swatch, Tick, Time, VerdictMark } from "../../parts/marks";
import { NB, counted, listed } from "../../words/numbers";
import { unitNoun } from "../../words/split";
import { WITHHELD, basis, chance, measure, ordered, valueOf, verdictOf } from "../../words/verdict";

function headline(compared: Record<string, Compared>): { words: string; isWorse: boolean } {
  const all = Object.entries(compared);
  const worse = all.filter(([, each]) => each.verdict === "worse").map(([key]) => `${measure(key).label.toLowerCase()}${measure(key).note.startsWith("p") ? ` ${measure(key).note}` : ""}`);
  if (worse.length > 0) return { words: `worse on ${listed(worse)}`, isWorse: true };
  const required = all.filter(([, each]) => each.required);
  const held = required.filter(([, each]) => each.verdict !== "too_early").length;
  const open = required.length - held;
  if (open === 0) return { words: `all ${required.length} measures that must hold do`, isWorse: false };
  return { words: `${held} of ${counted(required.length, "measure")} that must hold ${held === 1 ? "does" : "do"}, ${open} open`, isWorse: false };
}

/** The part of the axis that is tolerated. */
function fine(key: string, compared: Compared): [number, number] {
  return measure(key).kind === "score" ? [1 - compared.margin, Infinity] : [0, 1 + compared.margin];
}

export function Verdicts({ of, results }: { of: Experiment; results: Results }) {
  const noun = unitNoun(of.unit);
  const mismatch = results.sample_ratio.verdict === "mismatch";
  const [control, ...others] = results.order;
  const revisions = results.revisions.map((each) => each.revision);
  const span = revisions.length > 1 ? `revisions ${Math.min(...revisions)} to ${Math.max(...revisions)} weighed apart` : `revision ${revisions[0] ?? results.revision}`;
  const compared = others.filter((name) => results.variants[name]?.versus_control && results.variants[name].requests > 0);
  const ofControl = results.variants[control ?? ""];
  return (
    <section class="sec" aria-labelledby="h-v">
      <header>
        <h2 id="h-v">Verdicts</h2>
        <span class="s">{results.since && <>since <Time exact at={results.since} />, </>}{span}. Intervals hold however often you look (95{NB}%)</span>
        <span class="s right">
          {mismatch ? (
            <span class="vd"><b class="waits">{cap(noun.many)} do not arrive as dealt. Verdicts are withheld.</b></span>
          ) : (
            <Tick>{cap(noun.many)} arrive as dealt (p = {chance(results.sample_ratio.p_value)}). <a href="#sr">Sample ratio</a></Tick>
          )}
        </span>
      </header>
      {compared.length === 0 && <p class="q">Nothing is compared yet: only {control} has had traffic.</p>}
      {compared.length > 0 && ofControl && (
        <table class="verdicts">
          <caption class="sr">Each variant against {control}</caption>
          <thead>
            <tr><th scope="col">measure</th><th class="num" scope="col">{control}</th><th class="num" scope="col">variant</th><th scope="col" class="iv">times {control}, interval; grey is within the margin</th><th scope="col">verdict</th></tr>
          </thead>
          {compared.map((name) => {
            const variant = results.variants[name]!;
            const against = variant.versus_control!;
            const head = headline(against);
            const at = results.order.indexOf(name);
            const rate = frame.value?.experiments[of.name]?.variants[name]?.rate ?? null;
            return (
              <tbody key={name}>
                <tr class="vhead">
                  <td colSpan={5}>
                    <b><Swatch at={at} name={name} /></b> <span class="q">against {control}, {basis(variant, noun.many)}: </span>
                    {mismatch ? "withheld" : head.isWorse ? <VerdictMark of={{ sign: "worse", word: head.words, sentence: "" }} /> : head.words}
                  </td>
                </tr>
                {ordered(Object.keys(against)).map((key) => {
                  const each = against[key]!;
                  const { label, note } = measure(key);
                  const about = [note, each.required ? "" : "not required"].filter((text) => text !== "").join(", ");
                  return (
                    <tr key={key}>
                      <td>{label}{about !== "" && <span class="qq"> {about}</span>}</td>
                      <td class="num q">{valueOf(key, ofControl)}</td>
                      <td class="num">{valueOf(key, variant)}</td>
                      <td class="iv"><IntervalPlot at={at} control={control ?? ""} ratio={each.ratio} fine={fine(key, each)} decided={each.verdict !== "too_early" && !mismatch} /></td>
                      <td class="word"><VerdictMark of={mismatch ? WITHHELD : verdictOf(key, each, variant, control ?? "", rate)} /></td>
                    </tr>
                  );
                })}
                <tr class="axisrow" aria-hidden="true"><td /><td /><td /><td class="iv"><RatioAxis /></td><td /></tr>
              </tbody>
            );
          })}
        </table>
      )}
    </section>
  );
}

function cap(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
