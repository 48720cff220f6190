//! Shadows: what is copied where, and how answers are compared.

use std::ops::Range;
use std::time::Duration;

use policies::comparison::How;
use policies::statistics::agreement::{Closeness, Comparison, EMBEDDING_AGREES, TEXT_AGREES};
use policies::statistics::shadow::LEAST_PAIRS;

use super::routes::{DAY, MILLISECOND};
use super::{Check, Names};
use crate::config::plan::{Compare, Route, Samples, Shadow};
use crate::config::written::{self, At, ComparisonKind, Entries};

/// Most JSON pointers in one list.
const MOST_POINTERS: usize = 100;

const KIB: u64 = 1 << 10;

impl Check<'_> {
    pub(super) fn shadows(
        &mut self,
        entries: Entries<written::Shadow>,
        plans: &[Route],
        routes: &Names,
        backends: &Names,
    ) -> Vec<Shadow> {
        let mut shadows = Vec::new();
        for (name, shadow) in entries.0 {
            let written::Shadow { route, backend, percent, max_in_flight, queue, timeout, compare } =
                shadow;
            let label = format!("shadow {:?}", name.value);
            let place = ["shadows", name.value.as_str()];
            let at = &name.span;
            let example = "\"NAME\" (of a [routes.NAME])";
            let route = self.required(route, &label, &place, "route", at, example);
            let example = "\"NAME\" (of a [backends.NAME])";
            let backend = self.required(backend, &label, &place, "backend", at, example);
            let percent = self.required(percent, &label, &place, "percent", at, "10");
            let share = percent.map_or(0.0, |percent| {
                if !(0.0..=100.0).contains(&percent.value) {
                    let what = format!("{label}: percent is {}", percent.value);
                    self.problem(&percent.span, what, "a number from 0 to 100");
                }
                percent.value / 100.0
            });
            let known = route.as_ref().is_some_and(|route| routes.has(&route.value));
            let index = route.map_or(0, |route| self.find(&label, &route, routes));
            let copied = plans.get(index).filter(|_| known);
            shadows.push(Shadow {
                route: index,
                backend: backend.map_or(0, |backend| self.find(&label, &backend, backends)),
                share,
                max_in_flight: self.whole(
                    &format!("{label}: max_in_flight"),
                    max_in_flight.as_ref(),
                    64,
                    1..=100_000,
                ),
                queue: self.whole(&format!("{label}: queue"), queue.as_ref(), 256, 0..=100_000),
                timeout: self.duration(
                    &format!("{label}: timeout"),
                    timeout.as_ref(),
                    Duration::from_secs(600),
                    MILLISECOND..=DAY,
                ),
                compare: self.compare(&label, &name.value, compare, copied).into(),
                name: name.value.into(),
            });
        }
        shadows
    }

    fn compare(
        &mut self,
        label: &str,
        shadow: &str,
        compare: Option<At<written::Compare>>,
        route: Option<&Route>,
    ) -> Compare {
        let At { span, value } = compare.unwrap_or_default();
        let written::Compare {
            kind,
            path,
            ignore,
            atol,
            rtol,
            at_least,
            answer_bytes,
            agreement,
            min_pairs,
            samples,
        } = value;
        let label = format!("{label}: compare");
        // What is to be compared may have been set aside for a mistake in it.
        let known = self.present(&["shadows", shadow, "compare", "kind"]);
        let kind = kind.map_or(ComparisonKind::Status, |kind| kind.value);
        let only = |member: Option<Range<usize>>, name, kinds: &[ComparisonKind]| {
            member.filter(|_| known && !kinds.contains(&kind)).map(|at| (at, name, kinds.to_vec()))
        };
        use ComparisonKind::{Embedding, Exact, Label, Numeric, Status, Text};
        let span_of = |number: &Option<At<f64>>| number.as_ref().map(|at| at.span.clone());
        let misplaced = [
            only(
                path.as_ref().map(|at| at.span.clone()),
                "path",
                &[Label, Numeric, Text, Embedding],
            ),
            only(ignore.as_ref().map(|at| at.span.clone()), "ignore", &[Exact]),
            only(span_of(&atol), "atol", &[Numeric]),
            only(span_of(&rtol), "rtol", &[Numeric]),
            only(span_of(&at_least), "at_least", &[Text, Embedding]),
        ];
        for (at, name, kinds) in misplaced.into_iter().flatten() {
            let words: Vec<String> =
                kinds.into_iter().map(|kind| format!("{:?}", word(kind))).collect();
            let what = format!("{label}: {name} says nothing about kind = {:?}", word(kind));
            self.problem(&at, what, format!("remove it, or write kind = {}", words.join(" or ")));
        }
        let path = path.map(|path| self.pointer(&format!("{label}.path"), path));
        let ignored = self.pointers(&format!("{label}.ignore"), ignore);
        let tolerance = |check: &mut Self, name, number: Option<At<f64>>, default| {
            check.number(
                &format!("{label}.{name}"),
                number,
                default,
                |number| number >= 0.0,
                "from 0 up",
            )
        };
        let closeness = Closeness {
            absolute: tolerance(self, "atol", atol, Closeness::default().absolute),
            relative: tolerance(self, "rtol", rtol, Closeness::default().relative),
        };
        let fraction = |check: &mut Self, name, number: Option<At<f64>>, default| {
            let is_fraction = |number: f64| number > 0.0 && number <= 1.0;
            let range = "above 0 and at most 1";
            check.number(&format!("{label}.{name}"), number, default, is_fraction, range)
        };
        let alike = if kind == Embedding { EMBEDDING_AGREES } else { TEXT_AGREES };
        let at_least = fraction(self, "at_least", at_least, alike);
        let how = match kind {
            Status => How::Status,
            Exact => How::Body(Comparison::Exact { ignored }),
            Label => match path {
                Some(pointer) => How::Body(Comparison::Label { pointer }),
                None => How::SaidLabel,
            },
            Numeric => {
                let place = ["shadows", shadow, "compare"];
                let path = path.map(|value| At { span: span.clone(), value });
                let example = "\"/outputs/0/data\"";
                let path = self.required(path, &label, &place, "path", &span, example);
                let pointer = path.map(|path| path.value).unwrap_or_default();
                How::Body(Comparison::Numeric { pointer, closeness })
            }
            Text => match path {
                Some(pointer) => How::Body(Comparison::Text { pointer, at_least }),
                None => How::Said { at_least },
            },
            Embedding => {
                let pointer = path.unwrap_or_else(|| "/data/0/embedding".to_owned());
                How::Body(Comparison::Embedding { pointer, at_least })
            }
        };
        Compare {
            how,
            answer_bytes: self.size(
                &format!("{label}.answer_bytes"),
                answer_bytes.as_ref(),
                256 << 10,
                KIB..=4 << 20,
            ),
            agreement: fraction(self, "agreement", agreement, 0.95),
            min_pairs: self.whole(
                &format!("{label}.min_pairs"),
                min_pairs.as_ref(),
                LEAST_PAIRS,
                1..=1_000_000_000,
            ),
            samples: samples.map(|samples| self.samples(&label, samples, route)),
        }
    }

    fn samples(
        &mut self,
        label: &str,
        samples: At<written::Samples>,
        route: Option<&Route>,
    ) -> Samples {
        let At { span, value: written::Samples { most, bytes, retention, redact } } = samples;
        let label = format!("{label}.samples");
        if let Some(route) = route.filter(|route| !route.payload_capture)
            && self.present(&["routes", &route.name, "payload_capture"])
        {
            let what = format!(
                "{label} would keep what clients of route {:?} ask and are answered, which that does \
                 not allow",
                &*route.name
            );
            let mend = format!(
                "write payload_capture = true in [routes.{}], or remove samples: counts are kept \
                 either way",
                route.name
            );
            self.problem(&span, what, mend);
        }
        Samples {
            most: self.whole(&format!("{label}.most"), most.as_ref(), 100, 1..=10_000),
            bytes: self.size(&format!("{label}.bytes"), bytes.as_ref(), 8 << 10, 64..=256 << 10),
            retention: self.duration(
                &format!("{label}.retention"),
                retention.as_ref(),
                7 * DAY,
                Duration::from_secs(1)..=365 * DAY,
            ),
            redact: self.pointers(&format!("{label}.redact"), redact),
        }
    }

    /// A number for which `fits` holds, or `default`.
    fn number(
        &mut self,
        label: &str,
        number: Option<At<f64>>,
        default: f64,
        fits: impl Fn(f64) -> bool,
        range: &str,
    ) -> f64 {
        let Some(At { span, value }) = number else { return default };
        if value.is_finite() && fits(value) {
            return value;
        }
        self.problem(&span, format!("{label} is {value}"), format!("a number {range}"));
        default
    }

    fn pointers(&mut self, label: &str, list: Option<At<Vec<At<String>>>>) -> Vec<String> {
        let Some(At { span, value: list }) = list else { return Vec::new() };
        if list.len() > MOST_POINTERS {
            let what = format!("{label} has {} places", list.len());
            self.problem(&span, what, format!("at most {MOST_POINTERS}"));
        }
        list.into_iter().map(|pointer| self.pointer(label, pointer)).collect()
    }

    /// A JSON pointer (RFC 6901).
    fn pointer(&mut self, label: &str, pointer: At<String>) -> String {
        let text = &pointer.value;
        let is_escaped =
            text.split('~').skip(1).all(|rest| rest.starts_with('0') || rest.starts_with('1'));
        if (!text.is_empty() && !text.starts_with('/')) || !is_escaped {
            let what = format!("{label}: {} is not a JSON pointer", self.show(&pointer));
            let mend = "write a place such as \"/choices/0/message/content\"; ~0 stands for ~ and ~1 for /";
            self.problem(&pointer.span, what, mend);
        }
        pointer.value
    }
}

/// As it is written.
fn word(kind: ComparisonKind) -> &'static str {
    match kind {
        ComparisonKind::Status => "status",
        ComparisonKind::Exact => "exact",
        ComparisonKind::Label => "label",
        ComparisonKind::Numeric => "numeric",
        ComparisonKind::Text => "text",
        ComparisonKind::Embedding => "embedding",
    }
}
