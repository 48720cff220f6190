//! W3C trace context: reading and writing `traceparent`, carrying `tracestate`, and the sampling
//! rule that all OpenTelemetry SDKs share.
//!
//! `traceparent` follows Trace Context Level 2 (the random bit). A caller that gets `None` from
//! [`parse_traceparent`] starts a new trace and drops `tracestate`, too.

/// What a `traceparent` says: the trace, the span that called us, and two flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// The caller's span; never all zero.
    pub parent_id: [u8; 8],
    /// The caller may have recorded its span. A hint, not an order: see who may force sampling.
    pub sampled: bool,
    /// The low 7 bytes of the trace id are random.
    pub random: bool,
}

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// The length of a version `00` field, and of the part that all later versions begin with.
/// Bytes of a `traceparent`.
pub const TRACEPARENT_LEN: usize = 55;

/// Reads the one `traceparent` field of a request; two such fields are the caller's to refuse.
///
/// `None` unless all of it is right: lower-case hex, ids that are not zero, a version that is not
/// `ff`, exactly 55 bytes for version `00`. Of later versions the first four parts are read, and
/// whatever follows them must begin with a dash.
pub fn parse_traceparent(field: &[u8]) -> Option<TraceContext> {
    let (known, rest) = field.split_at_checked(TRACEPARENT_LEN)?;
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let [version] = from_hex(&known[..2])?;
    let trace_id = from_hex(&known[3..35])?;
    let parent_id = from_hex(&known[36..52])?;
    let [flags] = from_hex(&known[53..])?;

    let well_ended = match version {
        0x00 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest[0] == b'-',
    };
    if !well_ended || trace_id == [0; 16] || parent_id == [0; 8] {
        return None;
    }
    Some(TraceContext {
        trace_id,
        parent_id,
        sampled: flags & SAMPLED != 0,
        random: flags & RANDOM != 0,
    })
}

/// A version `00` field. All flags but the two given are zero.
pub fn format_traceparent(
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
    random: bool,
) -> [u8; 55] {
    let flags = (u8::from(sampled) * SAMPLED) | (u8::from(random) * RANDOM);
    let mut field = [b'-'; TRACEPARENT_LEN];
    to_hex(&[0x00], &mut field[..2]);
    to_hex(&trace_id, &mut field[3..35]);
    to_hex(&span_id, &mut field[36..52]);
    to_hex(&[flags], &mut field[53..]);
    field
}

/// The most members a list may have.
const MAX_MEMBERS: usize = 32;

/// What the standard asks us to carry at least, and all that we carry.
const MAX_TRACESTATE: usize = 512;

/// Members longer than this are the first to go.
const LARGE_MEMBER: usize = 128;

/// The `tracestate` fields of a request, joined in their order, empty members removed.
///
/// Above 512 characters, members over 128 characters are dropped first, then any, each time the
/// rightmost: the leftmost is the newest. `None` when nothing is left, and for a malformed list,
/// which includes one with more than 32 members. Keys that occur twice are left alone, as the
/// standard allows.
pub fn combine_tracestate<'a>(fields: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut members = [""; MAX_MEMBERS];
    let mut count = 0;
    for field in fields {
        for member in field.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            if !is_member(member) {
                return None;
            }
            *members.get_mut(count)? = member;
            count += 1;
        }
    }

    // A dropped member becomes empty; each one that stays costs a comma, but for the first.
    let members = &mut members[..count];
    let mut length = members.iter().map(|member| member.len() + 1).sum::<usize>();
    for at_least in [LARGE_MEMBER + 1, 1] {
        for member in members.iter_mut().rev() {
            if length > MAX_TRACESTATE + 1 && member.len() >= at_least {
                length -= member.len() + 1;
                *member = "";
            }
        }
    }
    if length == 0 {
        return None;
    }
    let mut joined = String::with_capacity(length);
    for member in members.iter().filter(|member| !member.is_empty()) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(member);
    }
    Some(joined)
}

/// Whether the low 8 bytes of the trace id fall into this share of all traces.
///
/// The rule of OpenTelemetry's `TraceIdRatioBased`: the same trace gets the same answer in every
/// process, and what a smaller ratio samples, a larger one samples, too. NaN samples nothing.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and 2^63")]
pub fn ratio_samples(trace_id: &[u8; 16], ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    // A negative float, and NaN, become 0.
    let bound = (ratio * (1_u64 << 63) as f64) as u64;
    let [.., a, b, c, d, e, f, g, h] = *trace_id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < bound
}

/// `key=value` by the standard's grammar.
///
/// A key may begin with a digit (Level 2); `tenant@system` keeps the form of Level 1, which is
/// what the standard's own test suite checks.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let key_is_good = match key.split_once('@') {
        None => key.len() <= 256 && is_key_part(key),
        Some((tenant, system)) => {
            tenant.len() <= 241
                && is_key_part(tenant)
                && system.len() <= 14
                && is_key_part(system)
                && system.starts_with(|first: char| first.is_ascii_lowercase())
        }
    };
    // Spaces at the end were trimmed; a comma cannot be here.
    key_is_good
        && (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'=')
}

fn is_key_part(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && part
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
}

/// `None` unless `hex` is two lower-case digits for each byte.
fn from_hex<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn to_hex(bytes: &[u8], hex: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(hex.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0f)];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(field: &str) -> Option<TraceContext> {
        parse_traceparent(field.as_bytes())
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_written_back() {
        let context = parse(GOOD).unwrap();
        assert_eq!(context.trace_id[..4], [0x0a, 0xf7, 0x65, 0x19]);
        assert_eq!(context.parent_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        assert!(context.sampled && !context.random);
        let written = format_traceparent(context.trace_id, context.parent_id, true, false);
        assert_eq!(written, GOOD.as_bytes());
    }

    #[test]
    fn a_wrong_traceparent_is_refused() {
        for wrong in [
            "",
            "00",
            // version: ff, upper case, not hex, too short, too long
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0A-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ".0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            // trace id: zero, upper case, not hex, too short, too long
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01",
            // parent id: zero, upper case, not hex, too short, too long
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-.7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-01",
            // flags
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-.0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001",
            // separators and what follows
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.extra",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_we_know_it() {
        for later in ["cc", "01", "fe"] {
            for rest in ["", "-", "-what-the-future-will-be-like"] {
                let field = format!("{later}{}{rest}", &GOOD[2..]);
                assert_eq!(parse(&field), parse(GOOD), "{field}");
            }
        }
    }

    #[test]
    fn unknown_flags_are_neither_refused_nor_passed_on() {
        let context = parse(&GOOD.replace("-01", "-ff")).unwrap();
        assert!(context.sampled && context.random);
        let written = format_traceparent(context.trace_id, context.parent_id, false, true);
        assert!(written.ends_with(b"-02"));
        let context = parse(&GOOD.replace("-01", "-fc")).unwrap();
        assert!(!context.sampled && !context.random);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            trace_id: [u8; 16], parent_id: [u8; 8], sampled: bool, random: bool
        ) {
            prop_assume!(trace_id != [0; 16] && parent_id != [0; 8]);
            let field = format_traceparent(trace_id, parent_id, sampled, random);
            let context = TraceContext { trace_id, parent_id, sampled, random };
            prop_assert_eq!(parse_traceparent(&field), Some(context));
        }

        #[test]
        fn no_field_panics(field: Vec<u8>, state: [String; 2]) {
            let _ = parse_traceparent(&field);
            let _ = combine_tracestate(state.iter().map(String::as_str));
        }

        /// Up to three fields of members, some of them large.
        #[test]
        fn a_combined_state_is_a_part_of_what_came_and_never_too_long(
            lengths in proptest::collection::vec(prop_oneof![1..20_usize, 100..250_usize], 0..=32)
        ) {
            let members: Vec<String> = lengths
                .iter()
                .enumerate()
                .map(|(n, length)| format!("k{n}={}", "v".repeat(*length)))
                .collect();
            let field = members.join(",");
            let combined = combine_tracestate([field.as_str()].into_iter()).unwrap_or_default();
            prop_assert!(combined.len() <= MAX_TRACESTATE);
            let mut left = members.iter();
            for kept in combined.split(',').filter(|kept| !kept.is_empty()) {
                prop_assert!(left.any(|member| member == kept), "order");
            }
            if field.len() <= MAX_TRACESTATE {
                prop_assert_eq!(combined, field);
            }
        }
    }

    #[track_caller]
    fn check(fields: &[&str], combined: Option<&str>) {
        assert_eq!(combine_tracestate(fields.iter().copied()).as_deref(), combined, "{fields:?}");
    }

    #[test]
    fn fields_are_joined_in_order_and_empty_members_removed() {
        check(&["rojo=00f067aa0ba902b7"], Some("rojo=00f067aa0ba902b7"));
        check(&["foo=1", "bar=2"], Some("foo=1,bar=2"));
        check(&["foo=1", "", "bar=2,,"], Some("foo=1,bar=2"));
        check(&["foo=1 \t , \t bar=2, \t baz=3"], Some("foo=1,bar=2,baz=3"));
        check(&["foo=1, ,bar=2"], Some("foo=1,bar=2"));
        check(&["foo=1,foo=2"], Some("foo=1,foo=2"));
        check(&[], None);
        check(&["", " , "], None);
    }

    #[test]
    fn keys_and_values_keep_to_the_grammar() {
        let key = |len| format!("{}=1", "z".repeat(len));
        let tenant = |tenant, system| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
        let value = |len| format!("foo={}", "v".repeat(len));
        for good in [
            "foo=1",
            "foo-_*/bar=1",
            "foo@foo-_*/bar=1",
            "0tenant@system=1",
            "1st=1",
            "foo= 1",
            "foo=!\"#$%&'()*+-./0123456789:;<>?@ABCXYZ[\\]^_`abcxyz{|}~",
            "foo=\u{20}\u{20}1",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([key(256), tenant(241, 14)])
        {
            // The longest ones survive the cut at 512 when they stand alone.
            check(&[&good], Some(&good));
        }
        check(&[&value(256)], Some(&value(256)));
        for bad in [
            "foo",
            "=1",
            "foo=",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "foo@=1",
            "@foo=1",
            "foo@@bar=1",
            "foo@bar@baz=1",
            "foo@1bar=1",
            "_foo=1",
            "foo=bar=baz",
            "foo=b\u{e4}r",
            "foo=b\tar",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([key(257), tenant(242, 14), tenant(241, 15), value(257)])
        {
            check(&[&bad], None);
            check(&["bar=2", &bad], None);
        }
    }

    #[test]
    fn the_thirty_third_member_makes_the_list_malformed() {
        let member = |n: usize| format!("bar{n:02}={n:02}");
        let list = |count| (1..=count).map(member).collect::<Vec<_>>().join(",");
        check(&[&list(32)], Some(&list(32)));
        check(&[&list(33)], None);
        check(&[&list(16), ",,,,", &list(16)], Some(&format!("{0},{0}", list(16))));
    }

    #[test]
    fn large_members_go_first_and_then_the_rightmost() {
        let small = |name: &str| format!("{name}={}", "s".repeat(98));
        let large = format!("large={}", "l".repeat(140));
        // 4 * 100 + 3 commas = 403 fit; with the large one it would be 550.
        let four = [small("a"), small("b"), small("c"), small("d")].join(",");
        check(&[&large, &four], Some(&four));
        check(&[&four, &large], Some(&four));
        // Six small ones: 605, so that the sixth goes and 504 stay.
        let five = [four.clone(), small("e")].join(",");
        check(&[&large, &five, &small("f")], Some(&five));
        // Exactly 512 stay whole, 513 do not.
        let fill = |len: usize| format!("z={}", "f".repeat(len - 2));
        check(&[&four, &fill(108)], Some(&format!("{four},{}", fill(108))));
        check(&[&four, &fill(109)], Some(&four));
    }

    #[test]
    fn the_ratio_is_compared_with_the_low_half_of_the_trace_id() {
        let id = |low: u64| {
            let mut id = [0xff; 16];
            id[8..].copy_from_slice(&low.to_be_bytes());
            id
        };
        assert!(ratio_samples(&id(u64::MAX), 1.0));
        assert!(!ratio_samples(&id(0), 0.0));
        assert!(!ratio_samples(&id(0), -1.0));
        assert!(!ratio_samples(&id(0), f64::NAN));
        // Half: the highest bit decides.
        assert!(ratio_samples(&id((1 << 63) - 1), 0.5));
        assert!(!ratio_samples(&id(1 << 63), 0.5));
        // The lowest bit is shifted out: bound 2^61 is reached by 2^62 and by 2^62 + 1.
        assert!(ratio_samples(&id((1 << 62) - 1), 0.25));
        assert!(!ratio_samples(&id(1 << 62), 0.25));
    }
}
