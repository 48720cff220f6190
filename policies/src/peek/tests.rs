use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

fn look(body: &str) -> Peek<'_> {
    peek(body.as_bytes(), &[]).unwrap()
}

#[track_caller]
fn check_fault(body: impl AsRef<[u8]>, pointers: &[&str], fault: PeekFault) {
    assert_eq!(peek(body.as_ref(), pointers), Err(fault));
}

#[track_caller]
fn check_invalid(body: impl AsRef<[u8]>, at: usize) {
    let body = body.as_ref();
    match peek(body, &["/a/b"]) {
        Err(PeekFault::Invalid { offset, .. }) => assert_eq!(offset, at),
        other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
    }
}

#[test]
fn a_chat_request_shows_its_model_and_stream_flag() {
    let body = r#" {"messages":[{"role":"user","content":"say \"model\": {[,"}],
        "model" : "llama-3", "stream":true, "temperature":-0.5e+3} "#;
    let seen = look(body);
    let model = seen.model.unwrap();
    assert_eq!(model.value, "llama-3");
    assert!(matches!(model.value, Cow::Borrowed(_)));
    assert_eq!(&body[model.span], "\"llama-3\"");
    assert_eq!(seen.stream, Some(true));
    assert!(seen.found.is_empty());
}

#[test]
fn a_body_without_them_shows_nothing() {
    assert_eq!(look("{}"), Peek::default());
    // Case matters, depth matters.
    assert_eq!(look(r#"{"Model":1,"MODEL":"x","a":{"model":1,"stream":true}}"#).model, None);
    for body in [r#"{"stream":null}"#, r#"{"stream":"true"}"#, r#"{"stream":{"model":[]}}"#] {
        assert_eq!(look(body), Peek::default(), "{body}");
    }
    assert_eq!(look(r#"{"stream":false}"#).stream, Some(false));
}

#[test]
fn an_escaped_key_is_the_same_member() {
    let body = r#"{"mod\u0065l":"a\u0062\n\/\ud83d\ude00"}"#;
    assert_eq!(look(body).model.unwrap().value, "ab\n/\u{1f600}");
    let fault = || PeekFault::Duplicate { member: "model".into() };
    check_fault(r#"{"model":"a","mod\u0065l":"b"}"#, &[], fault());
    check_fault(r#"{"model":"a","model":"a"}"#, &[], fault());
    let fault = PeekFault::Duplicate { member: "stream".into() };
    check_fault(r#"{"stream":true,"x":1,"stream":null}"#, &[], fault);
}

#[test]
fn a_model_that_is_not_a_string_is_a_fault() {
    for value in ["1", "null", "true", "[\"a\"]", "{}", "{\"a\":1}"] {
        let fault = PeekFault::NotAString { member: "model" };
        check_fault(format!("{{\"model\":{value}}}"), &[], fault);
    }
}

#[test]
fn pointers_find_scalars_wherever_they_stand() {
    let body = r#"{"metadata":{"user_id":"u\u002d1","n":[10,{"deep":-1.5e3}],"none":null},
        "user":"me","a/b":{"m~n":true},"":{"":"empty"},"model":"m"}"#;
    let check = |pointer: &str, value: Option<&str>| {
        let seen = peek(body.as_bytes(), &["/user", pointer]).unwrap();
        assert_eq!(seen.found[0].as_deref(), Some("me"));
        assert_eq!(seen.found[1].as_deref(), value, "{pointer}");
        assert_eq!(seen.model.unwrap().value, "m");
    };
    check("/metadata/user_id", Some("u-1"));
    check("/metadata/n/0", Some("10"));
    check("/metadata/n/1/deep", Some("-1.5e3"));
    check("/a~1b/m~0n", Some("true"));
    check("//", Some("empty"));
    check("/model", Some("m"));
    check("/user", Some("me"));
    for nothing in [
        "",
        "user",
        "/",
        "/metadata",
        "/metadata/none",
        "/metadata/n",
        "/metadata/n/00",
        "/metadata/n/2",
        "/metadata/n/+1/deep",
        "/metadata/n/-",
        "/metadata/user_id/x",
        "/user_id",
        "/n/0",
        "/User",
    ] {
        check(nothing, None);
    }
    check(&"/a".repeat(70), None);
}

#[test]
fn a_segment_is_looked_for_in_its_own_object_only() {
    // The second "b" stands in another object than the first; so does the third.
    let body = r#"{"a":{"b":"1","c":{"b":"2"}},"b":"3","c":{"a":{"b":"4"}}}"#;
    let seen = peek(body.as_bytes(), &["/a/b", "/b", "/c/a/b", "/a/c/b"]).unwrap();
    let found: Vec<_> = seen.found.iter().map(|found| found.as_deref()).collect();
    assert_eq!(found, [Some("1"), Some("3"), Some("4"), Some("2")]);
}

#[test]
fn every_inspected_segment_may_occur_once() {
    let fault = |member: &str| PeekFault::Duplicate { member: member.into() };
    check_fault(r#"{"user":"a","user":"b"}"#, &["/user"], fault("user"));
    check_fault(r#"{"m":{"u":1},"m":{}}"#, &["/m/u"], fault("m"));
    check_fault(r#"{"m":1,"m":{"u":1}}"#, &["/m/u"], fault("m"));
    check_fault(r#"{"m":{"u":{},"x":1,"\u0075":1}}"#, &["/m/u"], fault("u"));
    check_fault(r#"{"m":[{"a/b":1,"a/b":2}]}"#, &["/m/0/a~1b"], fault("a/b"));
    // Nobody looks at these.
    for body in [r#"{"x":1,"x":2}"#, r#"{"m":{"x":1,"x":2}}"#, r#"{"m":[{"u":1,"u":1}]}"#] {
        assert!(peek(body.as_bytes(), &["/m/u"]).is_ok(), "{body}");
    }
}

#[test]
fn what_is_not_an_object_is_told_from_what_is_not_json() {
    for body in ["[]", " \"a\"", "1", "-", "true", "null", "[{\"model\":1}]"] {
        check_fault(body, &[], PeekFault::NotAnObject);
    }
    check_invalid("", 0);
    check_invalid(" \r\n\t", 4);
    check_invalid("model", 0);
    check_invalid("\u{feff}{}", 0);
}

#[test]
fn what_is_not_json_is_refused_where_it_goes_wrong() {
    for (body, at) in [
        ("{", 1),
        ("{}x", 2),
        ("{} {}", 3),
        ("{\"a\":1,}", 7),
        ("{,}", 1),
        ("{a:1}", 1),
        ("{'a':1}", 1),
        ("{\"a\"}", 4),
        ("{\"a\":}", 5),
        ("{\"a\":1 \"b\":2}", 7),
        ("{\"a\":[1,]}", 8),
        ("{\"a\":[1}", 7),
        ("{\"a\":{\"b\":1]", 11),
        ("{\"a\":01}", 6),
        ("{\"a\":+1}", 5),
        ("{\"a\":-}", 6),
        ("{\"a\":.5}", 5),
        ("{\"a\":1.}", 7),
        ("{\"a\":1e}", 7),
        ("{\"a\":NaN}", 5),
        ("{\"a\":nul}", 5),
        ("{\"a\":True}", 5),
        ("{\"a\":\"b}", 8),
        ("{\"a\":\"\u{1}\"}", 6),
        ("{\"a\":\"xy\n\"}", 8),
        ("{\"a\":\"\\x\"}", 6),
        ("{\"a\":\"\\u12g4\"}", 6),
        ("{\"a\":\"\\u+123\"}", 6),
        ("{\"a\":\"\\", 6),
        ("{\"a\":1}//", 7),
        ("{\"a\":\u{a0}1}", 5),
    ] {
        check_invalid(body, at);
    }
    check_invalid(b"{\"a\":\"\xff\"}", 6);
    check_invalid(b"{\"a\":\"\xed\xa0\x80\"}", 6);
}

#[test]
fn half_a_surrogate_pair_is_refused_where_we_look_and_only_there() {
    for half in [r"\ud800", r"\ud800x", r"\udc00", r"\ud800\ud800", r"\ud800\n", r"\ud800\u0041"] {
        assert!(peek(format!("{{\"x\":\"{half}\"}}").as_bytes(), &["/a/b"]).is_ok());
        check_invalid(format!("{{\"model\":\"{half}\"}}"), 10);
        check_invalid(format!("{{\"a\":{{\"b\":\"{half}\"}}}}"), 11);
        check_invalid(format!("{{\"{half}\":1}}"), 2);
    }
}

#[test]
fn sixty_four_levels_are_allowed_and_one_more_is_not() {
    let nested =
        |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert!(peek(nested(64).as_bytes(), &["/a/0"]).is_ok());
    check_fault(nested(65), &["/a/0"], PeekFault::TooDeep);
    check_fault("{\"a\":".repeat(100_000), &[], PeekFault::TooDeep);
    let deepest = format!("/a{}", "/0".repeat(63));
    let seen = peek(nested(64).as_bytes(), &[]).map(|seen| seen.found.len());
    assert_eq!(seen, Ok(0));
    let body = nested(64);
    assert_eq!(peek(body.as_bytes(), &[&deepest]).unwrap().found[0].as_deref(), Some("1"));
}

#[test]
fn a_rewrite_replaces_that_value_and_nothing_else() {
    let body = br#"{ "a":"old", "model" :  "o\u006cd" ,"z":"old"}"#;
    let span = peek(body, &[]).unwrap().model.unwrap().span;
    let rewritten = rewrite_model(body, span, "new \"x\"\\\u{1}\u{e9}");
    let expected =
        "{ \"a\":\"old\", \"model\" :  \"new \\\"x\\\"\\\\\\u0001\u{e9}\" ,\"z\":\"old\"}";
    assert_eq!(String::from_utf8(rewritten).unwrap(), expected);
    assert_eq!(rewrite_model(b"{}", 5..7, "x"), b"{}");
    assert_eq!(rewrite_model(b"{}", Range { start: 2, end: 1 }, "x"), b"{}");
}

/// Valid documents: an object of all kinds of values, often with a model in it.
fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"([a-z]|\\\\u[0-9a-fA-F]{4}|\\\\[nrtbf/\"\\\\]){0,4}\"",
    ];
    let value = scalar.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            vec((key(), inner), 0..4).prop_map(|members| object(&members)),
        ]
    });
    vec((key(), value), 0..6).prop_map(|members| object(&members))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"model\"".to_owned()),
        Just("\"mod\\u0065l\"".to_owned()),
        Just("\"stream\"".to_owned()),
        "\"[a-d]\"",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", members.join(",\n"))
}

/// A document with some bytes replaced, inserted, removed, or the end cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![proptest::sample::select(b"{}[]\",:\\u0e-. tn1".to_vec()), any::<u8>()];
    let change = (any::<prop::sample::Index>(), 0..4_u8, byte);
    (document(), vec(change, 0..4)).prop_map(|(document, changes)| {
        let mut bytes = document.into_bytes();
        for (place, kind, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => drop(bytes.remove(place)),
                _ => bytes.truncate(place.max(bytes.len() / 2)),
            }
        }
        bytes
    })
}

/// What serde_json, which takes the last of duplicates, reads as the model.
fn model_by_serde(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(value.get("model")?.as_str()?.to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn peek_and_serde_agree_on_what_is_json(body in mutated()) {
        let syntax = std::str::from_utf8(&body)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let meaning = serde_json::from_slice::<Value>(&body);
        match peek(&body, &["/a/b", "/c", "/d/0"]) {
            Ok(seen) => {
                prop_assert!(syntax);
                if meaning.is_ok() {
                    prop_assert_eq!(seen.model.map(|m| m.value.into_owned()), model_by_serde(&body));
                }
            }
            // Numbers beyond f64 and half surrogates are syntax, but no meaning.
            Err(PeekFault::Invalid { .. }) => prop_assert!(meaning.is_err()),
            Err(PeekFault::NotAnObject) => prop_assert!(meaning.map_or(true, |v| !v.is_object())),
            Err(PeekFault::Duplicate { .. } | PeekFault::NotAString { .. }) => {}
            Err(PeekFault::TooDeep) => prop_assert!(false, "documents are shallow"),
        }
    }

    #[test]
    fn pointers_find_what_serde_finds(body in document()) {
        let pointers = ["/a", "/a/b", "/b/0", "/c/a/b", "/d/1/c", "/stream"];
        if let (Ok(seen), Ok(value)) =
            (peek(body.as_bytes(), &pointers), serde_json::from_str::<Value>(&body))
        {
            for (pointer, found) in pointers.iter().zip(seen.found) {
                // Numbers as values: serde_json writes 1E+0 as 1.0.
                let number = |text: &str| serde_json::from_str::<Value>(text).ok();
                match (value.pointer(pointer), found.as_deref()) {
                    (Some(Value::String(text)), found) => {
                        prop_assert_eq!(found, Some(text.as_str()));
                    }
                    (Some(scalar @ (Value::Bool(_) | Value::Number(_))), found) => {
                        prop_assert!(found.and_then(number).as_ref() == Some(scalar));
                    }
                    (_, found) => prop_assert_eq!(found, None),
                }
            }
        }
    }

    #[test]
    fn a_rewritten_body_has_the_new_model_and_is_otherwise_the_same(
        body in document(), new in any::<String>()
    ) {
        if let Ok(Peek { model: Some(model), .. }) = peek(body.as_bytes(), &[]) {
            let rewritten = rewrite_model(body.as_bytes(), model.span.clone(), &new);
            let again = peek(&rewritten, &[]).unwrap().model.unwrap();
            prop_assert_eq!(&again.value, &new);
            prop_assert_eq!(&rewritten[..again.span.start], &body.as_bytes()[..model.span.start]);
            prop_assert_eq!(&rewritten[again.span.end..], &body.as_bytes()[model.span.end..]);
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_and_no_pointers_panic(body: Vec<u8>, pointer: String, other in "[/~01a]{0,6}") {
        let _ = peek(&body, &[&pointer, &other]);
        let _ = peek(b"{\"a\":[{\"\":{\"a\":1}}],\"\":1,\"0\":[[]]}", &[&pointer, &other]);
    }
}
