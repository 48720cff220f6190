//! Every metric, declared once: what its name is, what it counts and what it leaves out.
//!
//! Names, units and labels are API: a rename is a change that operators must read of. `metrics.rs`
//! emits exactly what stands here, and `docs/telemetry.md` is compared with it by a test.

use std::fmt::Write;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values sorted into buckets, with their sum and number.
    Histogram,
    /// Always 1: its labels are what it says.
    Info,
}

impl Kind {
    /// Its name in both text formats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, in the form of Prometheus: with unit and `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its base unit, which the name ends with; empty for plain numbers.
    pub unit: &'static str,
    /// What it counts and what it leaves out, in one line.
    pub help: &'static str,
    /// Its labels, in the order in which values are given. Info metrics name theirs themselves.
    pub labels: &'static [&'static str],
}

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, help, labels }
}

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                metric($name, Kind::$kind, $unit, &[$($label),*], $help);
        )*
        /// Every metric, in the order in which it is written.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    REQUESTS = "weir_requests_total" Counter "" ["route", "experiment", "variant", "outcome"]
        "Requests that were assigned and are over, by how they ended; refused requests are in weir_rejected_total only.";
    REQUEST_DURATION = "weir_request_duration_seconds" Histogram "seconds" ["route", "experiment", "variant"]
        "End of the request head to the last byte of the answer; assigned requests only.";
    TIME_TO_FIRST_BYTE = "weir_time_to_first_byte_seconds" Histogram "seconds" ["route", "experiment", "variant"]
        "End of the request head to the first response byte from the backend; requests without one are left out.";
    OVERHEAD = "weir_overhead_seconds" Histogram "seconds" ["route"]
        "Time that was the gateway's own in one request: waiting for a connection, the client or the backend is left out.";
    IN_FLIGHT = "weir_in_flight_requests" Gauge "" ["route"]
        "Requests that are assigned and not over; those still being read or refused are left out.";
    STREAMS_OPEN = "weir_streams_open" Gauge "" ["route"]
        "Answers that are event streams and not over; WebSocket and gRPC streams are left out.";
    REJECTED = "weir_rejected_total" Counter "" ["reason", "protocol"]
        "Requests refused before anything was assigned; assigned requests that failed are in weir_requests_total.";
    CONNECTIONS_OPEN = "weir_connections_open" Gauge "" ["listener", "protocol"]
        "Client connections open now; the admin listener is left out.";
    CONNECTIONS = "weir_connections_total" Counter "" ["listener", "protocol"]
        "Client connections taken; those refused at the door or that failed their handshake are left out.";
    CONNECTIONS_CLOSED = "weir_connections_closed_total" Counter "" ["listener", "reason"]
        "Client connections that ended, refused ones included.";
    TLS_HANDSHAKES = "weir_tls_handshakes_total" Counter "" ["listener", "result", "version"]
        "TLS handshakes with clients; the version is empty where none was agreed on.";
    TLS_HANDSHAKE = "weir_tls_handshake_seconds" Histogram "seconds" ["listener"]
        "Time of TLS handshakes that succeeded.";
    CERTIFICATE_NOT_AFTER = "weir_tls_certificate_not_after_timestamp_seconds" Gauge "seconds" ["listener", "subject"]
        "End of validity of each certificate in force.";
    ASSIGNMENTS = "weir_assignments_total" Counter "" ["experiment", "variant", "reason"]
        "Requests assigned, by why, counted when they begin; experiment and variant are empty where no experiment took the request.";
    VARIANT_WEIGHT = "weir_variant_weight_ratio" Gauge "ratio" ["experiment", "variant"]
        "Share of an experiment's units dealt to the variant, 0 to 1; all 0 while the experiment is stopped. Holdout and layer are not taken off.";
    EXPERIMENT_REVISION = "weir_experiment_revision" Gauge "" ["experiment"]
        "Revision of the experiment in force.";
    RAMP_STEP = "weir_ramp_step" Gauge "" ["experiment"]
        "Step of the newest ramp: 0 is warm-up, the one after the last is verification.";
    RAMP_STATE = "weir_ramp_state" Gauge "" ["experiment", "state"]
        "1 for the state in which the newest ramp of the experiment is.";
    RAMP_DECISIONS = "weir_ramp_decisions_total" Counter "" ["experiment", "decision", "reason"]
        "Decisions of ramps, looks and people alike, since the process started.";
    SAMPLE_RATIO = "weir_sample_ratio_mismatch_pvalue" Gauge "" ["experiment"]
        "Chance, had units arrived as dealt, of ever seeing counts like these: the smallest so far, below 0.001 is a mismatch.";
    WEBHOOK_DELIVERIES = "weir_webhook_deliveries_total" Counter "" ["webhook", "result"]
        "Tries to deliver messages, by what the receiver answered; tests and reminders of alerts count, dead are messages given up.";
    WEBHOOK_PENDING = "weir_webhook_pending" Gauge "" ["webhook"]
        "Messages that are stored and that the receiver has not taken; those given up are left out.";
    UPSTREAM_ATTEMPTS = "weir_upstream_attempts_total" Counter "" ["backend", "result", "retry"]
        "Attempts at a backend that are over; health probes and shadow copies are left out.";
    UPSTREAM_CONNECT = "weir_upstream_connect_seconds" Histogram "seconds" ["backend"]
        "Time to make a connection, TLS included; those of shadow copies count, reused and failed ones and probes are left out.";
    UPSTREAM_FIRST_BYTE = "weir_upstream_first_byte_seconds" Histogram "seconds" ["backend"]
        "Begin of sending to the head of the answer, by attempt; attempts without an answer and shadow copies are left out.";
    UPSTREAM_HEALTHY = "weir_upstream_healthy" Gauge "" ["backend"]
        "Endpoints of the backend that serve; ejected ones and those on trial are left out.";
    UPSTREAM_EJECTED = "weir_upstream_ejected_total" Counter "" ["backend"]
        "Times that an endpoint of the backend was ejected.";
    CIRCUIT_STATE = "weir_circuit_state" Gauge "" ["backend", "state"]
        "1 for the state in which the backend is: closed if endpoints serve, half_open while one is on trial, open if none serves.";
    RETRIES = "weir_retries_total" Counter "" ["backend", "reason"]
        "Attempts made because one at the same backend failed, by how it failed; a fallback to control is none.";
    RETRY_BUDGET_EXHAUSTED = "weir_retry_budget_exhausted_total" Counter "" ["backend", "reason"]
        "Retries that were due and not made because the budget was used up.";
    SHADOW_REQUESTS = "weir_shadow_requests_total" Counter "" ["backend", "result"]
        "Copies of requests by how they ended, dropped ones included; never part of weir_requests_total.";
    SHADOW_IN_FLIGHT = "weir_shadow_in_flight" Gauge "" ["backend"]
        "Copies under way; those that wait in the queue are left out.";
    SHADOW_DURATION = "weir_shadow_duration_seconds" Histogram "seconds" ["backend"]
        "Copy taken up to the last byte of its answer; waiting in the queue and dropped copies are left out.";
    SHADOW_PAIRS = "weir_shadow_pairs_total" Counter "" ["shadow", "result"]
        "Answers to copies beside those that clients got, by what became of the comparison; copies that were never sent are left out.";
    SHADOW_DIFFERENCES = "weir_shadow_differences_total" Counter "" ["shadow", "cause"]
        "Pairs that differ, by what tells them apart.";
    SHADOW_NOT_COMPARABLE = "weir_shadow_not_comparable_total" Counter "" ["shadow", "reason"]
        "Pairs that show nothing, by why.";
    SHADOW_AGREEMENT = "weir_shadow_agreement_ratio" Gauge "" ["shadow"]
        "Share of compared pairs that agree, 0 to 1, since the comparison began; restarts of the process do not end it. Absent before the first.";
    SHADOW_LATENCY = "weir_shadow_latency_ratio" Gauge "" ["shadow", "at"]
        "How many times as long copies take, pair by pair, as a geometric mean since the comparison began; handshakes and the queue of copies are left out. Absent before the first.";
    SHADOW_SAMPLES = "weir_shadow_samples_total" Counter "" ["shadow", "result"]
        "Disagreements that were kept, and those that were to be and could not be stored.";
    SHADOW_COMPARE_BYTES = "weir_shadow_compare_bytes" Gauge "bytes" []
        "Answers in memory that wait to be compared.";
    OUTCOMES = "weir_outcomes_total" Counter "" ["state", "reason"]
        "Assigned requests, those recorded in the store, and those lost by reason: assigned = recorded + dropped + weir_outcomes_pending.";
    OUTCOMES_PENDING = "weir_outcomes_pending" Gauge "" []
        "Assigned requests neither recorded nor dropped: running, queued, in hand or in the spool.";
    OUTCOME_SPOOL = "weir_outcome_spool_bytes" Gauge "bytes" []
        "Outcomes on disk that wait for the store.";
    OUTCOME_COMMIT = "weir_outcome_commit_seconds" Histogram "seconds" []
        "Time of transactions that stored outcomes; failed ones are left out.";
    FEEDBACK = "weir_feedback_total" Counter "" ["experiment", "metric", "result"]
        "Answers in posts to /feedback, by what became of them; the experiment is empty where it was not known, metrics that are not declared are _other.";
    STORE_UP = "weir_store_up" Gauge "" ["backend"]
        "1 if the last operation reached the store.";
    STORE_OPERATION = "weir_store_operation_seconds" Histogram "seconds" ["backend", "operation"]
        "Time of operations on the store's thread, failed ones included; waiting is left out. control is what people, ramps and queries do, batch what comes with traffic.";
    STORE_ERRORS = "weir_store_errors_total" Counter "" ["backend", "kind"]
        "Store operations that failed, or were not taken because too many waited; rows that were there already are no error.";
    STORE_CONNECTIONS = "weir_store_pool_connections" Gauge "" ["backend", "state"]
        "Connections to the store, idle and used; the embedded store has one.";
    AUDIT_ENTRIES = "weir_audit_entries_total" Counter "" []
        "Audit entries that this process stored.";
    AUTH = "weir_auth_total" Counter "" ["method", "result"]
        "Credentials looked at, by verdict; the admin listener is left out.";
    CONFIG_RELOADS = "weir_config_reloads_total" Counter "" ["result"]
        "Configurations read, the first included.";
    CONFIG_LAST_OK = "weir_config_last_reload_successful" Gauge "" []
        "1 if the configuration read last is in force; 0 while a refused one waits to be mended.";
    CONFIG_LAST_SUCCESS = "weir_config_last_success_timestamp_seconds" Gauge "seconds" []
        "When a configuration was put in force last.";
    CONFIG_REVISION = "weir_config_revision" Gauge "" []
        "Number of the snapshot in force; rises with every change from file, admin API or ramp.";
    PANICS = "weir_panics_total" Counter "" []
        "Panics caught in requests; each is a bug, and one failed request.";
    DRAINING = "weir_draining" Gauge "" []
        "1 while readiness is refused before the end.";
    TELEMETRY_DROPPED = "weir_telemetry_dropped_total" Counter "" ["signal", "reason"]
        "Lost telemetry: spans, lines of events, and blocks of access lines (those of up to 20 ms each).";
    LABEL_OVERFLOW = "weir_label_overflow_total" Counter "" ["metric"]
        "Series folded into `_overflow`, or left out for gauges, because a label had more than 200 values.";
    RUNTIME_BUSY = "weir_runtime_busy_ratio" Gauge "ratio" ["worker"]
        "Share of the last second in which the worker's event loop ran tasks, 0 to 1; waiting for sockets and timers is left out.";
    RUNTIME_QUEUE = "weir_runtime_queue_depth" Gauge "" ["worker"]
        "Tasks woken by other threads that the worker's event loop has not come to; those woken on the worker itself are not told by the runtime.";
    RUNTIME_STALL = "weir_runtime_stall_seconds" Histogram "seconds" ["worker"]
        "How late the worker's event loop came to a timer that is due four times a second.";
    BUILD_INFO = "weir_build_info" Info "" []
        "What runs: labels version, revision, rustc and features.";
    TARGET_INFO = "target_info" Info "" []
        "The OpenTelemetry resource of this process, as labels.";
    PROCESS_CPU = "process_cpu_seconds_total" Counter "seconds" []
        "Processor time of the process, user and system.";
    PROCESS_MEMORY = "process_resident_memory_bytes" Gauge "bytes" []
        "Resident memory of the process.";
    PROCESS_OPEN_FDS = "process_open_fds" Gauge "" []
        "Open file descriptors, sockets included.";
    PROCESS_MAX_FDS = "process_max_fds" Gauge "" []
        "Limit of open file descriptors; absent if there is none.";
    PROCESS_START = "process_start_time_seconds" Gauge "seconds" []
        "Start of the process.";
}

/// The table of metrics in `docs/telemetry.md`.
pub fn table() -> String {
    let mut out = String::from("| name | kind | labels | what it counts, what it leaves out |\n");
    out.push_str("|---|---|---|---|\n");
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.help
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_both_formats() {
        let mut seen = std::collections::HashSet::new();
        for metric in ALL {
            let Metric { name, kind, unit, help, labels } = metric;
            assert!(seen.insert(*name), "{name} is declared twice");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
            let stem = name.strip_suffix("_total").unwrap_or(name);
            assert!(unit.is_empty() || stem.ends_with(&format!("_{unit}")), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n') && !help.contains('|'), "{name}");
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(name) && labels.iter().all(|label| plain(label)), "{name}");
        }
    }

    #[test]
    fn the_documentation_has_the_table_as_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/telemetry.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("<!-- metrics: generated -->\n").unwrap();
        let (written, after) = rest.split_once("<!-- end -->").unwrap();
        if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
            let now = table();
            let text = format!("{before}<!-- metrics: generated -->\n{now}<!-- end -->{after}");
            std::fs::write(path, text).unwrap();
        } else {
            assert_eq!(
                written,
                table(),
                "run this test with WEIR_WRITE_DOCS=1 and look at the change"
            );
        }
    }
}
