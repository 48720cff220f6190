mod requests;
mod responses;
mod splits;
mod pieces;

use super::{Fault, HeadLimits, RequestFraming, ResponseFraming};

const LIMITS: HeadLimits =
    HeadLimits { target_bytes: 8 * 1024, header_bytes: 32 * 1024, header_fields: 100 };

/// What became of some bytes: how many passed, what ended them, and after how many of them a
/// message ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fate {
    passed: usize,
    fault: Option<Fault>,
    ends: Vec<usize>,
}

/// Feeds pieces as a caller does that keeps what may not pass yet. `ended` is asked after each call
/// that let something pass.
fn feed<'a, F>(
    framing: &mut F,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    scan: impl Fn(&mut F, &[u8]) -> Result<usize, Fault>,
    ended: impl Fn(&mut F) -> bool,
) -> Fate {
    let mut kept = Vec::new();
    let mut fate = Fate::default();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match scan(framing, &kept) {
                Ok(0) => break,
                Ok(count) => {
                    kept.drain(..count);
                    fate.passed += count;
                    if ended(framing) {
                        fate.ends.push(fate.passed);
                    }
                }
                Err(fault) => {
                    assert_eq!(scan(framing, &kept), Err(fault), "a fault stays");
                    assert_eq!(scan(framing, b""), Err(fault), "a fault stays");
                    fate.fault = Some(fault);
                    return fate;
                }
            }
        }
    }
    fate
}

/// Upgrades are declined, so that what follows them is scanned too.
fn requests<'a>(limits: HeadLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Fate {
    feed(&mut RequestFraming::new(limits), pieces, RequestFraming::scan, |framing| {
        framing.not_upgraded();
        !framing.in_body()
    })
}

#[derive(Clone, Copy, Debug)]
enum To {
    Get,
    Head,
    Upgrade,
}

fn expecting(limits: HeadLimits, to: To) -> ResponseFraming {
    let mut framing = ResponseFraming::new(limits);
    match to {
        To::Get => framing.expect(false),
        To::Head => framing.expect(true),
        To::Upgrade => framing.expect_upgrade(),
    }
    framing
}

/// `ends` stays empty: see `finished` for that.
fn response<'a>(framing: &mut ResponseFraming, pieces: impl IntoIterator<Item = &'a [u8]>) -> Fate {
    feed(framing, pieces, ResponseFraming::scan, |_| false)
}

/// `bytes` at once, byte by byte, and in threes.
fn splits(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![bytes], bytes.chunks(1).collect(), bytes.chunks(3).collect()]
}

#[test]
fn names_and_explanations_are_distinct_and_lower_case() {
    let faults = [
        Fault::RequestLine,
        Fault::Method,
        Fault::TargetByte,
        Fault::TargetTooLong,
        Fault::Version,
        Fault::BlankLines,
        Fault::StatusLine,
        Fault::Status,
        Fault::HeadTooLarge,
        Fault::TooManyFields,
        Fault::BareLf,
        Fault::BareCr,
        Fault::ControlByte,
        Fault::LeadingWhitespace,
        Fault::FoldedLine,
        Fault::NoColon,
        Fault::EmptyName,
        Fault::SpaceBeforeColon,
        Fault::NameByte,
        Fault::ContentLength,
        Fault::ContentLengthRepeated,
        Fault::TransferEncoding,
        Fault::TransferEncodingRepeated,
        Fault::LengthAndEncoding,
        Fault::EncodingInHttp10,
        Fault::Host,
        Fault::ChunkSize,
        Fault::ChunkExtension,
        Fault::ChunkEnd,
        Fault::FramingTrailer,
        Fault::InformationalFlood,
        Fault::UnaskedUpgrade,
        Fault::ExcessBytes,
        Fault::ShortHead,
        Fault::ShortBody,
    ];
    let mut names: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
    let mut texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    for text in &texts {
        assert!(!text.ends_with('.') && *text == text.to_lowercase(), "{text}");
    }
    names.sort_unstable();
    names.dedup();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((names.len(), texts.len()), (faults.len(), faults.len()));
    assert_eq!(Fault::ContentLengthRepeated.to_string(), "content-length given twice");
    assert_eq!(Fault::TargetTooLong.status(), 414);
    assert_eq!(Fault::HeadTooLarge.status(), 431);
    assert_eq!(Fault::TooManyFields.status(), 431);
    assert_eq!(Fault::Version.status(), 505);
    assert_eq!(Fault::BareLf.status(), 400);
}

#[test]
fn every_byte_is_judged_alike_wherever_it_stands_in_a_word() {
    use super::octets::{is_text, is_visible, target_len, text_len, token_len};
    for byte in 0..=u8::MAX {
        let text = byte == b'\t' || byte >= 0x20 && byte != 0x7f;
        let visible = (0x21..=0x7e).contains(&byte);
        let plain = byte >= 0x20 && byte != 0x7f;
        let target = visible && !b"#<>\"`".contains(&byte);
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for len in 1..20 {
            for at in 0..len {
                // `~` and the tab test what a borrow out of the byte below could do.
                for filler in [b'a', b'~', b'!'] {
                    let mut bytes = vec![filler; len];
                    bytes[at] = byte;
                    assert_eq!(is_text(&bytes), text, "{byte:#x} at {at} of {len}");
                    assert_eq!(is_visible(&bytes), visible, "{byte:#x} at {at} of {len}");
                    assert_eq!(token_len(&bytes), if token { len } else { at });
                    assert_eq!(text_len(&bytes), if plain { len } else { at }, "{byte:#x} at {at}");
                    assert_eq!(target_len(&bytes), if target { len } else { at });
                }
                let mut tabs = vec![b'\t'; len];
                tabs[at] = byte;
                assert_eq!(is_text(&tabs), text, "{byte:#x} at {at} of {len} among tabs");
            }
        }
    }
}
