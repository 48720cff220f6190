// Verdicts in words: first what was found, then how sure that is. The numbers are the gateway's; here
// they are only read out.
import type { Bounded, Compared, Results, VariantResult } from "../api";
import { NB, about, figures, grouped, latency, percent, said, signed } from "./numbers";
import { duration } from "./times";

export type Sign = "worse" | "better" | "no_worse" | "early";

export interface Verdict {
  readonly sign: Sign;
  /** `worse`, `no worse`, `better`, `too early`, `withheld`. */
  readonly word: string;
  /** What stands after the colon; may be empty. */
  readonly sentence: string;
}

export interface Measure {
  readonly label: string;
  readonly note: string;
  readonly kind: "part" | "time" | "score";
}

const WEEK = 7 * 86_400;

export function measure(key: string): Measure {
  switch (key) {
    case "error_rate":
    case "failed":
      return { label: "Failed", note: "of requests", kind: "part" };
    case "client_error":
      return { label: "Refused as invalid", note: "4xx", kind: "part" };
    case "aborted":
      return { label: "Client left early", note: "of requests", kind: "part" };
    case "first_byte_p95":
      return { label: "Time to first byte", note: "p95", kind: "time" };
    case "token_time_p50":
      return { label: "Time per output token", note: "p50", kind: "time" };
    case "latency_p50":
    case "latency_p95":
    case "latency_p99":
      return { label: "Total time", note: key.slice(8), kind: "time" };
    default:
      return { label: key.startsWith("feedback:") ? key.slice(9).replaceAll("_", " ") : key, note: "", kind: "score" };
  }
}

/** The number of one variant for a measure, as it is written. */
export function valueOf(key: string, of: VariantResult): string {
  const part = (count: number) => said(percent(of.requests > 0 ? count / of.requests : null));
  switch (key) {
    case "error_rate":
      return said(percent(of.error_rate.value));
    case "client_error":
      return part(of.outcomes.client_error ?? 0);
    case "aborted":
      return part(of.outcomes.client_aborted ?? 0);
    case "first_byte_p95":
      return said(latency(of.time_to_first_byte.p95.value));
    case "token_time_p50":
      return said(latency(of.token_time.p50.value));
    case "latency_p50":
      return said(latency(of.latency.p50.value));
    case "latency_p95":
      return said(latency(of.latency.p95.value));
    case "latency_p99":
      return said(latency(of.latency.p99.value));
    default: {
      const metric = of.metrics[key.slice("feedback:".length)];
      if (!metric || metric.mean === null) return "–";
      const isPart = metric.low !== null && metric.low >= 0 && (metric.high ?? 2) <= 1;
      return isPart ? said(percent(metric.mean)) : signed(figures(metric.mean, 3));
    }
  }
}

/** `3.1× as often (2.0 to 4.9)`. */
function times(ratio: Bounded, how: string): string {
  // Against nothing at all there is no ratio, but a bound of it.
  if (ratio.value === null || ratio.value === 0) {
    if (ratio.value === null && (ratio.low ?? 0) > 0) return `at least ${figures(ratio.low ?? 0)}×${NB}as ${how}`;
    return ratio.high === null ? `otherwise ${how}` : `at most ${figures(ratio.high)}×${NB}as ${how}`;
  }
  return `${figures(ratio.value ?? 0)}×${NB}as ${how}${between(ratio, (value) => figures(value))}`;
}

function between(of: { low: number | null; high: number | null }, write: (value: number) => string): string {
  if (of.low === null && of.high === null) return "";
  if (of.high === null) return ` (${write(of.low ?? 0)} or more)`;
  return ` (${write(of.low ?? 0)} to ${write(of.high)})`;
}

/** How much more or less in percent, with the interval turned so that it reads upwards: `22 % slower (14 to 31)`. */
function change(ratio: Bounded, more: string, less: string): string {
  const value = ratio.value ?? 1;
  const isMore = value >= 1;
  const size = (end: number) => Math.abs(end - 1) * 100;
  // The interval in the direction of the value; an end on the other side is below zero.
  const turned = (end: number) => (isMore ? (end - 1) * 100 : (1 - end) * 100);
  const [low, high] = isMore ? [ratio.low, ratio.high] : [ratio.high, ratio.low];
  const write = (end: number) => signed(Math.abs(end) >= 10 ? end.toFixed(0) : end.toFixed(Math.abs(end) < 0.95 ? 1 : 0));
  const ends = between({ low: low === null ? null : turned(low), high: high === null ? null : turned(high) }, write);
  return `${write(size(value))}${NB}% ${isMore ? more : less}${ends}`;
}

const liked = (label: string) => /thumb|like|vote|upvote/.test(label);

/** `liked 10 % less often (3 to 17)`, `7 % lower (2 to 12)`. */
function opinion(label: string, ratio: Bounded): string {
  return liked(label) ? `liked ${change(ratio, "more often", "less often")}` : change(ratio, "higher", "lower");
}

function excludesOne(ratio: Bounded): boolean {
  return (ratio.low ?? 0) > 1 || (ratio.high ?? Infinity) < 1;
}

/** Of requests still needed, and how long they take at `rate` a second. */
export function tooEarly(needed: number | null, rate: number | null, nothing: string, noun = "requests"): string {
  if (needed === null) return nothing;
  const seconds = rate !== null && rate > 0 ? needed / rate : null;
  if (seconds !== null && seconds > WEEK) return "more than a week at this rate";
  const long = seconds === null || seconds < 1 ? "" : `, ${duration(seconds)} at this rate`;
  return `about ${about(needed)} more ${noun}${long}`;
}

/** The verdict on one measure. `rate`: requests a second of the variant. */
export function verdictOf(key: string, compared: Compared, of: VariantResult, control: string, rate: number | null): Verdict {
  const { label, note, kind } = measure(key);
  const { ratio, above_mark: above } = compared;
  const mark = `${control}’s ${note}`;
  switch (compared.verdict) {
    case "worse": {
      const sentence =
        kind === "time"
          ? excludesOne(ratio) || above === null || above.value === null
            ? change(ratio, "slower", "faster")
            : `takes longer than ${mark} ${times(above, "often")}`
          : kind === "score"
            ? opinion(label, ratio)
            : `${key === "error_rate" ? "fails " : ""}${times(ratio, "often")}`;
      return { sign: "worse", word: "worse", sentence };
    }
    case "better": {
      const sentence =
        kind === "time"
          ? change(ratio, "slower", "faster")
          : kind === "score"
            ? opinion(label, ratio)
            : `${key === "error_rate" ? "fails " : ""}${times(ratio, "often")}`;
      return { sign: "better", word: "better", sentence };
    }
    case "no_worse": {
      const { ceiling } = compared.thresholds;
      const within = ratio.high !== null && ratio.high <= 1 + compared.margin + 1e-9;
      let sentence = "";
      if (kind === "part" && !within && ceiling !== null) {
        sentence = `${valueOf(key, of)} ${key === "error_rate" ? "fail" : "of requests"}, under the ceiling of ${said(percent(ceiling))}`;
      } else if (kind === "time" && !within && above !== null && above.value !== null) {
        sentence = `takes longer than ${mark} ${times(above, "often")}`;
      } else if (ratio.value !== null) {
        sentence = times(ratio, kind === "time" ? "long" : kind === "score" ? "high" : "often");
      }
      return { sign: "no_worse", word: "no worse", sentence };
    }
    case "too_early": {
      const isFeedback = key.startsWith("feedback:");
      const answers = isFeedback ? of.metrics[key.slice(9)]?.count ?? 0 : 1;
      const nothing = answers === 0 ? "nobody sends feedback" : "not decided yet";
      return { sign: "early", word: "too early", sentence: tooEarly(compared.needed, isFeedback ? null : rate, nothing, isFeedback ? "answers" : "requests") };
    }
  }
}

export const WITHHELD: Verdict = { sign: "early", word: "withheld", sentence: "" };

/** Measures in the order in which they are shown; feedback last. */
export function ordered(keys: string[]): string[] {
  const known = ["error_rate", "client_error", "aborted", "first_byte_p95", "token_time_p50", "latency_p50", "latency_p95", "latency_p99"];
  const place = (key: string) => (known.includes(key) ? known.indexOf(key) : known.length);
  return keys.slice().sort((a, b) => place(a) - place(b));
}

/** One variant in one verdict: what is worst of it, else what is still open, else that all holds. */
export function overall(name: string, results: Results, rate: number | null): Verdict {
  const of = results.variants[name];
  if (results.sample_ratio.verdict === "mismatch") return WITHHELD;
  if (!of?.versus_control) return { sign: "early", word: "too early", sentence: "nothing is compared yet" };
  const all = ordered(Object.keys(of.versus_control)).map((key) => [key, of.versus_control![key]!] as const);
  const worst = all.find(([, compared]) => compared.required && compared.verdict === "worse") ?? all.find(([, compared]) => compared.verdict === "worse");
  if (worst) return verdictOf(worst[0], worst[1], of, results.control, rate);
  if (of.verdict === "too_early") {
    return { sign: "early", word: "too early", sentence: tooEarly(of.needed ?? null, rate, "nothing shown against it") };
  }
  const required = all.filter(([, compared]) => compared.required);
  const better = required.find(([, compared]) => compared.verdict === "better");
  const held = `all ${required.length} measures that must hold do`;
  if (!better) return { sign: "no_worse", word: "no worse", sentence: held };
  const told = verdictOf(better[0], better[1], of, results.control, rate);
  const { label, note } = measure(better[0]);
  return { sign: "better", word: "better", sentence: `${label.toLowerCase()} ${note} ${told.sentence}; ${held}` };
}

/** How a chance is written: `0.62`, `0.0000004`. */
export function chance(p: number): string {
  if (p >= 0.995) return "1";
  return p >= 0.01 ? p.toFixed(2) : p >= 1e-9 ? p.toFixed(Math.min(12, Math.ceil(-Math.log10(p)))) : "under 0.000000001";
}

/** `16,954 requests of 5,211 users`. */
export function basis(of: VariantResult, noun: string): string {
  const requests = `${grouped(of.requests)} requests`;
  return of.units === null || noun === "requests" ? requests : `${requests} of ${grouped(of.units)} ${noun}`;
}
