//! What is taken out of text before any of it is kept: what lets somebody in somewhere.
//!
//! Members of JSON whose names speak of credentials lose their values, whatever those are; text loses
//! what follows such a name, and everything that has the form of a known kind of key or token. This
//! errs on the side of taking out too much. It cannot know every secret, so it never is the reason why
//! something may be kept; that is for somebody to allow.

use serde_json::Value;

/// What stands in place of what was taken out.
pub const REDACTED: &str = "REDACTED";

/// Parts of names, in lower case and without what separates words.
const NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "credential",
    "authorization",
    "authentication",
    "cookie",
    "session",
    "bearer",
];

/// How keys and tokens begin that many services give out.
const PREFIXES: [&str; 17] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "weir_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "AIza",
    "hf_",
    "npm_",
];

/// From here on letters and digits without a break are no word.
const LONG: usize = 40;

/// Takes credentials out of JSON, and whatever stands at `also` (JSON pointers).
pub fn json(value: &mut Value, also: &[String]) {
    for pointer in also {
        if let Some(found) = value.pointer_mut(pointer) {
            *found = REDACTED.into();
        }
    }
    walk(value);
}

fn walk(value: &mut Value) {
    match value {
        Value::String(said) => *said = text(said),
        Value::Array(elements) => elements.iter_mut().for_each(walk),
        Value::Object(members) => {
            for (name, member) in members {
                if is_credential(name) {
                    *member = REDACTED.into();
                } else {
                    walk(member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a member of this name has a credential for a value.
pub fn is_credential(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    // Not `max_tokens`.
    NAMES.iter().any(|part| plain.contains(part)) || plain.ends_with("token") || plain == "auth"
}

/// Takes credentials out of text.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The word before, and whether what stood between says that a value of it follows.
    let mut named = false;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = key_block(rest) {
            out.push_str(REDACTED);
            rest = after;
            named = false;
            continue;
        }
        if !is_of_word(first) {
            let end = rest.find(is_of_word).unwrap_or(rest.len());
            let (between, after) = rest.split_at(end);
            if named && introduces(between) {
                let (shown, after) = value(rest);
                out.push_str(shown);
                out.push_str(REDACTED);
                rest = after;
            } else if let Some(host) = after_userinfo(between, after) {
                out.push_str(between);
                out.push_str("//");
                out.push_str(REDACTED);
                rest = host;
            } else {
                out.push_str(between);
                rest = after;
            }
            named = false;
            continue;
        }
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if is_scheme(word)
            && let Some(token) = after.strip_prefix(' ')
        {
            out.push_str(word);
            out.push(' ');
            let end = token.find(|c| !is_of_word(c)).unwrap_or(token.len());
            out.push_str(if end >= 8 { REDACTED } else { &token[..end] });
            rest = &token[end..];
            named = false;
            continue;
        }
        out.push_str(if is_token(word) { REDACTED } else { word });
        named = is_credential(word);
        rest = after;
    }
    out
}

/// What words, and values without quotes, consist of.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '~')
}

fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | '&' | ')' | '}' | ']' | '"' | '\'' | '\\')
}

/// `Bearer`, `Basic`: a credential follows.
fn is_scheme(word: &str) -> bool {
    ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Whether what stands between a name and what follows says that it is the name's value.
fn introduces(between: &str) -> bool {
    let is_between =
        |c: char| c.is_whitespace() || matches!(c, ':' | '=' | '"' | '\'' | '\\' | '`');
    between.contains([':', '=']) && between.chars().all(is_between)
}

/// What to show of a value's beginning (separator and quote), and what comes after the value.
fn value(rest: &str) -> (&str, &str) {
    let quote = |c: char| matches!(c, '"' | '\'' | '`');
    // `"name": "value"`: the quote that opens the value is the last before it.
    let begin = rest.find(is_of_word).unwrap_or(rest.len());
    let (before, after) = rest.split_at(begin);
    let colon = before.rfind([':', '=']).map_or(0, |at| at + 1);
    if let Some(open) = before[colon..].find(quote) {
        let at = colon + open;
        let mark = before[at..].chars().next().unwrap_or('"');
        let (shown, inside) = rest.split_at(at + mark.len_utf8());
        // An escaped quote ends it too: this may be JSON in a string.
        let end = inside.find(mark).unwrap_or(inside.len());
        return (shown, &inside[end..]);
    }
    // `Authorization: Bearer x` is a value of two words.
    let end = after.find(ends_value).unwrap_or(after.len());
    let mut left = &after[end..];
    if is_scheme(&after[..end])
        && let Some(token) = left.strip_prefix(' ')
    {
        left = &token[token.find(ends_value).unwrap_or(token.len())..];
    }
    (before, left)
}

/// What comes after `//user:password@` if that is what `after` begins with.
fn after_userinfo<'a>(between: &str, after: &'a str) -> Option<&'a str> {
    let authority = after.strip_prefix("//").filter(|_| between.ends_with(':'))?;
    let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '<' | '>');
    let at = authority[..authority.find(is_end).unwrap_or(authority.len())].rfind('@')?;
    Some(&authority[at..])
}

/// What comes after a private key in PEM, if one begins here; one that was cut has no end.
fn key_block(rest: &str) -> Option<&str> {
    let inside = rest.strip_prefix("-----BEGIN ")?;
    let (label, _) = inside.split_once("-----")?;
    if !label.ends_with("PRIVATE KEY") {
        return None;
    }
    let end = format!("-----END {label}-----");
    Some(inside.find(&end).map_or("", |at| &inside[at + end.len()..]))
}

/// Whether a word has the form of a key or a token.
fn is_token(word: &str) -> bool {
    let word = word.trim_matches(|c| matches!(c, '.' | '/' | '~'));
    if PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() >= prefix.len() + 8) {
        return true;
    }
    let is_jwt = word.starts_with("eyJ") && word.matches('.').count() >= 2;
    let is_aws = word.len() == 20
        && ["AKIA", "ASIA"].iter().any(|prefix| word.starts_with(prefix))
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_long = || {
        let parts = word.split(['/', '.']);
        parts.filter(|part| part.len() >= LONG).any(|part| {
            let has = |of: fn(&u8) -> bool| part.as_bytes().iter().any(of);
            has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        })
    };
    is_jwt || is_aws || is_long()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_speak_of_credentials_lose_their_values() {
        let mut value = json!({
            "model": "m", "max_tokens": 5, "api_key": "abc", "nested": [{"Password": {"x": 1}}],
            "access_token": "t", "usage": {"total_tokens": 7}, "headers": {"Set-Cookie": "a=b"},
            "user": "ada", "messages": [{"content": "hi"}],
        });
        json(
            &mut value,
            &["/user".to_owned(), "/messages/0/content".to_owned(), "/none".to_owned()],
        );
        assert_eq!(
            value,
            json!({
                "model": "m", "max_tokens": 5, "api_key": REDACTED,
                "nested": [{"Password": REDACTED}], "access_token": REDACTED,
                "usage": {"total_tokens": 7}, "headers": {"Set-Cookie": REDACTED},
                "user": REDACTED, "messages": [{"content": REDACTED}],
            })
        );
    }

    #[test]
    fn text_loses_what_has_the_form_of_a_key() {
        for (said, kept) in [
            ("my key is sk-proj-0123456789abcdef, ok?", "my key is REDACTED, ok?"),
            ("Authorization: Bearer abc.def-ghi next", "Authorization: REDACTED next"),
            ("use Bearer abcdefgh please", "use Bearer REDACTED please"),
            ("curl -H 'x-api-key: p@ss!word'", "curl -H 'x-api-key: REDACTED'"),
            ("password=hunter2&user=ada", "password=REDACTED&user=ada"),
            ("password = \"two words\" and", "password = \"REDACTED\" and"),
            ("GET /x?a=1&token=abc HTTP", "GET /x?a=1&token=REDACTED HTTP"),
            ("password: \"two words\" and", "password: \"REDACTED\" and"),
            (r#"{"api_key": "abc", "n": 1}"#, r#"{"api_key": "REDACTED", "n": 1}"#),
            (r#"{\"secret\":\"abc\",\"n\":1}"#, r#"{\"secret\":\"REDACTED",\"n\":1}"#),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig_nature", "REDACTED"),
            ("AKIAIOSFODNN7EXAMPLE and weir_abcdefghijkl", "REDACTED and REDACTED"),
            ("postgres://ada:pw@db.internal/x", "postgres://REDACTED@db.internal/x"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend",
                "REDACTED\nend",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "REDACTED"),
            ("a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5a3f5", "REDACTED"),
        ] {
            let found = text(said);
            // An escaped quote is shown as it is found; what matters is what is gone.
            assert!(
                !["hunter2", "abc", "p@ss", "pw@", "MIIE"].iter().any(|gone| found.contains(gone)),
                "{found}"
            );
            assert!(found == kept || said.contains('\\'), "{said:?}: {found:?}, not {kept:?}");
        }
    }

    #[test]
    fn ordinary_text_stays() {
        for said in [
            "The secret of good coffee is fresh water; use 15 g for 250 ml.",
            "See https://example.com/a/very/long/path/that/goes/on/and/on/1 for token counts.",
            "Basic income? A bearer of good news. Ein Schlüssel: größer als 3.",
            "max_tokens: 5, n: 2, time 12:30:15, a@b.example",
            "",
        ] {
            assert_eq!(text(said), said);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_a_second_pass_finds_no_more_keys(said in ".{0,200}") {
            let once = text(&said);
            prop_assert!(text(&once).len() <= once.len() + 64);
        }

        #[test]
        fn a_key_is_found_wherever_it_stands(before in "[a-z ,\"'(:]{0,20}", key in "[A-Za-z0-9]{20,40}") {
            let said = format!("{before} sk-{key}");
            prop_assert!(!text(&said).contains(&*key), "{}", text(&said));
        }
    }
}
