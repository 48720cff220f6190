//! What judging costs: one look of the control task at everything, and its parts.
#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policies::Outcome;
use policies::evidence::{self, Exposure, Marks, Slowness, UnitKind};
use policies::guardrail::{MarkWatch, Tables};
use policies::ramp::{self, Settings, Situation, State};
use policies::sketch::Sketch;
use policies::statistics::attribution::{Against, Epoch, Table, log_e_harm, ratio};
use policies::statistics::rule::{Evidence, Reached, Rule};
use policies::statistics::slowdown::Mark;
use policies::statistics::{floor, quantile, rate, sample_ratio};

/// Every share another one, as with a bandit: nothing can be put together.
fn epochs(count: u64, salt: u64) -> Vec<Epoch> {
    (0..count)
        .map(|n| Epoch {
            pi: 0.01 + 0.009 * n as f64,
            treated: 3 + (n * 7 + salt) % 40,
            control: 100 + (n * 13 + salt) % 900,
        })
        .collect()
}

/// One judged variant: the epochs of each guardrail, and the tables that they share.
struct Variant {
    guardrails: Vec<Vec<Epoch>>,
    failures: (Table, Table),
    slowness: (Table, Table),
    reached: Vec<Reached>,
}

impl Variant {
    fn new(salt: u64) -> Self {
        let table = Table::new;
        Self {
            guardrails: (0..5).map(|guardrail| epochs(50, salt + guardrail)).collect(),
            failures: (table(Against::AtMost(1.2)), table(Against::AtLeast(1.5))),
            slowness: (table(Against::AtMost(1.0)), table(Against::AtLeast(1.0))),
            reached: vec![Reached::default(); 5],
        }
    }

    fn judge(&mut self, rule: &Rule) -> usize {
        let mut said = 0;
        for (at, epochs) in self.guardrails.iter().enumerate() {
            // Two guardrails on failures, three on latency.
            let is_failures = at < 2;
            let (harm, safe) = if is_failures { &mut self.failures } else { &mut self.slowness };
            let events = epochs.iter().map(|epoch| epoch.treated).sum();
            let evidence = Evidence {
                harm: harm.log_e(epochs),
                above_floor: is_failures.then(|| floor::log_e_above(events, 1e6, 0.002)),
                safe: safe.log_e(epochs),
                below_ceiling: is_failures.then(|| floor::log_e_below(events, 1e6, 0.005)),
                seen: (1_000_000, 1_000_000),
            };
            let (verdict, reached) = rule.judge(&evidence, self.reached[at]);
            self.reached[at] = reached;
            said += verdict as usize;
        }
        said
    }
}

fn look(c: &mut Criterion) {
    let rule = Rule { alpha_breach: 0.01, alpha_held: 0.05, least: 0 };
    let fresh = || (0..400).map(Variant::new).collect::<Vec<_>>();
    let mut group = c.benchmark_group("judge");
    group.sample_size(10);
    let mut variants = fresh();
    // 100 experiments, 4 judged variants each, 50 epochs, 5 guardrails.
    group.bench_function("look/everything", |b| {
        b.iter(|| variants.iter_mut().map(|variant| variant.judge(&rule)).sum::<usize>());
    });
    // The same when no table is filled, as after a start.
    group.bench_function("look/first", |b| {
        b.iter_batched(
            fresh,
            |mut variants| variants.iter_mut().map(|variant| variant.judge(&rule)).sum::<usize>(),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// An experiment with a control and four variants that ramp, after fifty changes of its shares.
struct Running {
    evidence: evidence::Evidence,
    at: Situation,
    ramps: Vec<(State, Settings, Tables, MarkWatch)>,
}

impl Running {
    fn new(salt: u64) -> Self {
        let unit =
            if salt.is_multiple_of(2) { UnitKind::Request } else { UnitKind::Sticky { rate: 1.0 } };
        let mut evidence = evidence::Evidence::new(unit);
        for revision in 1..=50_u16 {
            let (revision, share) = (u64::from(revision), 100 + 30 * revision);
            evidence.open(revision, &[10_000 - 4 * share, share, share, share, share]);
            for slowness in Slowness::ALL {
                let marks = Marks::new(Mark::at_objective(0.2), [0.15, 0.25, 0.35, 0.5, 1.0]);
                evidence.freeze(revision, slowness, marks);
            }
            for unit in 0..400_u64 {
                let hash = evidence::mix64(unit ^ salt << 20 ^ revision << 40);
                let outcome = if hash.is_multiple_of(97) { Outcome::Timeout } else { Outcome::Ok };
                let bucket = ((hash >> 32) * 10_000) >> 32;
                let variant = bucket / u64::from(share);
                let variant = if variant < 4 { u8::try_from(variant + 1).unwrap() } else { 0 };
                evidence.add(&Exposure {
                    unit: hash,
                    revision,
                    variant,
                    outcome,
                    duration_micros: Some(100_000 + hash % 150_000),
                    ..Exposure::default()
                });
            }
        }
        let at = Situation {
            now: 1_800_000_000,
            revision: 50,
            share: 1_600,
            arms: vec![],
            backend: 1,
            drifted: false,
            route_seconds: None,
        };
        let ramps = (1..=4).map(|treated| {
            let settings =
                Settings { treated, judged_variants: 4, warm_up: None, ..Settings::default() };
            let (state, _) = ramp::start(&at, &settings);
            (state, settings, Tables::default(), MarkWatch::default())
        });
        let ramps = ramps.collect();
        Self { evidence, at, ramps }
    }

    fn look(&mut self) -> usize {
        let Self { evidence, at, ramps } = self;
        let mut decided = 0;
        for (state, settings, tables, watch) in ramps {
            decided += ramp::marks_due(state, at, evidence, settings, watch).len();
            let (_, decision) = ramp::look(state, at, evidence, settings, tables);
            decided += usize::from(decision.is_some());
        }
        decided
    }
}

/// A tick of the control task: a hundred experiments, four ramps in each.
fn tick(c: &mut Criterion) {
    let mut running: Vec<Running> = (0..100).map(Running::new).collect();
    let mut group = c.benchmark_group("judge");
    group.sample_size(10);
    group.bench_function("tick", |b| {
        b.iter(|| running.iter_mut().map(Running::look).sum::<usize>());
    });
    group.finish();
    let bytes = running[1].evidence.to_bytes();
    c.bench_function("evidence/to_bytes/sticky", |b| b.iter(|| running[1].evidence.to_bytes()));
    c.bench_function("evidence/from_bytes/sticky", |b| {
        b.iter(|| evidence::Evidence::from_bytes(&bytes))
    });
    for (name, at) in [("request", 0), ("sticky", 1)] {
        let evidence = &mut running[at].evidence;
        let mut unit = 0_u64;
        c.bench_function(&format!("evidence/add/{name}"), |b| {
            b.iter(|| {
                unit += 1;
                evidence.add(&Exposure {
                    unit: evidence::mix64(unit % 5_000),
                    revision: 50,
                    duration_micros: Some(90_000 + unit % 300_000),
                    first_byte_micros: Some(30_000),
                    output_tokens: Some(300),
                    ..Exposure::default()
                })
            });
        });
    }
}

fn parts(c: &mut Criterion) {
    let fifty = epochs(50, 1);
    let mut table = Table::new(Against::AtMost(1.2));
    c.bench_function("attribution/table/50", |b| b.iter(|| table.log_e(black_box(&fifty))));
    c.bench_function("attribution/log_e/50", |b| b.iter(|| log_e_harm(black_box(&fifty), 1.2)));
    c.bench_function("attribution/ratio/5", |b| b.iter(|| ratio(black_box(&fifty[..5]), 0.05)));
    c.bench_function("floor", |b| b.iter(|| floor::log_e_above(black_box(120), 50_000.0, 0.002)));
    c.bench_function("rate/interval", |b| {
        b.iter(|| rate::interval(black_box(950), 100_000, 0.05, rate::T_OPT));
    });
    let mut sketch = Sketch::new();
    (1..10_000).for_each(|n| sketch.add(f64::from(n) / 1e4));
    c.bench_function("quantile/sketch", |b| {
        b.iter(|| quantile::interval_of_sketch(black_box(&sketch), 0.95, 0.05, quantile::T_OPT));
    });
    let epoch = sample_ratio::Epoch { counts: &[900, 19_100], shares: &[5.0, 95.0] };
    c.bench_function("sample_ratio", |b| {
        b.iter(|| sample_ratio::log_e(&[black_box(epoch)], sample_ratio::CONCENTRATION));
    });
}

criterion_group!(benches, look, tick, parts);
criterion_main!(benches);
