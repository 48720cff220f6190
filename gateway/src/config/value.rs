//! Values with a shape of their own: durations, sizes, names, networks, hosts, endpoints.
//!
//! Every function here answers with the value or with the reason why the text is none, in words
//! that follow "…: " in a message.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::plan::{Cidr, Endpoint, Scheme};

/// Units of durations with their nanoseconds, longest first.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of sizes with their bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration: numbers with the units `d h m s ms us ns`, from long to short, as in `5s`,
/// `1.5h` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text;
    let mut nanos: u128 = 0;
    let mut shortest = u64::MAX;
    if rest.is_empty() {
        return Err("it is empty");
    }
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        if unit.is_empty() {
            return Err("it has no unit");
        }
        let Some((_, scale)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err("its unit is unknown");
        };
        if *scale >= shortest {
            return Err("its units do not go from long to short");
        }
        shortest = *scale;
        nanos = nanos.saturating_add(scaled(number, *scale)?);
        rest = after;
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "it is too long")
}

/// Reads a size: a number with one of the units `B kB MB GB KiB MiB GiB`, as in `64KiB` or
/// `1.5 GiB`.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit, after) = number_and_unit(text)?;
    if !after.is_empty() {
        return Err("something follows its unit");
    }
    if unit.is_empty() {
        return Err("it has no unit");
    }
    let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("its unit is unknown");
    };
    u64::try_from(scaled(number, *scale)?).map_err(|_| "it is too big")
}

/// Splits off a leading number and the letters after it.
fn number_and_unit(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(if text.starts_with('-') {
            "it is negative"
        } else {
            "it does not start with a number"
        });
    }
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    Ok((number, unit, after))
}

/// `number` (digits, perhaps a point and more digits) times `scale`; a fraction below one unit is
/// cut off.
fn scaled(number: &str, scale: u64) -> Result<u128, &'static str> {
    const BAD: &str = "its number is malformed";
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(BAD);
    }
    if whole.len() > 20 || fraction.len() > 15 {
        return Err("its number has too many digits");
    }
    let whole: u128 = whole.parse().map_err(|_| BAD)?;
    let places = u32::try_from(fraction.len()).map_err(|_| BAD)?;
    let parts: u128 = fraction.parse().map_err(|_| BAD)?;
    Ok(whole * u128::from(scale) + parts * u128::from(scale) / 10_u128.pow(places))
}

/// `duration` as it would be written in the file.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, scale) in DURATION_UNITS {
        let count = rest / u128::from(scale);
        rest %= u128::from(scale);
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `bytes` as it would be written in the file: in the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale));
    match unit {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => "0B".to_owned(),
    }
}

/// Whether `name` may name a route, an experiment, a variant, a backend, a key.
///
/// Names become metric labels and parts of admin URLs, so `.` and `..` are not among them.
pub(crate) fn name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > 64 {
        return Err("has more than 64 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err("has a character that names cannot have");
    }
    if name.bytes().all(|byte| byte == b'.') {
        return Err("has only dots");
    }
    Ok(())
}

/// The entry of `known` that was probably meant by `word`.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names longer than this are not worth a guess; it also bounds the work.
    let word: Vec<char> = word.to_lowercase().chars().take(80).collect();
    known
        .into_iter()
        .map(|other| {
            let letters: Vec<char> = other.to_lowercase().chars().take(80).collect();
            let longer = word.len().max(letters.len());
            (distance(&word, &letters), longer, other)
        })
        .filter(|(distance, longer, _)| *distance <= (longer / 3).max(1) && distance < longer)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, other)| other)
}

/// Edits (insert, delete, replace, swap two neighbours) that lead from `a` to `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// Reads `10.0.0.0/8`, or a single address.
pub(crate) fn cidr(text: &str) -> Result<Cidr, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "its address is malformed".to_owned())?;
    let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(text) => match text.parse::<u8>() {
            Ok(prefix) if prefix <= longest && text.bytes().all(|b| b.is_ascii_digit()) => prefix,
            Ok(_) | Err(_) => {
                return Err(format!("its prefix is not a number from 0 to {longest}"));
            }
        },
    };
    let network = masked(address, prefix);
    if network != address {
        return Err(format!(
            "bits are set behind its prefix: did you mean \"{network}/{prefix}\"?"
        ));
    }
    Ok(Cidr { address, prefix })
}

/// `address` with all but its first `prefix` bits cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// Checks a DNS name or an address without brackets; answers it in lower case.
pub(crate) fn host(text: &str) -> Result<String, &'static str> {
    let text = text.to_ascii_lowercase();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if text.is_empty() {
        return Err("it has no host");
    }
    if text.len() > 253 {
        return Err("its host has more than 253 characters");
    }
    for label in text.split('.') {
        let fits = !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !fits {
            return Err("its host is neither a DNS name nor an address");
        }
    }
    // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses; nobody else does.
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err("its host looks like an address, but is none");
    }
    Ok(text)
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("its \"[\" is not closed")?;
            if address.parse::<Ipv6Addr>().is_err() {
                return Err("what stands in its brackets is no IPv6 address");
            }
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err("something follows its \"]\""),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets: [::1]");
            }
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Some(number),
            Ok(_) | Err(_) => return Err("its port is not a number from 1 to 65535"),
        },
    };
    Ok((host(name)?, port))
}

/// Reads `http|https|h2c://host[:port]`.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("it does not start with http://, https:// or h2c://");
    };
    let (scheme, default) = match scheme {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        "h2c" => (Scheme::H2c, 80),
        _ => return Err("it does not start with http://, https:// or h2c://"),
    };
    if rest.contains('@') {
        return Err("it carries a user name; a credential goes into \"credential\"");
    }
    if rest.contains(['/', '?', '#']) {
        return Err("it carries a path; the backend gets the path of the request");
    }
    let (host, port) = authority(rest)?;
    if let Ok(address) = host.parse::<IpAddr>()
        && never_dialled(address.to_canonical())
    {
        return Err("its address is unspecified, multicast, broadcast or link-local");
    }
    Ok(Endpoint { scheme, host: host.into(), port: port.unwrap_or(default) })
}

/// Reads `http|https://host[:port][/path][?query]`: the endpoint, its authority as written, and path
/// and query, which are empty if none is written.
pub(crate) fn url(text: &str) -> Result<(Endpoint, &str, &str), &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("it does not start with https:// or http://");
    };
    if !matches!(scheme, "http" | "https") {
        return Err("it does not start with https:// or http://");
    }
    if text.contains('#') {
        return Err("it carries a fragment, which is never sent");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err("it carries a user name; a credential goes into \"credential\"");
    }
    let (origin, _) = text.split_at(text.len() - target.len());
    Ok((endpoint(origin)?, authority, target))
}

/// Addresses that are no backend wherever they are written (T23).
fn never_dialled(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

/// Percent in basis points; `None` unless it is from 0 to 100 with at most two decimals.
pub(crate) fn basis_points(percent: f64) -> Option<u16> {
    if !(0.0..=100.0).contains(&percent) {
        return None;
    }
    let points = (percent * 100.0).round();
    if (percent * 100.0 - points).abs() > 1e-6 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number from 0 to 10,000")]
    #[expect(clippy::cast_sign_loss, reason = "a whole number from 0 to 10,000")]
    Some(points as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_numbers_with_units_from_long_to_short() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("7us", 7_000),
            ("3ns", 3),
            ("30d", 2_592_000_000_000_000),
            ("2 s", 2_000_000_000),
            ("0s", 0),
            ("1d2h3m4s5ms6us7ns", 93_784_005_006_007),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for (text, reason) in [
            ("", "it is empty"),
            ("5", "it has no unit"),
            ("-5s", "it is negative"),
            ("five", "it does not start with a number"),
            ("5 years", "its unit is unknown"),
            ("5S", "its unit is unknown"),
            ("30m1h", "its units do not go from long to short"),
            ("1s1s", "its units do not go from long to short"),
            ("1..5s", "its number is malformed"),
            (".5s", "its number is malformed"),
            ("999999999999d", "it is too long"),
            ("99999999999999999999999s", "its number has too many digits"),
            ("infinite", "it does not start with a number"),
        ] {
            assert_eq!(duration(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn sizes_are_numbers_with_one_unit() {
        for (text, bytes) in [
            ("10MiB", 10 << 20),
            ("64 KiB", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("1kB", 1_000),
            ("2MB", 2_000_000),
            ("3GB", 3_000_000_000),
            ("17B", 17),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, reason) in [
            ("", "it does not start with a number"),
            ("10", "it has no unit"),
            ("10KB", "its unit is unknown"),
            ("10 mib", "its unit is unknown"),
            ("1MiB2KiB", "something follows its unit"),
            ("-1B", "it is negative"),
            ("99999999999999999999GiB", "it is too big"),
        ] {
            assert_eq!(size(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn endpoints_have_a_scheme_a_host_and_perhaps_a_port_and_nothing_else() {
        for (text, scheme, host, port) in [
            ("http://10.0.0.1:8000", Scheme::Http, "10.0.0.1", 8000),
            ("https://API.Example.com", Scheme::Https, "api.example.com", 443),
            ("h2c://triton:8001", Scheme::H2c, "triton", 8001),
            ("http://[::1]:80", Scheme::Http, "::1", 80),
            ("http://[2001:DB8::0:1]", Scheme::Http, "2001:db8::1", 80),
            ("http://llm_0.llm.svc.cluster.local", Scheme::Http, "llm_0.llm.svc.cluster.local", 80),
        ] {
            let expected = Endpoint { scheme, host: host.into(), port };
            assert_eq!(endpoint(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "10.0.0.1:8000",
            "ftp://x",
            "HTTP://x",
            "http://",
            "http://:80",
            "http://a/",
            "http://a/v1",
            "http://a?b",
            "http://u:p@a",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:",
            "http://::1",
            "http://[::1",
            "http://[::1]x",
            "http://[1.2.3.4]",
            "http://a b",
            "http://-a",
            "http://a..b",
            "http://127.1",
            "http://0x7f.0x1",
            "http://2130706433",
            "http://0.0.0.0",
            "http://169.254.169.254",
            "http://224.0.0.1",
            "http://[fe80::1]",
            "http://[::ffff:169.254.169.254]",
            "http://ä",
            "http://a.",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_bits_behind_their_prefix() {
        let of = |text: &str| cidr(text).map(|cidr| (cidr.address.to_string(), cidr.prefix));
        assert_eq!(of("10.0.0.0/8"), Ok(("10.0.0.0".to_owned(), 8)));
        assert_eq!(of("192.0.2.7"), Ok(("192.0.2.7".to_owned(), 32)));
        assert_eq!(of("::/0"), Ok(("::".to_owned(), 0)));
        assert_eq!(of("0.0.0.0/0"), Ok(("0.0.0.0".to_owned(), 0)));
        assert_eq!(of("2001:db8::/32"), Ok(("2001:db8::".to_owned(), 32)));
        let hint = "bits are set behind its prefix: did you mean \"10.0.0.0/8\"?";
        assert_eq!(of("10.1.2.3/8"), Err(hint.to_owned()));
        for text in ["", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "x/8", "10/8"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_fit_into_urls_and_labels() {
        for good in ["a", "llama-8b", "v1.2_x", &"x".repeat(64), "..a"] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", ".", "..", &"x".repeat(65), "a\n"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn guesses_are_close_or_absent() {
        let known = ["endpoints", "model", "balance", "credential"];
        assert_eq!(closest("endpoint", known), Some("endpoints"));
        assert_eq!(closest("Balance", known), Some("balance"));
        assert_eq!(closest("modle", known), Some("model"));
        assert_eq!(closest("weight", known), None);
        assert_eq!(closest("a", ["b"]), None, "nothing in common is no guess");
    }

    #[test]
    fn percents_are_counted_in_basis_points() {
        assert_eq!(basis_points(0.0), Some(0));
        assert_eq!(basis_points(0.07), Some(7));
        assert_eq!(basis_points(33.33), Some(3333));
        assert_eq!(basis_points(100.0), Some(10_000));
        for bad in [-0.01, 100.01, 0.001, f64::NAN, f64::INFINITY] {
            assert_eq!(basis_points(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_duration_is_read_back(nanos in any::<u64>()) {
            let written = show_duration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration(&written), Ok(Duration::from_nanos(nanos)));
        }

        #[test]
        fn a_shown_size_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let _ = (duration(&text), size(&text), cidr(&text), authority(&text), endpoint(&text));
            let _ = (name(&text), closest(&text, ["a", "endpoints"]));
        }
    }
}
