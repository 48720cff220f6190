// The admin API as the console uses it: shapes, and one way to call it. Times are seconds since 1970 or
// text, durations seconds, rates fractions; they are put into words where they are shown.
import { signal } from "@preact/signals";

/** Who is signed in; `null`: nobody; `undefined`: not known yet. */
export const me = signal<Me | null | undefined>(undefined);

export interface Me {
  key: { id: string; name: string };
  role: string;
  routes: string[] | null;
  permissions: string[];
  may_grant: string[];
  session: { token: string; ends_at: string } | null;
}

export interface Variant {
  backend: string | null;
  weight: number;
  share: number;
}

export interface Experiment {
  name: string;
  route: string;
  owner: "api" | "file";
  state: "running" | "stopped" | "ended";
  revision: number;
  control: string;
  unit: string[];
  on_failure: string;
  layer: { name: string; percent: number } | null;
  variants: Record<string, Variant>;
  order: string[];
  changed_at: string;
  changed_by: string;
  source: string;
  reason: string | null;
  ramp: { state: string; variant: string; step: number; steps: number } | null;
  differs_from_file: boolean;
  /** Null if the file does not declare it. */
  file_weights: Record<string, number> | null;
  targets: { when: unknown; variant: string }[];
  defined_by: "file" | "api";
  file: { path: string; line: number | null; differences: { member: string; file: unknown; live: unknown }[] } | null;
  /** Why it takes no traffic: it does not fit the file any more. */
  set_aside: string | null;
  gateways: { in_force: number; known: number };
}

export interface Changed extends Experiment {
  buckets_moved?: number;
  note?: string;
  stored?: boolean;
  warning?: string;
}

export interface Revision {
  revision: number;
  state: string;
  weights: Record<string, number>;
  source: string;
  by: string;
  at: string;
  reason: string | null;
  buckets_moved: number;
  undoes: number | null;
}

export interface Bounded {
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface Thresholds {
  breach: number;
  held: number;
  margin: number;
  tolerance: number;
  floor: number | null;
  ceiling: number | null;
}

export interface Compared {
  verdict: "worse" | "better" | "no_worse" | "too_early";
  words: string;
  difference: number | null;
  low: number | null;
  high: number | null;
  ratio: Bounded;
  above_mark: Bounded | null;
  margin: number;
  needed: number | null;
  required: boolean;
  exposures: { variant: number; control: number };
  events: { variant: number; control: number } | null;
  thresholds: Thresholds;
}

export interface Quantiles {
  p50: Bounded;
  p95: Bounded;
  p99: Bounded;
  sketch?: [number, number][];
}

export interface VariantResult {
  exposures: number;
  units: number | null;
  requests: number;
  outcomes: Record<string, number>;
  failed: number;
  error_rate: Bounded;
  latency: Quantiles;
  time_to_first_byte: Quantiles;
  token_time: Quantiles;
  tokens: { input: number; output: number };
  metrics: Record<string, { count: number; mean: number | null; low: number | null; high: number | null }>;
  versus_control?: Record<string, Compared>;
  verdict?: Compared["verdict"];
  words?: string;
  needed?: number | null;
}

export interface Results {
  experiment: string;
  since: string | null;
  since_revision: number | null;
  revision: number;
  control: string;
  counts: "units" | "requests";
  sample_ratio: {
    p_value: number;
    expected: Record<string, number>;
    observed: Record<string, number>;
    verdict: "ok" | "mismatch";
    threshold: number;
    assigned: number;
    served: number;
    feedback: number;
    closed: boolean;
  };
  words: string;
  order: string[];
  variants: Record<string, VariantResult>;
  revisions: { revision: number; since: string | null }[];
}

export interface Guardrail {
  metric: string;
  action: string;
  required: boolean;
  verdict: "breached" | "held" | "too_early";
  log_e_harm: number;
  log_e_safe: number;
  /** Of being below the ceiling, where there is one. */
  log_e_below_ceiling: number | null;
  thresholds: Thresholds;
  exposures: { treated: number; control: number };
  events: { treated: number; control: number } | null;
  needed: number | null;
  series: { at: string; log_e_harm: number; log_e_safe: number }[];
}

export interface Decision {
  at: string;
  action: string;
  reason: string;
  words: string;
  from_revision: number;
  share: number | null;
  evidence: { guardrails: Guardrail[]; sample_ratio: number | null; step_seconds: number; step_exposures: number };
}

export interface Ramp {
  experiment: string;
  variant: string;
  control: string;
  state: "running" | "holding" | "paused" | "promoted" | "rolled_back" | "aborted";
  holding: string | null;
  phase: "warm_up" | "step" | "verify";
  step: number;
  steps: { share: number; min_time: number; min_exposures: number }[];
  warm_up: { share: number; min_time: number; min_exposures: number } | null;
  verify: { share: number; min_time: number } | null;
  share: number | null;
  revision: number;
  began_at: string;
  since: string;
  step_seconds: number;
  min_seconds: number;
  seconds_left: number;
  exposures: number;
  min_exposures: number;
  patience: number;
  cool_until: string | null;
  guardrails: Guardrail[];
  decisions: Decision[];
}

export interface Route {
  name: string;
  pattern: string;
  backend: string;
  model: string | null;
  experiments: string[];
  shadows: string[];
}

export interface Shadow {
  name: string;
  route: string;
  backend: string;
  percent: number;
  ok: number;
  error: number;
  dropped: number;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  comparison?: { agreement: { value: number | null }; words: string } | null;
}

export interface List<T> {
  items: T[];
  next: string | null;
}

/** What the API said when it did not do what it was asked. */
export class ApiFault extends Error {
  constructor(
    /** 0: it could not be reached. */
    readonly status: number,
    readonly kind: string,
    message: string,
    readonly details: Record<string, unknown>[] = [],
  ) {
    super(message);
  }
}

interface Options {
  body?: unknown;
  /** The revision that was seen. */
  revision?: number;
  signal?: AbortSignal;
}

async function fault(answer: Response): Promise<ApiFault> {
  try {
    const { error } = (await answer.json()) as { error: { type: string; message: string; details?: Record<string, unknown>[] } };
    return new ApiFault(answer.status, error.type, error.message, error.details);
  } catch {
    return new ApiFault(answer.status, "unknown", `the gateway answered ${answer.status}`);
  }
}

/** Calls `/api/v1{path}` and reads its answer. Who is not signed in any more is shown the way in. */
export async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (options.body !== undefined) headers["content-type"] = "application/json";
  if (options.revision !== undefined) headers["if-match"] = `"${options.revision}"`;
  const token = me.value?.session?.token;
  if (method !== "GET" && token !== undefined) headers["x-weir-session-token"] = token;
  let answer: Response;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers,
      credentials: "same-origin",
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiFault(0, "unreachable", "the gateway does not answer");
  }
  if (answer.status === 401 && me.value) me.value = null;
  if (!answer.ok) throw await fault(answer);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** Who is signed in; `null`: nobody. */
export async function whoAmI(): Promise<Me | null> {
  const who = await get<Me | { key: null }>("/session");
  return who.key === null ? null : (who as Me);
}

export const get = <T>(path: string, abort?: AbortSignal) => call<T>("GET", path, { signal: abort });

export function may(permission: string): boolean {
  return me.value?.permissions.includes(permission) ?? false;
}

export const enc = encodeURIComponent;

/** Control first, then as configured: the order in which variants are drawn everywhere. */
export function variantOrder(of: { control: string; order: string[] }): string[] {
  return [of.control, ...of.order.filter((name) => name !== of.control)];
}
