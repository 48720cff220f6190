// Columns of the live stream, smoothed as the charts say they are.
import { past } from "../../live";
import { sliding, type Column } from "../../past";

export { past };

/** Requests a second, over 5 s. */
export function sliding5(experiment: string, variant: string): Column {
  return sliding(past.column(`${experiment}/${variant}/rate`), 5);
}

/** Percent that failed, over 30 s, each second counting as much as it had requests. */
export function sliding30(experiment: string, variant: string): Column {
  const rate = past.column(`${experiment}/${variant}/rate`);
  const failed = past.column(`${experiment}/${variant}/failed`);
  return sliding(failed, 30, rate).map((value) => (value === null ? null : value * 100));
}
