use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::statistics::Verdict;
use crate::statistics::agreement::{Closeness, Comparison};

fn whole(body: &str) -> Body<'_> {
    Body::Whole(BodyKind::Json, body.as_bytes())
}

fn side(status: u16, body: Body<'_>) -> Side<'_> {
    Side { status, failed: status == 0 || status >= 500, body }
}

const NONE: Body<'static> = Body::Missing(Missing::Unwanted);

fn label() -> How {
    How::Body(Comparison::Label { pointer: "/class".into() })
}

#[test]
fn who_failed_comes_before_what_was_said() {
    let (live, copy) = (r#"{"class":"a"}"#, r#"{"class":"a"}"#);
    let cases = [
        (200, 200, Ok(None)),
        (200, 500, Err(Some(Cause::CopyFailed))),
        (200, 0, Err(Some(Cause::CopyFailed))),
        (503, 200, Err(Some(Cause::LiveFailed))),
        (200, 404, Err(Some(Cause::Status))),
        (302, 200, Err(Some(Cause::Status))),
        (500, 0, Ok(Some(Reason::BothFailed))),
        (400, 422, Ok(Some(Reason::BothRefused))),
    ];
    for (of_live, of_copy, expected) in cases {
        let found = compare(&label(), &side(of_live, whole(live)), &side(of_copy, whole(copy)));
        let found = match found {
            Found::Agree(_) => Ok(None),
            Found::NotComparable(reason) => Ok(Some(reason)),
            Found::Differ(cause, _) => Err(Some(cause)),
        };
        assert_eq!(found, expected, "{of_live} {of_copy}");
    }
    // Where statuses are all that is compared, two refusals agree.
    let found = compare(&How::Status, &side(400, NONE), &side(422, NONE));
    assert_eq!(found, Found::Agree(None));
    assert_eq!(compare(&How::Status, &side(200, NONE), &side(204, NONE)), Found::Agree(None));
}

#[test]
fn what_cannot_be_compared_says_why() {
    let good = side(200, whole(r#"{"class":"a"}"#));
    for (missing, reason) in [
        (Missing::Encoded, Reason::Encoded),
        (Missing::TooLong, Reason::TooLong),
        (Missing::NoRoom, Reason::NoRoom),
    ] {
        let bad = side(200, Body::Missing(missing));
        assert_eq!(compare(&label(), &good, &bad), Found::NotComparable(reason));
        assert_eq!(compare(&label(), &bad, &good), Found::NotComparable(reason));
        assert_eq!(compare(&How::Status, &bad, &good), Found::Agree(None));
    }
    let other = side(200, whole(r#"{"klass":"a"}"#));
    assert_eq!(compare(&label(), &other, &good), Found::NotComparable(Reason::LiveShape));
    assert_eq!(compare(&label(), &good, &other), Found::Differ(Cause::CopyShape, None));
}

#[test]
fn a_stream_is_compared_with_what_came_whole() {
    let said = "The quick brown fox jumps over the lazy dog";
    let mut stream = String::new();
    for word in said.split_inclusive(' ') {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": word}}]});
        stream.push_str(&format!("data: {delta}\n\n"));
    }
    stream.push_str("data: [DONE]\n\n");
    let streamed = side(200, Body::Whole(BodyKind::EventStream, stream.as_bytes()));
    let text = json!({"choices": [{"message": {"content": said.to_uppercase()}}]}).to_string();
    let came_whole = side(200, whole(&text));
    let how = How::Said { at_least: 0.8 };
    let Found::Agree(Some(agreement)) = compare(&how, &streamed, &came_whole) else { panic!() };
    assert_eq!(agreement.similarity, 1.0);
    // At a place too: the same one with and without streaming.
    let pointer = "/choices/0/message/content".to_owned();
    let how = How::Body(Comparison::Text { pointer, at_least: 0.8 });
    assert!(matches!(compare(&how, &streamed, &came_whole), Found::Agree(_)));
    let other = json!({"choices": [{"message": {"content": "no"}}]}).to_string();
    let found = compare(&how, &streamed, &side(200, whole(&other)));
    assert!(matches!(found, Found::Differ(Cause::Content, Some(_))), "{found:?}");
    let yes = json!({"choices": [{"message": {"content": " yes\n"}}]}).to_string();
    let yes_too = json!({"content": [{"type": "text", "text": "yes"}]}).to_string();
    let found = compare(&How::SaidLabel, &side(200, whole(&yes)), &side(200, whole(&yes_too)));
    assert!(matches!(found, Found::Agree(Some(_))), "{found:?}");
}

#[test]
fn json_is_known_by_what_it_is() {
    let how = How::Body(Comparison::Exact { ignored: vec!["/id".into()] });
    let plain = |text: &'static str| side(200, Body::Whole(BodyKind::Other, text.as_bytes()));
    let found = compare(&how, &plain(r#"{"a":1,"id":5}"#), &plain(r#"{"id":6,"a":1}"#));
    assert!(matches!(found, Found::Agree(_)), "{found:?}");
    assert!(matches!(compare(&how, &plain("a"), &plain("a")), Found::Agree(_)));
    assert!(matches!(compare(&how, &plain("a"), &plain("b")), Found::Differ(Cause::Content, _)));
}

fn measured<'a>(live: Side<'a>, copy: Side<'a>) -> Measured<'a> {
    Measured {
        live,
        copy,
        void: None,
        backend: "live",
        first_byte: Some((0.1, 0.2)),
        first_piece: None,
        end: Some((1.0, 1.5)),
    }
}

fn count(tally: &mut Tally, how: &How, pair: &Measured<'_>) {
    tally.add(how, pair, &pair.compare(how));
}

#[test]
fn a_tally_keeps_pairs_apart_and_adds_up() {
    let mut tally = Tally::default();
    let (cat, dog) = (r#"{"class":"cat"}"#, r#"{"class":"dog"}"#);
    let how = label();
    let add = |tally: &mut Tally, live, copy| count(tally, &how, &measured(live, copy));
    for _ in 0..6 {
        add(&mut tally, side(200, whole(cat)), side(200, whole(cat)));
    }
    add(&mut tally, side(200, whole(cat)), side(200, whole(dog)));
    add(&mut tally, side(200, whole(cat)), side(503, NONE));
    add(&mut tally, side(502, NONE), side(0, NONE));
    let left =
        Measured { void: Some(Reason::ClientLeft), ..measured(side(0, NONE), side(200, NONE)) };
    count(&mut tally, &how, &left);
    let slow = Measured { end: None, ..measured(side(200, whole(cat)), side(200, whole(cat))) };
    count(&mut tally, &how, &slow);

    assert_eq!((tally.agreed.agreed, tally.agreed.pairs, tally.pairs()), (7, 9, 11));
    assert_eq!(tally.by_backend["live"].pairs, 9);
    assert_eq!(tally.differ[Cause::Content as usize], 1);
    assert_eq!(tally.differ[Cause::CopyFailed as usize], 1);
    assert_eq!(tally.void[Reason::BothFailed as usize], 1);
    assert_eq!(tally.void[Reason::ClientLeft as usize], 1);
    assert_eq!(tally.statuses, [(200, 200, 8), (200, 503, 1), (502, 0, 1)]);
    assert_eq!((tally.failures.only_copy, tally.failures.only_live, tally.both_failed), (1, 0, 1));
    assert_eq!(tally.labels.table().count(), 2);
    assert_eq!((tally.first_byte.pairs(), tally.end.pairs(), tally.slow_readers), (8, 7, 1));

    let text = serde_json::to_string(&tally).unwrap();
    let mut again: Tally = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    again.merge(&tally);
    assert_eq!((again.agreed.pairs, again.pairs()), (18, 22));
    assert_eq!(again.statuses, [(200, 200, 16), (200, 503, 2), (502, 0, 2)]);
    assert_eq!(again.end.pairs(), 14);
}

#[test]
fn gaps_and_similarities_are_kept_of_those_who_have_them() {
    let closeness = Closeness::default();
    let how = How::Body(Comparison::Numeric { pointer: "/v".into(), closeness });
    let mut tally = Tally::default();
    for (live, copy) in [(r#"{"v":1}"#, r#"{"v":1.5}"#), (r#"{"v":1}"#, r#"{"v":1}"#)] {
        count(&mut tally, &how, &measured(side(200, whole(live)), side(200, whole(copy))));
    }
    assert_eq!(tally.largest_gap, Some(0.5));
    assert_eq!(tally.similarities.counts.iter().sum::<u64>(), 0);

    let mut tally = Tally::default();
    let how = How::Said { at_least: 0.8 };
    let text = |text: &str| json!({"choices": [{"text": text}]}).to_string();
    let (a, b) = (text("entirely so"), text("nothing of the kind"));
    count(&mut tally, &how, &measured(side(200, whole(&a)), side(200, whole(&b))));
    count(&mut tally, &how, &measured(side(200, whole(&a)), side(200, whole(&a))));
    assert_eq!(tally.similarities.counts[19], 1);
    assert_eq!(tally.similarities.counts.iter().sum::<u64>(), 2);
    assert_eq!(tally.length_ratios.n, 2);
}

#[test]
fn failing_more_often_is_shown_once_and_stays() {
    let mut tally = Tally::default();
    assert_eq!(tally.look(), Verdict::TooEarly);
    for _ in 0..30 {
        count(&mut tally, &How::Status, &measured(side(200, NONE), side(500, NONE)));
    }
    assert_eq!(tally.look(), Verdict::Breached);
    for _ in 0..3000 {
        count(&mut tally, &How::Status, &measured(side(500, NONE), side(200, NONE)));
    }
    assert_eq!(tally.look(), Verdict::Breached, "it was shown");
    let mut safe = Tally::default();
    for _ in 0..300 {
        count(&mut safe, &How::Status, &measured(side(500, NONE), side(200, NONE)));
    }
    assert_eq!(safe.look(), Verdict::Held);
}

#[test]
fn statuses_that_backends_make_up_take_bounded_room() {
    let mut tally = Tally::default();
    for status in 200..900_u16 {
        count(&mut tally, &How::Status, &measured(side(200, NONE), side(status, NONE)));
    }
    assert_eq!((tally.statuses.len(), tally.other_statuses), (256, 444));
}

#[test]
fn what_is_shown_has_no_credentials_also_when_it_came_in_pieces() {
    let body = r#"{"messages":[{"content":"my key is sk-abcdefghijkl"}],"user":"ada"}"#;
    let found = shown(&whole(body), &["/user".to_owned()]).unwrap();
    assert_eq!(found, r#"{"messages":[{"content":"my key is REDACTED"}],"user":"REDACTED"}"#);
    let mut stream = String::new();
    for piece in ["it is sk-abcd", "efghijkl", "mnop"] {
        let delta = json!({"choices": [{"delta": {"content": piece}}]});
        stream.push_str(&format!("data: {delta}\n\n"));
    }
    let found = shown(&Body::Whole(BodyKind::EventStream, stream.as_bytes()), &[]).unwrap();
    assert!(found.contains("it is REDACTED") && !found.contains("abcd"), "{found}");
    assert_eq!(shown(&Body::Whole(BodyKind::Other, b"\xff\xfe"), &[]), None);
    assert_eq!(shown(&Body::Whole(BodyKind::Other, b"text"), &["/user".to_owned()]), None);
    assert_eq!(shown(&NONE, &[]), None);
}

/// Bodies that begin like something that is known, and go on as they like.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let starts = prop::sample::select(vec![
        "",
        "{\"choices\":[{\"delta\":",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: ",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"y\"}}\n\n",
        "password: ",
        "-----BEGIN PRIVATE KEY-----",
        "[[[[",
    ]);
    (starts, prop::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(start, rest)| [start.as_bytes(), &rest].concat())
}

proptest! {
    /// Whatever a backend sends, comparing it neither panics nor finds that it differs from itself.
    #[test]
    fn any_body_agrees_with_itself_or_cannot_be_compared(
        bytes in body(), other in body(), stream: bool,
    ) {
        let kind = if stream { BodyKind::EventStream } else { BodyKind::Other };
        let closeness = Closeness::default();
        for how in [
            How::Body(Comparison::Exact { ignored: vec!["/id".into()] }),
            How::Body(Comparison::Label { pointer: "/a".into() }),
            How::Body(Comparison::Numeric { pointer: String::new(), closeness }),
            How::Body(Comparison::Embedding { pointer: "/e".into(), at_least: 0.9 }),
            How::Said { at_least: 0.8 },
            How::SaidLabel,
        ] {
            let side = |bytes| side(200, Body::Whole(kind, bytes));
            let found = compare(&how, &side(&bytes), &side(&bytes));
            prop_assert!(!matches!(found, Found::Differ(..)), "{found:?}");
            let mut tally = Tally::default();
            count(&mut tally, &how, &measured(side(&bytes), side(&other)));
            prop_assert_eq!(tally.pairs(), 1);
            prop_assert!(serde_json::to_string(&tally).is_ok());
        }
        let _ = shown(&Body::Whole(kind, &bytes), &[]);
    }
}
