//! One second of the gateway, as a frame of `/live` tells it.

use serde_json::Value;

use crate::cli::reading;

/// One second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Frame {
    /// Seconds since 1970.
    pub(super) at: i64,
    pub(super) gateway: Gateway,
    pub(super) routes: Vec<Route>,
    pub(super) experiments: Vec<Experiment>,
    pub(super) shadows: Vec<Shadow>,
    pub(super) backends: Vec<Backend>,
}

/// Everything together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateway {
    /// Requests a second.
    pub(super) rate: f64,
    /// A fraction; nothing without requests.
    pub(super) failed: Option<f64>,
    /// Refused by the gateway, a second.
    pub(super) rejected: f64,
    pub(super) in_flight: u64,
    pub(super) connections: u64,
    pub(super) is_draining: bool,
    pub(super) generation: u64,
}

/// What routes and variants have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    /// Requests a second.
    pub(super) rate: f64,
    /// A fraction; nothing without requests.
    pub(super) failed: Option<f64>,
    /// Quantiles of the last ten seconds, in seconds.
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) numbers: Numbers,
    /// Refused by the gateway, a second.
    pub(super) rejected: f64,
    pub(super) in_flight: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Experiment {
    pub(super) name: String,
    pub(super) route: String,
    pub(super) revision: u64,
    /// `running`, `stopped` or `ended`.
    pub(super) state: String,
    /// Control first.
    pub(super) variants: Vec<Variant>,
    pub(super) ramp: Option<Ramp>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) weight: f64,
    /// The part of the buckets that is dealt to it.
    pub(super) share: f64,
    /// The part of this second's requests that was assigned to it.
    pub(super) assigned: Option<f64>,
    pub(super) numbers: Numbers,
    pub(super) first_byte_p95: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ramp {
    pub(super) variant: String,
    pub(super) state: String,
    /// 0 is warm-up, beyond `steps` is the verification.
    pub(super) step: u64,
    pub(super) steps: u64,
    pub(super) share: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shadow {
    pub(super) name: String,
    /// Copies a second.
    pub(super) rate: f64,
    pub(super) failed: Option<f64>,
    /// Copies that were not sent, a second.
    pub(super) dropped: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) endpoints: u64,
    pub(super) serving: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct News {
    /// Seconds since 1970.
    pub(super) at: i64,
    pub(super) experiment: Option<String>,
    pub(super) revision: Option<u64>,
    pub(super) by: String,
    pub(super) reason: Option<String>,
    /// What changed, as one clause.
    pub(super) words: String,
}

/// Seconds since 1970 under `key`.
pub(super) fn moment(value: &Value, key: &str) -> Option<i64> {
    value.get(key)?.as_i64()
}

fn owned(value: &Value, key: &str) -> String {
    reading::text(value, key).unwrap_or_default().to_owned()
}

fn rate(value: &Value, key: &str) -> f64 {
    reading::number(value, key).unwrap_or(0.0)
}

fn count(value: &Value, key: &str) -> u64 {
    reading::whole(value, key).unwrap_or(0)
}

impl Frame {
    /// What `value` tells; nothing if it does not say when.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let gateway = value.get("gateway").unwrap_or(&Value::Null);
        let all = |key| reading::members(value, key);
        Some(Self {
            at: moment(value, "at_unix")?,
            gateway: Gateway {
                rate: rate(gateway, "rate"),
                failed: reading::number(gateway, "failed"),
                rejected: rate(gateway, "rejected"),
                in_flight: count(gateway, "in_flight"),
                connections: count(gateway, "connections"),
                is_draining: gateway.get("draining").and_then(Value::as_bool) == Some(true),
                generation: count(gateway, "revision"),
            },
            routes: all("routes").map(|(name, of)| Route::read(name, of)).collect(),
            experiments: all("experiments").map(|(name, of)| Experiment::read(name, of)).collect(),
            shadows: all("shadows")
                .map(|(name, of)| Shadow {
                    name: name.to_owned(),
                    rate: rate(of, "rate"),
                    failed: reading::number(of, "failed"),
                    dropped: rate(of, "dropped"),
                })
                .collect(),
            backends: all("backends")
                .map(|(name, of)| Backend {
                    name: name.to_owned(),
                    endpoints: count(of, "endpoints"),
                    serving: count(of, "serving"),
                })
                .collect(),
        })
    }

    /// The experiment of this name.
    pub(super) fn experiment(&self, name: &str) -> Option<&Experiment> {
        self.experiments.iter().find(|of| of.name == name)
    }
}

impl Numbers {
    fn read(value: &Value) -> Self {
        Self {
            rate: rate(value, "rate"),
            failed: reading::number(value, "failed"),
            p50: reading::number(value, "p50"),
            p95: reading::number(value, "p95"),
            p99: reading::number(value, "p99"),
        }
    }
}

impl Route {
    fn read(name: &str, value: &Value) -> Self {
        Self {
            name: name.to_owned(),
            numbers: Numbers::read(value),
            rejected: rate(value, "rejected"),
            in_flight: count(value, "in_flight"),
        }
    }
}

impl Experiment {
    fn read(name: &str, value: &Value) -> Self {
        let variant = |(name, of): (&str, &Value)| Variant {
            name: name.to_owned(),
            weight: rate(of, "weight"),
            share: rate(of, "share"),
            assigned: reading::number(of, "assigned_share"),
            numbers: Numbers::read(of),
            first_byte_p95: reading::number(of, "first_byte_p95"),
        };
        let ramp = value.get("ramp").filter(|ramp| ramp.is_object()).map(|ramp| Ramp {
            variant: owned(ramp, "variant"),
            state: owned(ramp, "state"),
            step: count(ramp, "step"),
            steps: count(ramp, "steps"),
            share: reading::number(ramp, "share"),
        });
        Self {
            name: name.to_owned(),
            route: owned(value, "route"),
            revision: count(value, "revision"),
            state: owned(value, "state"),
            variants: reading::members(value, "variants").map(variant).collect(),
            ramp,
        }
    }

    /// Requests a second of all its variants.
    pub(super) fn rate(&self) -> f64 {
        self.variants.iter().map(|of| of.numbers.rate).sum()
    }
}

impl News {
    /// What `value` tells; nothing if it does not say when.
    pub(super) fn read(value: &Value) -> Option<Self> {
        Some(Self {
            at: moment(value, "at_unix")?,
            experiment: reading::text(value, "experiment").map(str::to_owned),
            revision: reading::whole(value, "revision"),
            by: owned(value, "by"),
            reason: reading::text(value, "reason").map(str::to_owned),
            words: owned(value, "words"),
        })
    }
}
