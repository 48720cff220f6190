use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Keeps all names.
#[derive(Default)]
struct Names(Vec<Vec<u8>>);

impl<'a> Visit<'a> for Names {
    fn name(&mut self, name: &[u8]) {
        self.0.push(name.to_vec());
    }

    fn text(&mut self, _: Text<'a>) {}
    fn number(&mut self, _: &'a [u8]) {}
    fn literal(&mut self) {}
    fn open(&mut self, _: bool, _: usize) {}
    fn close(&mut self, _: usize) {}
}

fn is_json(bytes: &[u8]) -> bool {
    let mut json = Scanner::new(bytes);
    json.walk(&mut Names::default()).and_then(|()| json.end()).is_ok()
}

#[test]
fn no_depth_exhausts_the_stack() {
    for levels in [MAX_WALKED, MAX_WALKED + 1] {
        let document = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(is_json(document.as_bytes()), levels == MAX_WALKED);
    }
    assert!(!is_json("[".repeat(1_000_000).as_bytes()));
    assert!(!is_json("{\"a\":".repeat(1_000_000).as_bytes()));
}

#[test]
fn what_opens_as_one_thing_does_not_close_as_another() {
    for document in ["[}", "{]", "[1}", "{\"a\":1]", "[{\"a\":[1}]]", "{\"a\":[}]", "[{1}]"] {
        assert!(!is_json(document.as_bytes()), "{document}");
    }
    assert!(is_json(br#" [ { "a" : [ ] , "b" : { } } , [ [ ] ] ] "#));
}

#[test]
fn a_name_that_is_no_text_is_nobodys() {
    let mut names = Names::default();
    let mut json = Scanner::new(br#"{"\ud800":1,"\u0061b":2,"c":{"d":3}}"#);
    assert_eq!(json.walk(&mut names), Ok(()));
    assert_eq!(names.0, [&b""[..], b"ab", b"c", b"d"]);
    assert_eq!(json.end(), Ok(()));
}

/// Bytes of which many matter in strings, in lengths around those at which the way of searching
/// changes.
fn string_like() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        40 => proptest::sample::select(b"a ~!#[]\x7f\x80\xa2\xdc\xff".to_vec()),
        1 => proptest::sample::select(b"\"\\\x00\x1f\n".to_vec()),
        2 => any::<u8>(),
    ];
    vec(byte, 0..100)
}

/// JSON, or nearly: pieces of it in any order.
fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\":",
        "\"\\n\"",
        "\"\\u12aF\"",
        "\"\\x\"",
        "0",
        "-1",
        "12",
        "01",
        "1.5",
        "1.",
        "-",
        "1e5",
        "1E-2",
        "1e",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\t",
        "\"\u{e4}\"",
        "[1,2]",
        "{\"c\":[]}",
        "1,",
        "null,",
        "\u{1}",
    ];
    vec(proptest::sample::select(pieces.to_vec()), 0..12)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn plain_bytes_are_counted_exactly(bytes in string_like()) {
        let first = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0x00..0x20));
        prop_assert_eq!(plain(&bytes, 0), first.unwrap_or(bytes.len()));
    }

    #[test]
    fn what_is_walked_is_what_serde_ignores(document in json_like(), bytes: Vec<u8>) {
        for document in [document, bytes] {
            let ignored = serde_json::from_slice::<IgnoredAny>(&document).is_ok();
            prop_assert_eq!(is_json(&document), ignored, "{}", String::from_utf8_lossy(&document));
        }
    }

    #[test]
    fn a_string_says_what_serde_reads(
        written in "([a-z\u{e4}\u{1f600}]|\\\\u[0-9a-fA-F]{4}|\\\\u[dD][89a-f][0-9]{2}|\\\\[nrtbf/\"\\\\]){0,20}"
    ) {
        let quoted = format!("\"{written}\"");
        let text = Scanner::new(quoted.as_bytes()).text().unwrap().unwrap();
        let read = serde_json::from_str::<String>(&quoted).ok();
        prop_assert_eq!(text.str().ok().map(Cow::into_owned), read);
    }
}
