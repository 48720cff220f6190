//! How numbers, spans and times are written for people.

use std::borrow::Cow;

use jiff::Timestamp;

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A forecast: rounded up to two figures, `12`, `1,900`.
pub(crate) fn about(number: f64) -> String {
    let step = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    // A hair above a step is that step: ten times 1.2 is not 13.
    let rounded = (number / step - 1e-9).ceil() * step;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded number")]
    let rounded = rounded.max(0.0) as u64;
    count(rounded)
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(names: &[String], and: &str) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

/// A share, from a fraction: `90 %`, `33.33 %`; as exact as one bucket.
pub(crate) fn share(fraction: f64) -> String {
    let text = format!("{:.2}", fraction * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

/// A rate of failures, from a fraction: `0.0 %`, `3.1 %`; one digit, so that columns align.
pub(crate) fn failures(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// A rate per second: `0.4`, `18.2`, `1204`.
pub(crate) fn per_second(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// A weight, in the shortest text that says exactly it.
pub(crate) fn weight(weight: f64) -> String {
    format!("{weight}")
}

/// A latency, from seconds: `0.4 ms`, `41 ms`, `1.20 s`, `75 s`.
pub(crate) fn latency(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match () {
        () if ms < 9.95 => format!("{ms:.1} ms"),
        () if ms < 999.5 => format!("{ms:.0} ms"),
        () if seconds < 9.995 => format!("{seconds:.2} s"),
        () => format!("{seconds:.0} s"),
    }
}

/// A span, from whole seconds, in its two largest units: `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
pub(crate) fn span(seconds: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        // Seconds matter while one can still count minutes on one hand.
        60..300 => two(seconds / 60, "min", seconds % 60, "s"),
        300..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        86_400.. => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// `3 min ago`, `just now`, `in 4 d`; coarse, because the exact time stands beside it.
pub(crate) fn relative(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    let one = |seconds: u64| match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        86_400.. => format!("{} d", seconds / 86_400),
    };
    match seconds {
        // Two clocks need not agree to the second.
        -2..=0 => "just now".to_owned(),
        1.. => format!("{} ago", one(seconds.unsigned_abs())),
        i64::MIN..=-3 => format!("in {}", one(seconds.unsigned_abs())),
    }
}

/// `2026-11-22 19:20:21 UTC`.
pub(crate) fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Text from elsewhere, safe to show: control characters, the two odd line ends of Unicode and the
/// marks that reverse the direction of writing become escapes (T28).
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// `text`, cut to `most` characters.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().count() <= most {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    Cow::Owned(format!("{}…", kept.trim_end()))
}

/// `text` in lines of at most `width` characters, broken between words.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let taken = lines[last].chars().count();
        if taken > 0 && taken + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if taken > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

/// The name in `known` that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|each| (distance(name, each), each)).min()?;
    // One slip in three letters.
    (best.0 * 3 <= name.chars().count().max(3)).then_some(best.1)
}

/// Letters to insert, remove or replace to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let shares = [0.9, 1.0, 0.0, 1.0 / 3.0, 0.0001, 0.125].map(share);
        assert_eq!(shares, ["90 %", "100 %", "0 %", "33.33 %", "0.01 %", "12.5 %"]);
        assert_eq!([0.0, 0.0312, 1.0].map(failures), ["0.0 %", "3.1 %", "100.0 %"]);
        let latencies = [0.0004, 0.0099, 0.00996, 0.041, 0.9996, 1.2, 9.999, 75.0].map(latency);
        assert_eq!(
            latencies,
            ["0.4 ms", "9.9 ms", "10 ms", "41 ms", "1.00 s", "1.20 s", "10 s", "75 s"]
        );
        assert_eq!(
            [0.2, 11.8, 12.0, 1_801.0, 1_900.0].map(about),
            ["1", "12", "12", "1,900", "1,900"]
        );
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(
            [&names[..0], &names[..1], &names[..2], &names].map(|names| listed(names, "and")),
            ["", "a", "a and b", "a, b and c"]
        );
        assert_eq!([0.04, 18.24, 1204.4].map(per_second), ["0.0", "18.2", "1204"]);
    }

    #[test]
    fn times_read_well() {
        let spans = [5, 61, 120, 299, 300, 3600, 7500, 90_000, 86_400 * 4].map(span);
        assert_eq!(
            spans,
            [
                "5 s",
                "1 min 1 s",
                "2 min",
                "4 min 59 s",
                "5 min",
                "1 h",
                "2 h 5 min",
                "1 d 1 h",
                "4 d"
            ]
        );
        let now: Timestamp = "2026-11-22T19:20:21Z".parse().unwrap();
        let at = |text: &str| relative(now, text.parse().unwrap());
        assert_eq!(at("2026-11-22T19:20:21.9Z"), "just now");
        assert_eq!(at("2026-11-22T19:20:18Z"), "3 s ago");
        assert_eq!(at("2026-11-22T19:17:00Z"), "3 min ago");
        assert_eq!(at("2026-11-22T14:17:00Z"), "5 h ago");
        assert_eq!(at("2026-11-26T20:17:00Z"), "in 4 d");
        assert_eq!(utc(now), "2026-11-22 19:20:21 UTC");
    }

    #[test]
    fn no_escape_sequence_reaches_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\nd\u{202e}e"), "a\\u{1b}[2Jb\\u{9b}c\\nd\\u{202e}e");
        assert!(matches!(clean("übrig"), Cow::Borrowed("übrig")));
    }

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        assert_eq!(nearest("canry", ["stable", "canary"]), Some("canary"));
        assert_eq!(nearest("blue", ["stable", "canary"]), None);
        assert_eq!(cut("a long reason", 7), "a long…");
        assert_eq!(wrapped("a long reason for it", 8), ["a long", "reason", "for it"]);
        assert_eq!(wrapped("", 8), [""]);
    }
}
