// What part of the numbers a chart shows. Axes begin at 0 and grow by steps of 1, 2, 5; while somebody
// watches they never shrink.

/** The smallest of 1, 2, 5 × 10ⁿ that is not below `value`. */
export function roundUp(value: number): number {
  if (!(value > 0)) return 0;
  const size = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5, 10]) if (value <= step * size * (1 + 1e-9)) return step * size;
  return 10 * size;
}

/** The end of an axis that began at 0: `before`, or as much more as `most` needs. */
export function widen(before: number, most: number): number {
  return most > before ? roundUp(most) : before;
}

/** Where grid lines stand: at most four, on round numbers, without 0. */
export function ticks(end: number): number[] {
  if (!(end > 0)) return [];
  const size = 10 ** Math.floor(Math.log10(end * (1 + 1e-9)));
  const lead = Math.round(end / size);
  const step = (lead === 1 ? 0.5 : lead === 2 ? 1 : 2.5) * size;
  const found: number[] = [];
  for (let at = step; at <= end * (1 + 1e-9); at += step) found.push(Number(at.toPrecision(6)));
  return found;
}

/** The largest number of columns; 0 if there is none. */
export function largest(columns: readonly (readonly (number | null)[])[]): number {
  let most = 0;
  for (const column of columns) for (const value of column) if (value !== null && value > most) most = value;
  return most;
}

/** Places for labels that want to be at `wanted` (any unit), kept in their order and at least `gap` apart,
 *  within `low..high` as far as there is room. */
export function pushApart(wanted: readonly number[], gap: number, low: number, high: number): number[] {
  const order = wanted.map((place, at) => ({ place, at })).sort((a, b) => a.place - b.place || a.at - b.at);
  // Groups of labels that touch share the middle of what their members want.
  const groups: { members: number[]; middle: number }[] = [];
  const span = (count: number) => ((count - 1) * gap) / 2;
  for (const { place, at } of order) {
    groups.push({ members: [at], middle: place });
    for (;;) {
      const last = groups.at(-1);
      const before = groups.at(-2);
      if (!last || !before) break;
      if (before.middle + span(before.members.length) + gap <= last.middle - span(last.members.length)) break;
      const members = [...before.members, ...last.members];
      const middle = members.reduce((sum, member) => sum + (wanted[member] ?? 0), 0) / members.length;
      groups.splice(-2, 2, { members, middle });
    }
  }
  const out = wanted.slice() as number[];
  for (const { members, middle } of groups) {
    const half = span(members.length);
    const centre = Math.max(low + half, Math.min(high - half, middle));
    members.forEach((member, at) => {
      out[member] = centre - half + at * gap;
    });
  }
  return out;
}

/** A path through points of a 1000 × 100 picture; a gap in the data is a gap in the line. */
export function line(xs: readonly number[], ys: readonly (number | null)[], gap = Infinity): string {
  let path = "";
  let isOpen = false;
  let before = -Infinity;
  xs.forEach((x, at) => {
    const y = ys[at];
    if (y === null || y === undefined) {
      isOpen = false;
      return;
    }
    if (x - before > gap) isOpen = false;
    path += `${isOpen ? "L" : "M"}${round(x)} ${round(y)}`;
    isOpen = true;
    before = x;
  });
  return path;
}

const round = (value: number) => Math.round(value * 10) / 10;
