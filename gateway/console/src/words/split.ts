// The arithmetic of a split. Shares are in basis points: whole buckets, 10,000 in all. Control comes
// first; it has what the others leave.
import { about, grouped, listed, share } from "./numbers";

export const BUCKETS = 10_000;

/** Quotas closer than this count as equal, as in the gateway: `0.1 + 0.2` must round like `0.3`. */
const NOISE = 1e-6;

/** Weights as shares in basis points, rounded as the gateway does it: whole, 10,000 together, by largest
 *  remainder, the earlier of equal ones first; only a weight of 0 gets none. */
export function sharesOf(weights: readonly number[]): number[] {
  const largest = Math.max(0, ...weights);
  if (!(largest > 0)) return weights.map(() => 0);
  const sum = weights.reduce((all, weight) => all + weight / largest, 0);
  const quotas = weights.map((weight) => (weight / largest / sum) * BUCKETS);
  const shares = quotas.map((quota) => Math.floor(quota + NOISE));
  const rest = (at: number) => Math.round(Math.max(0, (quotas[at] ?? 0) - (shares[at] ?? 0)) / NOISE);
  const turns = weights.map((_, at) => at).filter((at) => (weights[at] ?? 0) > 0).map((at) => [rest(at), at] as const);
  turns.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const left = BUCKETS - shares.reduce((all, each) => all + each, 0);
  for (const [, at] of turns.slice(0, Math.max(0, left))) shares[at] = (shares[at] ?? 0) + 1;
  return shares;
}

/** Where the edge after variant `at` lies, in basis points from the left. */
export function edge(shares: readonly number[], at: number): number {
  return shares.slice(0, at + 1).reduce((all, each) => all + each, 0);
}

/** Handle `at` stands between variants `at` and `at + 1` and trades between these two alone. */
export function drag(shares: readonly number[], at: number, to: number, step = 1): number[] {
  const low = at === 0 ? 0 : edge(shares, at - 1);
  const high = edge(shares, at + 1);
  const place = Math.max(low, Math.min(high, Math.round(to / step) * step));
  const next = shares.slice();
  next[at] = place - low;
  next[at + 1] = high - place;
  return next;
}

/** A typed share takes from control or gives to it; there is no more to take than control has. */
export function type(shares: readonly number[], at: number, points: number): number[] {
  const own = shares[at] ?? 0;
  const most = own + (shares[0] ?? 0);
  const wanted = Math.max(0, Math.min(most, Math.round(points)));
  const next = shares.slice();
  next[at] = wanted;
  next[0] = most - wanted;
  return next;
}

/** What somebody typed as percent, in basis points; `null` if it is no share. */
export function parsePercent(text: string): number | null {
  const plain = text.trim().replace(",", ".").replace(/\s*%$/, "");
  if (!/^\d{0,3}(\.\d*)?$/.test(plain) || plain === "" || plain === ".") return null;
  const points = Math.round(Number(plain) * 100);
  return points <= BUCKETS ? points : null;
}

/** The handle nearest to `place`; of two that are as near, the one that can still move outwards. */
export function nearest(shares: readonly number[], place: number): number {
  let best = 0;
  let distance = Infinity;
  for (let at = 0; at < shares.length - 1; at += 1) {
    const away = Math.abs(edge(shares, at) - place);
    const outwards = place >= edge(shares, at);
    if (away < distance || (away === distance && outwards)) {
      best = at;
      distance = away;
    }
  }
  return best;
}

/** Buckets that change hands from `before` to `after`: what grows takes it from what shrinks, and no more. */
export function moved(before: readonly number[], after: readonly number[]): number {
  return after.reduce((all, share, at) => all + Math.max(0, share - (before[at] ?? 0)), 0);
}

export interface Preview {
  readonly moved: number;
  readonly from: string[];
  readonly to: string[];
  /** Not control, and nobody leaves them. */
  readonly kept: string[];
}

export function preview(names: readonly string[], before: readonly number[], after: readonly number[]): Preview {
  const from: string[] = [];
  const to: string[] = [];
  const kept: string[] = [];
  names.forEach((name, at) => {
    const rise = (after[at] ?? 0) - (before[at] ?? 0);
    if (rise < 0) from.push(name);
    if (rise > 0) to.push(name);
    // Who has nobody keeps nobody.
    if (rise >= 0 && at > 0 && (before[at] ?? 0) > 0) kept.push(name);
  });
  return { moved: moved(before, after), from, to, kept };
}

/** What the experiment keeps together, one and many, from the first place that its unit is looked for. */
export function unitNoun(unit: readonly string[]): { one: string; many: string } {
  const first = unit[0] ?? "request";
  const kind = first.split(":")[0];
  if (kind === "request") return { one: "request", many: "requests" };
  if (kind === "key") return { one: "key", many: "keys" };
  if (kind === "address") return { one: "address", many: "addresses" };
  if (/tenant|org|account|customer|team/i.test(first)) return { one: "tenant", many: "tenants" };
  if (/conversation|session|thread|chat/i.test(first)) return { one: "conversation", many: "conversations" };
  return { one: "user", many: "users" };
}

/** What would happen, in two sentences; the load is requests a second of the whole experiment. */
export function previewWords(told: Preview, noun: string, load: number | null): { move: string; keep: string } {
  const move = `About ${grouped(told.moved)} of 10,000 ${noun} buckets move, from ${listed(told.from)} to ${listed(told.to)}.`;
  const keep = told.kept.length === 0 ? "" : `None of them out of ${listed(told.kept, "or")}.`;
  const change = load === null ? null : (load * told.moved) / BUCKETS;
  const sides =
    change === null || change === 0 ? "" : change < 1 ? "At this load less than 1 request/s changes sides." : `At this load about ${about(change)} requests/s change sides.`;
  return { move, keep: [keep, sides].filter((text) => text !== "").join(" ") };
}

/** What changed from one revision to the next: `canary 5 → 10 %`. Control's part goes without saying. */
export function changeWords(names: readonly string[], before: readonly number[] | null, after: readonly number[]): string {
  if (before === null) return names.map((_, at) => share(after[at] ?? 0)).join(" : ");
  const changed = names.map((_, at) => at).filter((at) => (before[at] ?? 0) !== (after[at] ?? 0));
  const others = changed.filter((at) => at > 0);
  const told = others.length > 0 ? others : changed;
  return told.map((at) => `${names[at]} ${share(before[at] ?? 0)} → ${share(after[at] ?? 0)} %`).join(", ");
}
