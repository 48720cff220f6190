// How numbers are written: two or three figures, a no-break space before the unit, real signs.

/** A no-break space: a number and its unit stay on one line. */
export const NB = "\u00a0";

/** A number and its unit, apart, so that the unit can be set smaller. */
export interface Quantity {
  readonly number: string;
  readonly unit: string;
}

export const NOTHING: Quantity = { number: "–", unit: "" };

export function said({ number, unit }: Quantity): string {
  return unit === "" ? number : unit.startsWith("/") ? `${number}${unit}` : `${number}${NB}${unit}`;
}

/** `12,345`. */
export function grouped(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** With a real minus. */
export function signed(text: string): string {
  return text.replace("-", "−");
}

/** `value` with `figures` significant figures and no more zeros than it needs: `0.86`, `3.1`, `120`. */
export function figures(value: number, figures = 2): string {
  if (value === 0 || !Number.isFinite(value)) return value === 0 ? "0" : "∞";
  const size = Math.floor(Math.log10(Math.abs(value)));
  const places = Math.max(0, figures - 1 - size);
  // Rounding may carry into another figure: 9.96 is 10, not 10.0.
  const rounded = Number(value.toFixed(Math.min(places, 12)));
  const carried = rounded === 0 ? size : Math.floor(Math.log10(Math.abs(rounded)));
  const shown = Math.max(0, figures - 1 - carried);
  return Math.abs(rounded) >= 1000 ? grouped(rounded) : signed(rounded.toFixed(Math.min(shown, 12)));
}

/** The same without zeros at the end: for the numbers of an axis. */
export function plain(value: number): string {
  return figures(value, 3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

/** A forecast: rounded up to two figures, `1,900`. */
export function about(value: number): string {
  if (value <= 0) return "0";
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(value, 1))) - 1);
  return grouped(Math.ceil(value / step) * step);
}

/** Requests a second: `118`, `11.8`, `0.2`. */
export function perSecond(rate: number | null | undefined): Quantity {
  if (rate === null || rate === undefined) return NOTHING;
  const number = rate >= 100 ? grouped(rate) : rate > 0 && rate < 0.05 ? "<0.1" : rate === 0 ? "0" : rate.toFixed(1);
  return { number, unit: "/s" };
}

/** A rate of failures or the like, from a fraction: `0.31 %`, `12.5 %`. */
export function percent(fraction: number | null | undefined): Quantity {
  if (fraction === null || fraction === undefined) return NOTHING;
  const value = fraction * 100;
  const number =
    value === 0 ? "0" : value < 0.005 ? "<0.01" : value < 10 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : "100";
  return { number, unit: "%" };
}

/** A share in basis points, as exact as one bucket: `85`, `12.5`, `33.33`. */
export function share(points: number): string {
  return (points / 100).toFixed(2).replace(/\.?0+$/, "");
}

/** The same with its unit, from a fraction. */
export function shareOf(fraction: number): string {
  return `${share(Math.round(fraction * 10_000))}${NB}%`;
}

/** A latency, from seconds: `0.38 ms`, `41 ms`, `6.41 s`, `75 s`. */
export function latency(seconds: number | null | undefined): Quantity {
  if (seconds === null || seconds === undefined) return NOTHING;
  const ms = seconds * 1000;
  if (ms === 0) return { number: "0", unit: "ms" };
  if (Math.abs(ms) < 0.995) return { number: signed(ms.toFixed(ms < 0.1 ? 3 : 2)), unit: "ms" };
  if (Math.abs(ms) < 9.95) return { number: signed(ms.toFixed(1)), unit: "ms" };
  if (Math.abs(ms) < 999.5) return { number: signed(ms.toFixed(0)), unit: "ms" };
  if (Math.abs(seconds) < 9.995) return { number: signed(seconds.toFixed(2)), unit: "s" };
  if (Math.abs(seconds) < 99.95) return { number: signed(seconds.toFixed(1)), unit: "s" };
  return { number: signed(grouped(Math.abs(seconds))), unit: "s" };
}

/** Bytes, in the units that networks count in: `2.1 KB`. */
export function bytes(count: number | null | undefined): Quantity {
  if (count === null || count === undefined) return NOTHING;
  if (count < 1000) return { number: String(count), unit: "B" };
  if (count < 1e6) return { number: figures(count / 1e3), unit: "KB" };
  if (count < 1e9) return { number: figures(count / 1e6), unit: "MB" };
  return { number: figures(count / 1e9), unit: "GB" };
}

/** `one` or `many` with its number: `1 request`, `1,204 requests`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(names: readonly string[], and = "and"): string {
  if (names.length < 2) return names[0] ?? "";
  return `${names.slice(0, -1).join(", ")} ${and} ${names[names.length - 1]}`;
}
