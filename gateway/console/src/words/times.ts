// How times are written: how long ago up to an hour, the clock today, the day before that; always local,
// with the full UTC time at hand. Seconds since 1970 in, words out.
import { NB } from "./numbers";

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const two = (value: number) => String(value).padStart(2, "0");

/** Seconds since 1970 of a time of the API; `null` of none. */
export function unix(text: string | null | undefined): number | null {
  if (!text) return null;
  // The API writes up to nine places of a second; Date reads three.
  const at = Date.parse(text.replace(/(\.\d{3})\d+/, "$1"));
  return Number.isNaN(at) ? null : at / 1000;
}

/** A span in its two largest units: `12 s`, `2 min 40 s`, `11 min`, `2 h 5 min`, `4 d 3 h`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const both = (large: number, unit: string, small: number, smallUnit: string) =>
    small === 0 ? `${large}${NB}${unit}` : `${large}${NB}${unit} ${small}${NB}${smallUnit}`;
  if (whole < 60) return `${whole}${NB}s`;
  if (whole < 300) return both(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 3600) return `${Math.floor(whole / 60)}${NB}min`;
  if (whole < 86_400) return both(Math.floor(whole / 3600), "h", Math.floor(whole / 60) % 60, "min");
  return both(Math.floor(whole / 86_400), "d", Math.floor(whole / 3600) % 24, "h");
}

/** `14:40:10`, local. */
export function clock(at: number): string {
  const date = new Date(at * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `14:40`, local. */
export function minute(at: number): string {
  return clock(at).slice(0, 5);
}

/** The clock today; with the day before that, and with the date before this week. */
export function stamp(at: number, now: number): string {
  const date = new Date(at * 1000);
  const today = new Date(now * 1000);
  if (date.toDateString() === today.toDateString()) return clock(at);
  const time = minute(at);
  if (now - at < 6 * 86_400 && at <= now) return `${DAYS[date.getDay()]}${NB}${time}`;
  const day = `${date.getDate()}${NB}${MONTHS[date.getMonth()]}`;
  return date.getFullYear() === today.getFullYear() ? `${day} ${time}` : `${day} ${date.getFullYear()}`;
}

/** `now`, `12 s ago`, `3 min ago`; from an hour on, when it was. What is to come is told by its time. */
export function ago(at: number, now: number): string {
  const since = now - at;
  // Two clocks need not agree to the second.
  if (since >= -2 && since < 2) return "now";
  if (since < 0 || since >= 3600) return stamp(at, now);
  return since < 60 ? `${Math.floor(since)}${NB}s ago` : `${Math.floor(since / 60)}${NB}min ago`;
}

/** `2026-11-22 19:20:21 UTC`. */
export function utc(at: number): string {
  return `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `UTC+1`, `UTC−3:30`: where the local times are. */
export function zone(now: number): string {
  const minutes = -new Date(now * 1000).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const sign = minutes < 0 ? "−" : "+";
  const size = Math.abs(minutes);
  return `UTC${sign}${Math.floor(size / 60)}${size % 60 === 0 ? "" : `:${two(size % 60)}`}`;
}
