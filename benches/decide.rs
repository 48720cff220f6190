//! What a request costs before it goes anywhere: find its route, assign its unit, check its key.
#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use policies::api_key::{KeyEntry, KeyRing, stored_hash};
use policies::{Grants, KeyLimits, Role};
use routing::{
    Allocation, Experiment, Facts, HashKey, Model, PathPattern, RequestHead, RouteTable, Rule,
    Salt, Unit, VariantId,
};

fn rule(path: &str) -> Rule {
    Rule {
        hosts: [].into(),
        path: PathPattern::parse(path).unwrap(),
        methods: [].into(),
        headers: [].into(),
        model: None,
    }
}

fn find_route(c: &mut Criterion) {
    let mut group = c.benchmark_group("find_route");
    for routes in [1, 10, 100, 1_000] {
        let table =
            RouteTable::new((0..routes).map(|n| (rule(&format!("/v1/models/{n}/infer")), n)));
        let headers = HeaderMap::new();
        let path = format!("/v1/models/{}/infer", routes / 2);
        let head =
            RequestHead { method: &Method::POST, host: "a.test", path: &path, headers: &headers };
        group.bench_function(BenchmarkId::from_parameter(routes), |b| {
            b.iter(|| table.find(black_box(&head), Model::Unread).unwrap());
        });
    }
    group.finish();
}

fn assign(c: &mut Criterion) {
    let experiment = Experiment {
        name: "int8".into(),
        salt: Salt::new(&HashKey([7; 16]), "int8/variant"),
        control: VariantId(0),
        variants: ["stable".into(), "canary".into()].into(),
        allocation: Arc::new(Allocation::initial(&[9_000, 1_000]).unwrap()),
        targets: [].into(),
        layer: None,
        running: true,
    };
    let headers = HeaderMap::new();
    let facts = Facts { headers: &headers, key: "mobile", forced: None };
    c.bench_function("assign", |b| {
        b.iter(|| {
            routing::assign(None, std::slice::from_ref(&experiment), black_box(&facts), |_| {
                Some(Unit("user-4711".into()))
            })
        });
    });
}

fn check_key(c: &mut Criterion) {
    let pepper = [3; 32];
    let entry = |n: usize| KeyEntry {
        id: format!("key-{n}").into(),
        name: format!("key-{n}").into(),
        role: Role::Client,
        grants: Grants::All,
        expires_at_unix: None,
        revoked: false,
        limits: KeyLimits::default(),
    };
    let secret = |n: usize| format!("a-secret-of-the-operators-own-making-{n}");
    let ring =
        KeyRing::new(pepper, (0..1_000).map(|n| (stored_hash(&pepper, secret(n)), entry(n))), []);
    let presented = secret(500);
    c.bench_function("check_key/1000", |b| {
        b.iter(|| ring.find(black_box(&presented), 0).unwrap());
    });
}

criterion_group!(benches, find_route, assign, check_key);
criterion_main!(benches);
