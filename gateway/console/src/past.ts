// The last minutes as columns: what charts and sparklines are drawn from. A place for each step of seconds,
// the same places in every column; a gap in the data stays a gap.
import type { Frame, News } from "./live";

export type Column = (number | null)[];

/** The `history` event of the stream. */
export interface History {
  at_unix: number[];
  step?: number;
  boot_id?: string;
  gateway?: Record<string, Column>;
  routes?: Record<string, Record<string, Column>>;
  experiments?: Record<string, { variants: Record<string, Record<string, Column>> }>;
  events?: News[];
}

/** Seconds that are kept. */
const KEPT = 15 * 60;

const GATEWAY = ["rate", "failed", "rejected"] as const;
const ROUTE = ["rate", "failed", "p95"] as const;
const VARIANT = ["rate", "failed", "assigned_share", "p50", "p95", "p99"] as const;

/** A place in the making: sums over its seconds. */
interface Making {
  place: number;
  seconds: number;
  sums: Map<string, { sum: number; weight: number; count: number }>;
}

export class Past {
  /** Seconds since 1970 at which each place ends. */
  readonly times: number[] = [];
  step = 1;
  /** Revisions and other news of the time that is kept. */
  readonly news: News[] = [];
  private columns = new Map<string, Column>();
  private making: Making | null = null;

  clear(): void {
    this.times.length = 0;
    this.columns.clear();
    this.news.length = 0;
    this.making = null;
  }

  /** Begins anew with what the gateway kept. */
  begin(history: History): void {
    this.clear();
    this.step = history.step ?? 1;
    for (const at of history.at_unix) this.times.push(at);
    const put = (key: string, column: Column | undefined) => {
      if (column) this.columns.set(key, column.slice());
    };
    for (const of of GATEWAY) put(of, history.gateway?.[of]);
    for (const [route, columns] of Object.entries(history.routes ?? {})) {
      for (const of of ROUTE) put(`${route}/${of}`, columns[of]);
    }
    for (const [name, { variants }] of Object.entries(history.experiments ?? {})) {
      for (const [variant, columns] of Object.entries(variants)) {
        for (const of of VARIANT) put(`${name}/${variant}/${of}`, columns[of]);
      }
    }
    for (const news of history.events ?? []) this.news.push(news);
  }

  /** Adds one second. */
  add(frame: Frame): void {
    if (this.times.length > 0 && frame.at_unix <= (this.times.at(-1) ?? 0) && this.step === 1) return;
    for (const news of frame.events) this.news.push(news);
    const place = Math.floor((frame.at_unix - 1) / this.step);
    if (this.making === null || this.making.place !== place) {
      this.making = { place, seconds: 0, sums: new Map() };
      // The last place of the history may be this one: then it is made again from here on.
      const last = this.times.at(-1);
      if (last === undefined || Math.floor((last - 1) / this.step) < place) this.push(frame.at_unix);
    }
    this.making.seconds += 1;
    this.times[this.times.length - 1] = frame.at_unix;
    this.count("rate", frame.gateway.rate);
    this.count("failed", frame.gateway.failed, frame.gateway.rate);
    this.count("rejected", frame.gateway.rejected);
    for (const [name, route] of Object.entries(frame.routes)) {
      this.count(`${name}/rate`, route.rate);
      this.count(`${name}/failed`, route.failed, route.rate);
      this.count(`${name}/p95`, route.p95);
    }
    // Variants are drawn on the page of one experiment only.
    if (this.step > 1) return;
    for (const [name, experiment] of Object.entries(frame.experiments)) {
      for (const [variant, of] of Object.entries(experiment.variants)) {
        for (const column of VARIANT) this.count(`${name}/${variant}/${column}`, of[column]);
      }
    }
  }

  /** A column; empty if there is none. It has a place for each of `times`. */
  column(key: string): Column {
    const column = this.columns.get(key) ?? [];
    while (column.length < this.times.length) column.unshift(null);
    return column;
  }

  private push(at: number): void {
    this.times.push(at);
    for (const column of this.columns.values()) column.push(null);
    const most = Math.ceil(KEPT / this.step);
    while (this.times.length > most) {
      this.times.shift();
      for (const column of this.columns.values()) column.shift();
    }
  }

  private count(key: string, value: number | null, weight = 1): void {
    let column = this.columns.get(key);
    if (column === undefined) {
      column = new Array<number | null>(this.times.length).fill(null);
      this.columns.set(key, column);
    }
    if (this.step === 1) {
      column[this.times.length - 1] = value;
      return;
    }
    if (this.making === null) return;
    const sums = this.making.sums.get(key) ?? { sum: 0, weight: 0, count: 0 };
    if (value !== null) {
      sums.sum += value * weight;
      sums.weight += weight;
      sums.count += 1;
    }
    this.making.sums.set(key, sums);
    column[this.times.length - 1] = sums.count === 0 ? null : sums.weight > 0 ? sums.sum / sums.weight : 0;
  }
}

/** Sliding mean of `column` over `places` places up to each, leaving gaps where nothing is known. With
 *  `weights`, each place counts as much as its weight: a rate of failures over requests. `cuts` are places
 *  that a mean never reaches across. */
export function sliding(column: Column, places: number, weights?: Column, cuts: readonly number[] = []): Column {
  const out: Column = new Array<number | null>(column.length).fill(null);
  let from = 0;
  for (let at = 0; at < column.length; at += 1) {
    if (cuts.includes(at)) from = at;
    let sum = 0;
    let weight = 0;
    for (let back = Math.max(from, at - places + 1); back <= at; back += 1) {
      const value = column[back];
      const each = weights ? weights[back] ?? 0 : 1;
      if (value === null || value === undefined) continue;
      sum += value * each;
      weight += each;
    }
    out[at] = weight > 0 ? sum / weight : null;
  }
  return out;
}
