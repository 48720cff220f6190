// What is looked for among requests, as it is typed and as it stands in the address:
// `route:chat outcome:failed slower:500ms`.

export const MEMBERS = ["route", "experiment", "variant", "outcome", "slower", "unit", "since"] as const;
export type Member = (typeof MEMBERS)[number];
export type Filter = Partial<Record<Member, string>>;

export interface Read {
  filter: Filter;
  /** What is wrong with it, in words; `null` if nothing is. */
  trouble: string | null;
}

export function read(text: string): Read {
  const filter: Filter = {};
  for (const word of text.split(/\s+/).filter((each) => each !== "")) {
    const at = word.indexOf(":");
    const [name, value] = [word.slice(0, at), word.slice(at + 1)];
    if (at < 0) return { filter, trouble: `“${word}” says no kind; write one of ${MEMBERS.join(", ")}, as in variant:canary` };
    if (!(MEMBERS as readonly string[]).includes(name)) return { filter, trouble: `“${name}” is no kind; write one of ${MEMBERS.join(", ")}` };
    if (value === "") return { filter, trouble: `${name}: of what?` };
    filter[name as Member] = value;
  }
  if (filter.unit !== undefined && filter.experiment === undefined) {
    return { filter, trouble: "unit needs experiment: a unit is hashed for each experiment anew" };
  }
  return { filter, trouble: null };
}

export function write(filter: Filter): string {
  return MEMBERS.filter((name) => filter[name] !== undefined).map((name) => `${name}:${filter[name]}`).join(" ");
}

export function ofQuery(query: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const name of MEMBERS) {
    const value = query.get(name);
    if (value !== null && value !== "") filter[name] = value;
  }
  return filter;
}

export function toQuery(filter: Filter, more: Record<string, string> = {}): string {
  const query = new URLSearchParams();
  for (const name of MEMBERS) if (filter[name] !== undefined) query.set(name, filter[name]!);
  for (const [name, value] of Object.entries(more)) query.set(name, value);
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}
