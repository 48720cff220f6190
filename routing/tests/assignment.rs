//! Override, holdout, layer, targets, split: in this order, and the reason is kept.

#![expect(clippy::expect_used, reason = "what a test cannot set up fails it")]

use http::{HeaderMap, HeaderName, HeaderValue};
use routing::{
    Allocation, AssignFault, Assignment, Condition, Experiment, Facts, HashKey, HeaderMatch,
    HeaderValueMatch, Holdout, Layer, Reason, Salt, Target, Unit, UnitSource, VariantId, assign,
    cookie,
};
use std::borrow::Cow;
use std::sync::Arc;

const KEY: HashKey = HashKey([7; 16]);
const CONTROL: VariantId = VariantId(0);
const CANARY: VariantId = VariantId(1);

fn experiment(name: &str, shares: &[u16; 2]) -> Experiment {
    Experiment {
        name: name.into(),
        salt: Salt::new(&KEY, &format!("{name}/variant")),
        control: CONTROL,
        variants: ["stable".into(), format!("{name}-canary").into()].into(),
        allocation: Arc::new(Allocation::initial(shares).expect("shares")),
        targets: [].into(),
        layer: None,
        running: true,
    }
}

/// An experiment in slot `slot` of a layer whose only occupied slot is 1.
fn layered(slot: u8) -> Experiment {
    let allocation = Allocation::initial(&[0, 10_000, 0]).expect("shares");
    let layer = Layer { salt: Salt::new(&KEY, "layer:search"), allocation };
    let layer = Some((Arc::new(layer), VariantId(slot)));
    Experiment { layer, ..experiment("a", &[5_000, 5_000]) }
}

fn targeted(conditions: impl IntoIterator<Item = Condition>) -> Experiment {
    let target = |when| Target { when, variant: CANARY };
    let targets = conditions.into_iter().map(target).collect();
    Experiment { targets, ..experiment("a", &[10_000, 0]) }
}

fn header(name: &'static str, value: &str) -> HeaderMatch {
    HeaderMatch {
        name: HeaderName::from_static(name),
        value: HeaderValueMatch::Exact(value.into()),
    }
}

/// What one request brings.
#[derive(Default)]
struct Asked {
    unit: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    key: &'static str,
    forced: Option<&'static str>,
    holdout: Option<Holdout>,
}

impl Asked {
    fn unit(unit: &'static str) -> Self {
        Self { unit: Some(unit), ..Self::default() }
    }

    fn of(&self, experiments: &[Experiment]) -> Result<Assignment, AssignFault> {
        let headers: HeaderMap = headers(&self.headers);
        let facts = Facts { headers: &headers, key: self.key, forced: self.forced };
        assign(self.holdout.as_ref(), experiments, &facts, |_| {
            self.unit.map(|unit| Unit(Cow::Borrowed(unit)))
        })
    }

    #[track_caller]
    fn gets(&self, experiments: &[Experiment], experiment: usize, variant: u8, reason: Reason) {
        let got = self.of(experiments).expect("an assignment");
        let wanted = (Some(experiment), Some(VariantId(variant)), reason);
        assert_eq!((got.experiment, got.variant, got.reason), wanted);
        assert_eq!(got.eligible, reason == Reason::Split);
        assert!(reason.index() < Reason::TAKEN);
    }

    #[track_caller]
    fn gets_none(&self, experiments: &[Experiment], reason: Reason) {
        let got = self.of(experiments).expect("an assignment");
        assert_eq!((got.experiment, got.variant, got.reason), (None, None, reason));
        assert!(reason.index() >= Reason::TAKEN);
        assert!(!got.eligible);
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn everybody() -> Option<Holdout> {
    Some(Holdout { salt: Salt::new(&KEY, "holdout"), share_bp: 10_000 })
}

#[test]
fn the_split_follows_bucket_and_allocation_only() {
    let experiment = experiment("a", &[5_000, 5_000]);
    for unit in ["u1", "u2", "u3", "u4", "u5", "u6"] {
        let got = Asked::unit(unit).of(std::slice::from_ref(&experiment)).expect("an assignment");
        let bucket = experiment.salt.bucket(unit);
        assert_eq!(
            got,
            Assignment {
                experiment: Some(0),
                variant: Some(experiment.allocation.variant_of(bucket)),
                reason: Reason::Split,
                bucket: Some(bucket),
                unit_hash: experiment.salt.hash(unit),
                eligible: true,
            }
        );
    }
}

#[test]
fn a_variant_with_every_bucket_is_no_comparison() {
    Asked::unit("u").gets(&[experiment("a", &[0, 10_000])], 0, 1, Reason::Single);
}

#[test]
fn a_request_without_a_unit_gets_control_and_counts_for_nothing() {
    let all_canary = [experiment("a", &[0, 10_000])];
    Asked::default().gets(&all_canary, 0, 0, Reason::NoUnit);
    Asked::unit("").gets(&all_canary, 0, 0, Reason::NoUnit);
    let held_out = Asked { holdout: everybody(), ..Asked::default() };
    held_out.gets(&all_canary, 0, 0, Reason::NoUnit);
}

#[test]
fn a_target_decides_before_the_split_and_needs_no_unit_unless_it_names_one() {
    let by_header = [targeted([Condition::Header(header("x-team", "research"))])];
    let by_key = [targeted([Condition::Key("mobile".into())])];
    let by_unit = [targeted([Condition::units(["zoe".into(), "ann".into(), "bob".into()])])];
    let team = vec![("x-team", "research")];

    Asked { headers: team.clone(), ..Asked::unit("u") }.gets(&by_header, 0, 1, Reason::Target);
    Asked { headers: team, ..Asked::default() }.gets(&by_header, 0, 1, Reason::Target);
    Asked { headers: vec![("x-team", "ops")], ..Asked::unit("u") }.gets(
        &by_header,
        0,
        0,
        Reason::Single,
    );
    Asked { key: "mobile", ..Asked::default() }.gets(&by_key, 0, 1, Reason::Target);
    Asked { key: "web", ..Asked::default() }.gets(&by_key, 0, 0, Reason::NoUnit);
    for unit in ["ann", "bob", "zoe"] {
        Asked::unit(unit).gets(&by_unit, 0, 1, Reason::Target);
    }
    Asked::unit("eve").gets(&by_unit, 0, 0, Reason::Single);
    Asked::default().gets(&by_unit, 0, 0, Reason::NoUnit);
}

#[test]
fn a_target_does_not_guess_between_repeated_headers() {
    let by_header = [targeted([Condition::Header(header("x-team", "research"))])];
    let twice = vec![("x-team", "ops"), ("x-team", "research")];
    let fault = Asked { headers: twice, ..Asked::unit("u") }.of(&by_header).expect_err("a fault");
    assert!(matches!(fault, AssignFault::RepeatedHeader(_)), "{fault:?}");
}

#[test]
fn the_holdout_comes_before_layer_and_targets() {
    let mut experiment = layered(2);
    experiment.targets = targeted([Condition::Key("mobile".into())]).targets;
    let asked = Asked { holdout: everybody(), key: "mobile", ..Asked::unit("u") };
    asked.gets_none(&[experiment], Reason::Holdout);
    let nobody = Holdout { salt: Salt::new(&KEY, "holdout"), share_bp: 0 };
    let asked = Asked { holdout: Some(nobody), ..Asked::unit("u") };
    asked.gets(&[experiment_of_all()], 0, 1, Reason::Single);
}

fn experiment_of_all() -> Experiment {
    experiment("all", &[0, 10_000])
}

#[test]
fn a_unit_outside_the_slot_goes_on_to_the_next_experiment() {
    Asked::unit("u").gets_none(&[layered(2)], Reason::OutsideLayer);
    Asked::unit("u").gets(&[layered(2), experiment_of_all()], 1, 1, Reason::Single);
    let got = Asked::unit("u").of(&[layered(1)]).expect("an assignment");
    assert_eq!((got.experiment, got.reason), (Some(0), Reason::Split));
}

#[test]
fn a_stopped_experiment_takes_no_request() {
    let stopped = || Experiment { running: false, ..experiment("a", &[0, 10_000]) };
    Asked::unit("u").gets_none(&[stopped()], Reason::Stopped);
    Asked::unit("u").gets(&[stopped(), experiment_of_all()], 1, 1, Reason::Single);
    Asked::unit("u").gets_none(&[layered(2), stopped()], Reason::Stopped);
    Asked::unit("u").gets_none(&[], Reason::NoExperiment);
    // Not even by override; but its variant is not unknown.
    let forced = Asked { forced: Some("a-canary"), ..Asked::unit("u") };
    forced.gets_none(&[stopped()], Reason::Stopped);
}

#[test]
fn an_override_beats_everything_but_a_stop() {
    let asked = Asked { forced: Some("a-canary"), holdout: everybody(), ..Asked::unit("u") };
    asked.gets(&[layered(2)], 0, 1, Reason::Override);
    let asked = Asked { forced: Some("a-canary"), ..Asked::default() };
    asked.gets(&[experiment_of_all(), layered(2)], 1, 1, Reason::Override);
    let unknown = Asked { forced: Some("nobody"), ..Asked::unit("u") };
    let fault = unknown.of(&[layered(1)]).expect_err("no such variant");
    assert_eq!(fault.to_string(), "no experiment of this route has a variant `nobody`");
}

#[test]
fn each_reason_has_its_word() {
    let words = [
        (Reason::Split, "split"),
        (Reason::Target, "targeting_match"),
        (Reason::Override, "targeting_match"),
        (Reason::Single, "static"),
        (Reason::NoUnit, "default"),
        (Reason::Holdout, "holdout"),
        (Reason::OutsideLayer, "outside"),
        (Reason::Stopped, "disabled"),
        (Reason::NoExperiment, "none"),
    ];
    for (reason, word) in words {
        assert_eq!(reason.as_str(), word);
    }
}

#[test]
fn a_unit_source_is_read_and_written_alike() {
    fn check(written: &str, shown: &str) {
        let source: UnitSource = written.parse().expect("a source");
        assert_eq!(source.to_string(), shown);
        assert_eq!(shown.parse(), Ok(source));
    }
    check("header:X-User-Id", "header:x-user-id");
    check("cookie:sid", "cookie:sid");
    check("jwt:sub", "jwt:sub");
    check("jwt:https://example.com/claim", "jwt:https://example.com/claim");
    check("body:/user/id", "body:/user/id");
    check("body:user.id", "body:/user/id");
    check("body:user", "body:/user");
    check("body:a~b.c/d", "body:/a~0b/c~1d");
    check("key", "key");
    check("address", "address");
    check("request", "request");
}

#[test]
fn a_unit_source_that_cannot_be_says_what_can() {
    fn check(written: &str, message: &str) {
        let fault = written.parse::<UnitSource>().expect_err("not a source");
        assert_eq!(fault.to_string(), message);
    }
    let forms = "is not a unit; write header:NAME, cookie:NAME, jwt:CLAIM, body:/JSON/pointer, \
                 key, address or request";
    for written in ["", "user", "Key", "query:id", "key:mobile", "header"] {
        check(written, &format!("`{written}` {forms}"));
    }
    check("header:", "`header:` does not say which header, as in header:x-user-id");
    check("header:a b", "`header:a b` does not say which header, as in header:x-user-id");
    check("cookie:a=b", "`cookie:a=b` does not say which cookie, as in cookie:sid");
    check("jwt:", "`jwt:` does not say which claim, as in jwt:sub");
    for written in ["body:", "body:/", "body:a..b", "body:/a~2"] {
        let which = "which member, as in body:/user/id or body:user.id";
        check(written, &format!("`{written}` does not say {which}"));
    }
}

#[test]
fn a_cookie_is_found_over_all_fields_unless_it_contradicts_itself() {
    fn check(fields: &[&'static str], sid: Option<&str>) {
        let fields: Vec<_> = fields.iter().map(|value| ("cookie", *value)).collect();
        assert_eq!(cookie(&headers(&fields), "sid"), sid, "{fields:?}");
    }
    check(&[], None);
    check(&["sid=1"], Some("1"));
    check(&["a=b; sid=1; c=d"], Some("1"));
    check(&["a=b;sid=1"], Some("1"));
    check(&["a=b", "sid=x=y"], Some("x=y"));
    check(&["xsid=1; sidx=2; sid"], None);
    check(&["sid="], None);
    check(&["sid=1; sid=1", "sid=1"], Some("1"));
    check(&["sid=1; sid=2"], None);
    check(&["sid=1", "sid=2"], None);
    check(&["SID=1"], None);
}
