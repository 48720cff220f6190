// One stored outcome, as the API tells it: times are microseconds from the end of its head.
import { unix } from "../../words/times";

export interface Row {
  request_id: string;
  timestamp: string;
  route: string;
  experiment?: string;
  variant?: string;
  outcome: string;
  attempts?: number;
  t_total: number;
  t_first_byte?: number;
  t_gateway?: number;
  "http.response.status_code"?: number;
  "gen_ai.usage.input_tokens"?: number;
  "gen_ai.usage.output_tokens"?: number;
  "unit.hash"?: string;
  [member: string]: unknown;
}

export interface Phase {
  phase: string;
  of: "client" | "gateway" | "backend";
  begin: number;
  end: number;
  attempt: number | null;
}

export interface Attempt {
  attempt: number;
  backend: string | null;
  endpoint: string | null;
  reused: boolean | null;
  status: number | null;
  error: string | null;
  begin: number | null;
  end: number | null;
}

export interface Told extends Row {
  phases: Phase[];
  attempt_list: Attempt[];
  decision: null | {
    experiment: string;
    revision: number;
    reason: string;
    eligible: boolean | null;
    variant: string | null;
    served: string | null;
    unit_hash: string | null;
    bucket: number | null;
    bucket_range: { first: number; end: number; variant: string | null } | null;
    share: number | null;
  };
}

/** Outcomes that count against a variant. */
export const FAILURES = ["upstream_error", "timeout", "upstream_reset"];

export const isFailure = (row: Row) => FAILURES.includes(row.outcome);

/** When it ended, seconds since 1970: its line is written then. */
export function endedAt(row: Row): number {
  return unix(row.timestamp) ?? 0;
}

/** An outcome in words: what happened, and to whom. */
export function outcomeWords(outcome: string): string {
  const words: Record<string, string> = {
    ok: "completed", client_error: "refused", upstream_error: "failed", timeout: "timed out", upstream_reset: "broken off",
    client_aborted: "client left", gateway_error: "failed inside Weir",
  };
  return words[outcome] ?? outcome.replaceAll("_", " ");
}
