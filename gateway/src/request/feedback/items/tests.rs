use super::*;

fn one(body: &str) -> Result<Item<'_>, Cow<'static, str>> {
    let items = list(body.as_bytes()).unwrap();
    assert_eq!(items.len(), 1, "{body}");
    item(items[0])
}

#[test]
fn an_item_is_read_as_it_is_written() {
    let read = one(r#" {"receipt":"r","metric":"thumbs_up","value":true} "#).unwrap();
    let expected = Item {
        about: About::Receipt("r".into()),
        metric: "thumbs_up".into(),
        value: Said::Bool(true),
        id: None,
        segment: None,
    };
    assert_eq!(read, expected);
    let text = r#"{"value":"say \"no\"","id":"a1","metric":"why","request_id":"q",
        "segment":{"plan":"free","country":"de"},"receipt":null}"#;
    let expected = Item {
        about: About::Request("q".into()),
        metric: "why".into(),
        value: Said::Text("say \"no\"".into()),
        id: Some("a1".into()),
        segment: Some(r#"{"country":"de","plan":"free"}"#.into()),
    };
    assert_eq!(one(text).unwrap(), expected);
    for (text, number) in [("4", 4.0), ("-7", -7.0), ("0.25", 0.25), ("1e3", 1000.0)] {
        let text = format!(r#"{{"receipt":"r","metric":"m","value":{text}}}"#);
        assert_eq!(one(&text).unwrap().value, Said::Number(number));
    }
    let empty = one(r#"{"receipt":"r","metric":"m","value":1,"segment":{}}"#).unwrap();
    assert_eq!(empty.segment, None);
}

#[test]
fn an_item_that_cannot_be_meant_says_why() {
    let long = |length: usize| "x".repeat(length);
    let labels = (0..9).map(|n| format!("\"l{n}\":\"\"")).collect::<Vec<_>>().join(",");
    for (text, why) in [
        (r#"["r","m",true]"#, "an item is an object"),
        (r#"{"metric":"m","value":1}"#, "`receipt` (or `request_id`) is missing"),
        (r#"{"receipt":"r","request_id":"q","metric":"m","value":1}"#, "not both"),
        (r#"{"receipt":"r","value":1}"#, "`metric` is missing"),
        (r#"{"receipt":"r","metric":"m"}"#, "`value` is missing"),
        (r#"{"receipt":"r","metric":"m","value":null}"#, "`value` is missing"),
        (r#"{"receipt":"r","metric":"m","value":[1]}"#, "a boolean, a finite number or text"),
        (r#"{"receipt":"r","metric":"m","value":{"a":1}}"#, "a boolean, a finite number or text"),
        (r#"{"receipt":"r","metric":"m","value":1e999}"#, "number out of range"),
        (r#"{"receipt":7,"metric":"m","value":1}"#, "expected text"),
        (r#"{"receipt":"r","metric":"m","value":1,"valu":2}"#, "unknown field `valu`"),
        (r#"{"receipt":"r","metric":"m","value":1,"value":2}"#, "duplicate field `value`"),
        (r#"{"receipt":"r","metric":"m","value":1,"id":""}"#, "`id` has 1 to 128 bytes"),
        (r#"{"receipt":"r","metric":"m","value":1,"segment":{"a":1}}"#, "expected text"),
        (r#"{"receipt":"r","metric":"m","value":1,"segment":{"a":{}}}"#, "invalid type: map"),
        (r#"{"receipt":"r","metric":"m","value":1,"segment":{"a b":"x"}}"#, "a name in `segment`"),
        (r#"{"receipt":"r","metric":"m","value":1,"segment":{"a":"\n"}}"#, "a label in `segment`"),
        (r#"{"receipt":"r","metric":"m","value":1,"segment":{"a":"x","a":"y"}}"#, "occurs twice"),
        (
            &format!(r#"{{"receipt":"r","metric":"m","value":1,"segment":{{{labels}}}}}"#),
            "more than 8 labels",
        ),
        (
            &format!(r#"{{"receipt":"r","metric":"m","value":"{}"}}"#, long(MOST_TEXT + 1)),
            "more than 4096 bytes",
        ),
        (
            &format!(r#"{{"receipt":"r","metric":"m","value":1,"id":"{}"}}"#, long(129)),
            "`id` has 1 to 128 bytes",
        ),
    ] {
        let whole = format!("[{text}]");
        let said = one(&whole).unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
        assert!(said.len() <= 200, "{said}");
    }
}

#[test]
fn what_is_no_list_of_items_is_refused_whole() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("[{}]", vec!["{}"; MOST_ITEMS + 1].join(","));
    for (body, why) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("7", "neither an object nor a list"),
        ("null", "neither an object nor a list"),
        ("\"receipt\"", "neither an object nor a list"),
        ("[{}] x", "trailing"),
        ("[{},]", "expected value"),
        (&many, "more than 1000 items"),
    ] {
        let said = list(body.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    list(b"{\"receipt\":\"\xff\"}").unwrap_err();
    let items = list(nested.as_bytes());
    assert!(items.is_err() || items.is_ok_and(|items| item(items[0]).is_err()));
    assert_eq!(list(b"[]").unwrap().len(), 0);
    assert_eq!(list(many.replacen("{},", "", 1).as_bytes()).unwrap().len(), MOST_ITEMS);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        if let Ok(items) = list(&bytes) {
            items.into_iter().for_each(|raw| drop(item(raw)));
        }
    }
}
