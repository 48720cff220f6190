use proptest::prelude::*;

use super::*;

fn content<'a>(json: Option<&'a Value>, text: &'a str) -> Content<'a> {
    json.map_or(Content::Bytes(text.as_bytes()), Content::Json)
}

fn try_of(comparison: &Comparison, live: &str, copy: &str) -> Result<Agreement, Unusable> {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (of_live, of_copy) = (read(live), read(copy));
    comparison.compare(
        Answer { status: 200, body: content(of_live.as_ref(), live) },
        Answer { status: 200, body: content(of_copy.as_ref(), copy) },
    )
}

fn of(comparison: &Comparison, live: &str, copy: &str) -> Agreement {
    try_of(comparison, live, copy).unwrap()
}

fn pointer(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_status_agrees_by_its_class() {
    let of = |live, copy| {
        let answer = |status| Answer { status, body: Content::Bytes(b"") };
        Comparison::Status.compare(answer(live), answer(copy)).unwrap().agrees
    };
    assert!(of(200, 204) && of(500, 503) && !of(200, 500) && !of(404, 500));
}

#[test]
fn exact_json_may_be_in_another_order_and_differ_where_told() {
    let exact = Comparison::Exact { ignored: vec![pointer("/id"), pointer("/choices/0/seed")] };
    let live = r#"{"id":1,"a":{"x":1,"y":[1,2]},"choices":[{"seed":7,"text":"t"}]}"#;
    assert!(of(&exact, live, r#"{"choices":[{"text":"t"}],"a":{"y":[1,2],"x":1},"id":2}"#).agrees);
    assert!(!of(&exact, live, &live.replace("[1,2]", "[2,1]")).agrees);
    assert!(!of(&exact, live, &live.replace(r#""t""#, r#""u""#)).agrees);
    // No JSON: byte by byte.
    assert!(of(&exact, "plain", "plain").agrees && !of(&exact, "plain", "plain ").agrees);
    assert!(!of(&exact, live, "plain").agrees);
    // An ignored element leaves the others where they are.
    let exact = Comparison::Exact { ignored: vec![pointer("/0"), pointer("/a~1b")] };
    assert!(of(&exact, "[1,2]", "[9,2]").agrees && !of(&exact, "[1,2]", "[1,3]").agrees);
    assert!(of(&exact, r#"{"a/b":1,"c":2}"#, r#"{"a/b":3,"c":2}"#).agrees);
}

#[test]
fn a_label_is_a_value_at_a_place() {
    let label = Comparison::Label { pointer: pointer("/result/0/class") };
    let body = |class: &str| format!(r#"{{"result":[{{"class":{class},"p":0.9}}]}}"#);
    let found = of(&label, &body(r#""cat""#), &body(r#""dog""#));
    assert!(!found.agrees);
    assert_eq!(found.labels, Some(("cat".to_owned(), "dog".to_owned())));
    assert!(of(&label, &body("3"), &body("3")).agrees);
    assert_eq!(try_of(&label, &body("3"), "{}"), Err(Unusable::Copy));
    assert_eq!(try_of(&label, "{}", "{}"), Err(Unusable::Live));
    // The whole body, where it is no JSON.
    let whole = Comparison::Label { pointer: String::new() };
    assert!(of(&whole, "cat", "cat").agrees && !of(&whole, "cat", "dog").agrees);
}

#[test]
fn numbers_agree_when_all_of_them_are_close() {
    let numeric = Comparison::Numeric { pointer: pointer("/v"), closeness: Closeness::default() };
    assert!(of(&numeric, r#"{"v":1.0}"#, r#"{"v":1.0009}"#).agrees);
    assert!(!of(&numeric, r#"{"v":1.0}"#, r#"{"v":1.002}"#).agrees);
    let found = of(&numeric, r#"{"v":[1,[2,3]]}"#, r#"{"v":[1,[2,3.5]]}"#);
    assert_eq!((found.agrees, found.largest_gap), (false, Some(0.5)));
    assert!(!of(&numeric, r#"{"v":[1,2]}"#, r#"{"v":[1]}"#).agrees);
    assert_eq!(try_of(&numeric, r#"{"v":"1"}"#, r#"{"v":1}"#), Err(Unusable::Live));
    assert_eq!(try_of(&numeric, r#"{"v":1}"#, "not json"), Err(Unusable::Copy));
}

#[test]
fn texts_agree_when_they_say_nearly_the_same() {
    let text = Comparison::Text { pointer: pointer("/text"), at_least: TEXT_AGREES };
    let body = |text: &str| serde_json::json!({ "text": text }).to_string();
    let found = of(&text, &body("The  quick\nbrown FOX"), &body("the quick brown fox"));
    assert_eq!((found.agrees, found.similarity), (true, 1.0));
    let long = "the quick brown fox jumps over the lazy dog and then sleeps in the sun";
    let near = of(&text, &body(long), &body(&long.replace("sun", "sand")));
    assert!(near.agrees && near.similarity < 1.0, "{near:?}");
    let other = of(&text, &body(long), &body("i am sorry, but i cannot help with that"));
    assert!(!other.agrees && other.similarity < 0.2);
    let cut = of(&text, &body(long), &body(&long[..20]));
    assert!(!cut.agrees && (cut.length_ratio.unwrap() - 20.0 / 70.0).abs() < 1e-9);
    assert_eq!(try_of(&text, r#"{"text":5}"#, &body("a")), Err(Unusable::Live));
    // The whole body, where it is no JSON.
    let whole = Comparison::Text { pointer: String::new(), at_least: TEXT_AGREES };
    assert!(of(&whole, "Hello there", "hello  there").agrees);
    assert!(of(&whole, "", "").agrees && !of(&whole, "", "a").agrees);
}

#[test]
fn only_the_beginning_of_a_long_text_is_compared_by_shingles() {
    let (mut a, mut b) = ("é".repeat(3000), "é".repeat(3000));
    a.push_str("one end");
    b.push_str("and another");
    assert_eq!(similarity_of_texts(&a, &b), 1.0);
}

#[test]
fn embeddings_agree_when_they_point_the_same_way() {
    let embedding = Comparison::Embedding { pointer: pointer("/e"), at_least: EMBEDDING_AGREES };
    assert!(of(&embedding, r#"{"e":[1,2,3]}"#, r#"{"e":[2,4,6.1]}"#).agrees);
    let found = of(&embedding, r#"{"e":[1,0]}"#, r#"{"e":[-1,0]}"#);
    assert_eq!((found.agrees, found.similarity), (false, 0.0));
    assert_eq!(try_of(&embedding, r#"{"e":[0,0]}"#, r#"{"e":[1,0]}"#), Err(Unusable::Live));
    assert_eq!(try_of(&embedding, r#"{"e":[1,0]}"#, r#"{"e":[0,0]}"#), Err(Unusable::Copy));
    assert_eq!(try_of(&embedding, r#"{"e":[1]}"#, r#"{"e":[1,0]}"#), Err(Unusable::Copy));
    // As OpenAI's own client asks for them: 1.0 and 2.0 as 32-bit floats.
    assert!(of(&embedding, r#"{"e":"AACAPwAAAEA="}"#, r#"{"e":[1,2]}"#).agrees);
    assert_eq!(try_of(&embedding, r#"{"e":"AACAPwA="}"#, r#"{"e":[1,2]}"#), Err(Unusable::Live));
}

#[test]
fn similarities_are_counted_by_twentieths() {
    let mut counted = Similarities::default();
    for similarity in [0.0, 0.04, 0.95, 1.0, f64::NAN, 2.0, -1.0] {
        counted.add(similarity);
    }
    assert_eq!((counted.counts[0], counted.counts[19]), (4, 3));
    let mut twice = counted;
    twice.merge(&counted);
    assert_eq!(twice.counts.iter().sum::<u64>(), 14);
}

proptest! {
    #[test]
    fn similarity_is_the_same_both_ways_and_1_with_itself(a in ".{0,60}", b in ".{0,60}") {
        let similarity = similarity_of_texts(&a, &b);
        prop_assert_eq!(similarity, similarity_of_texts(&b, &a));
        prop_assert!((0.0..=1.0).contains(&similarity));
        prop_assert_eq!(similarity_of_texts(&a, &a), 1.0);
    }

    #[test]
    fn whatever_the_bodies_are_nothing_panics(live in "[\\[\\]{}\",:0-9a-c]{0,20}", copy in ".{0,20}") {
        let everywhere = [
            Comparison::Exact { ignored: vec![pointer("/a"), pointer("/0"), pointer("x"), pointer("/")] },
            Comparison::Label { pointer: pointer("/a") },
            Comparison::Numeric { pointer: String::new(), closeness: Closeness::default() },
            Comparison::Text { pointer: String::new(), at_least: TEXT_AGREES },
            Comparison::Embedding { pointer: String::new(), at_least: EMBEDDING_AGREES },
        ];
        for comparison in everywhere {
            if let Ok(found) = try_of(&comparison, &live, &copy) {
                prop_assert!((0.0..=1.0).contains(&found.similarity));
            }
        }
    }
}
