//! What went wrong, for the person who has to mend it, and the exit code that goes with it.

use std::borrow::Cow;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It was asked for in the wrong way.
    Usage = 2,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

/// What is wrong, how to mend it, and how the command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Exit code.
    pub(crate) exit: Exit,
    /// What is wrong.
    pub(crate) what: String,
    /// How to mend it; may be empty, may have several lines.
    pub(crate) mend: String,
}

impl Fault {
    /// It failed.
    pub(crate) fn failed(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), mend: mend.into() }
    }

    /// It was asked for in the wrong way.
    pub(crate) fn usage(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), mend: mend.into() }
    }
}

/// `text` with everything that looks like a key's secret part struck out (T16).
///
/// Only the public id stays, so that the reader can tell which key it was.
pub(crate) fn without_keys(text: &str) -> Cow<'_, str> {
    const START: &str = "weir_";
    if !text.contains(START) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let (before, key) = rest.split_at(at);
        let end = key.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(key.len());
        out.push_str(before);
        match key[START.len()..end].split_once('_') {
            Some((id, secret)) if secret.len() >= 16 => {
                out.push_str(START);
                out.push_str(id);
                out.push_str("_***");
            }
            Some(_) | None => out.push_str(&key[..end]),
        }
        rest = &key[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_key_is_not_repeated_but_metric_names_are() {
        let key = "weir_4fT9aZq1_0pQ0123456789012345678901234567890123456789kV1zWx9B";
        assert_eq!(
            without_keys(&format!("error: unexpected argument '{key}' found")),
            "error: unexpected argument 'weir_4fT9aZq1_***' found"
        );
        assert_eq!(without_keys("weir_requests_total"), "weir_requests_total");
    }
}
