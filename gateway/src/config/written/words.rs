//! Words of which a member takes one.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A closed set of words: an enum that is written as one of these strings and nothing else.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl Visitor<'_> for Word {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("one of the words" $(, " \"", $word, "\"")+))
                    }
                    fn visit_str<E: de::Error>(self, word: &str) -> Result<$name, E> {
                        match word {
                            $($word => Ok($name::$variant),)+
                            _ => Err(E::unknown_variant(word, &[$($word),+])),
                        }
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}

words! {
    /// Durability of outcomes.
    Durability { Sync = "sync", Group = "group", Async = "async", Off = "off" }
}
words! {
    /// What a key may do.
    Role {
        Client = "client",
        Viewer = "viewer",
        Experimenter = "experimenter",
        Operator = "operator",
        Auditor = "auditor",
        Admin = "admin",
    }
}
words! {
    /// How an endpoint is chosen.
    Balance { LeastRequests = "least_requests", RoundRobin = "round_robin", HashUnit = "hash:unit" }
}
words! {
    /// Who may change an experiment.
    Owner { Api = "api", File = "file" }
}
words! {
    /// What happens when a variant cannot serve.
    OnFailure { Fail = "fail", Fallback = "fallback" }
}
words! {
    /// What becomes of metrics that are not declared.
    Undeclared { Accept = "accept", Refuse = "refuse" }
}
words! {
    /// How two answers are compared.
    ComparisonKind {
        Status = "status",
        Exact = "exact",
        Label = "label",
        Numeric = "numeric",
        Text = "text",
        Embedding = "embedding",
    }
}
words! {
    /// What the values of a metric are.
    MetricKind { Bool = "bool", Number = "number", Text = "text" }
}
words! {
    /// What messages of a webhook look like.
    WebhookFormat { Weir = "weir", Alertmanager = "alertmanager" }
}
