//! The one spelling of a path (RFC 3986, and stricter where readers are known to disagree).

use std::borrow::Cow;

/// Why a path has no canonical spelling; all of them are answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Nothing was sent.
    #[error("the path is empty")]
    Empty,
    /// It is neither `*` nor starts at the root.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A fragment has no business in a request.
    #[error("the path carries a fragment (`#`)")]
    Fragment,
    /// Some readers take it for `/`.
    #[error("the path contains a backslash, plain or escaped")]
    Backslash,
    /// Some readers cut a segment there.
    #[error("the path contains `;`")]
    Semicolon,
    /// Some readers decode it and see a border between segments where others see none.
    #[error("the path contains an escaped `/` (%2F)")]
    EncodedSlash,
    /// NUL, the other control bytes and DEL, escaped.
    #[error("the path contains an escaped control byte (%{byte:02X})")]
    EncodedControl {
        /// The byte that was escaped.
        byte: u8,
    },
    /// `%` without two hexadecimal digits.
    #[error("the path contains `%` without two hexadecimal digits")]
    BadEscape,
    /// A byte that a path may only carry escaped.
    #[error("the path contains a byte that no path may carry (0x{byte:02X})")]
    ForeignByte {
        /// The byte.
        byte: u8,
    },
    /// More `..` than there are segments to leave.
    #[error("the path climbs above its root")]
    AboveRoot,
}

/// The canonical spelling of `raw`, a path without its query; borrowed if it already has it.
///
/// Escapes of unreserved characters are decoded and the other escapes written in upper case,
/// repeated slashes merged, dot segments (escaped ones too) removed. `*`, the target of
/// `OPTIONS *`, is its own spelling. Anything else that comes back starts with `/`, holds neither
/// `//` nor a dot segment, and is its own canonical spelling.
pub fn canonical_path(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    match raw.as_bytes() {
        [] => Err(PathFault::Empty),
        b"*" => Ok(Cow::Borrowed(raw)),
        [b'/', ..] if is_canonical(raw.as_bytes())? => Ok(Cow::Borrowed(raw)),
        [b'/', segments @ ..] => respell(segments).map(Cow::Owned),
        [..] => Err(PathFault::NotAbsolute),
    }
}

/// Whether `path` needs no change. Finds every fault but [`PathFault::AboveRoot`].
fn is_canonical(path: &[u8]) -> Result<bool, PathFault> {
    let mut canonical = true;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match CLASSES[usize::from(byte)] {
            Class::Plain => at += 1,
            Class::Slash => {
                at += 1;
                canonical &= !starts_with_noise(&path[at..]);
            }
            Class::Percent => {
                let escape = Escape::read(&path[at..])?;
                canonical &= escape.canonical;
                at += Escape::LENGTH;
            }
            Class::Refused => return Err(fault_of(byte)),
        }
    }
    Ok(canonical)
}

/// Whether what follows a slash is another slash or a dot segment.
fn starts_with_noise(rest: &[u8]) -> bool {
    matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// Writes the `segments` after the root anew. They have been through [`is_canonical`].
fn respell(segments: &[u8]) -> Result<String, PathFault> {
    let mut path = String::with_capacity(segments.len() + 1);
    path.push('/');
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    // Before each segment, `path` ends with a slash.
    while let Some(segment) = segments.next() {
        let start = path.len();
        push_decoded(&mut path, segment)?;
        match &path[start..] {
            "" => {}
            "." => path.truncate(start),
            ".." => {
                // `path` is now "/…/before/..": back to the slash in front of "before".
                let Some(parent) = path[..start - 1].rfind('/') else {
                    return Err(PathFault::AboveRoot);
                };
                path.truncate(parent + 1);
            }
            _ if segments.peek().is_some() => path.push('/'),
            _ => {}
        }
    }
    Ok(path)
}

/// Appends `segment` with each escape in its canonical spelling.
fn push_decoded(path: &mut String, mut segment: &[u8]) -> Result<(), PathFault> {
    while let [byte, rest @ ..] = segment {
        if *byte != b'%' {
            path.push(char::from(*byte));
            segment = rest;
            continue;
        }
        let escape = Escape::read(segment)?;
        if is_unreserved(escape.byte) {
            path.push(char::from(escape.byte));
        } else {
            path.push('%');
            path.push(hex_digit(escape.byte >> 4));
            path.push(hex_digit(escape.byte & 0xf));
        }
        segment = &segment[Escape::LENGTH..];
    }
    Ok(())
}

/// One `%41`.
struct Escape {
    /// The byte it stands for.
    byte: u8,
    /// Whether it is needed, and in upper case.
    canonical: bool,
}

impl Escape {
    const LENGTH: usize = 3;

    /// The escape at the front of `text`, unless it is broken or hides what it must not.
    fn read(text: &[u8]) -> Result<Self, PathFault> {
        let [b'%', high, low, ..] = text else { return Err(PathFault::BadEscape) };
        let (Some(upper), Some(lower)) = (hex_value(*high), hex_value(*low)) else {
            return Err(PathFault::BadEscape);
        };
        match (upper << 4) | lower {
            b'/' => Err(PathFault::EncodedSlash),
            b'\\' => Err(PathFault::Backslash),
            byte @ (0..=0x1f | 0x7f) => Err(PathFault::EncodedControl { byte }),
            byte => {
                let upper_case = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
                Ok(Self { byte, canonical: upper_case && !is_unreserved(byte) })
            }
        }
    }
}

/// How a byte of a path is to be read.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    Refused,
}

/// A table, because this is asked for every byte of every request.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte: u8 = 0;
    loop {
        classes[byte as usize] = match byte {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            // The rest of RFC 3986's `pchar`; `;` is missing on purpose.
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
                Class::Plain
            }
            _ if is_unreserved(byte) => Class::Plain,
            _ => Class::Refused,
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

fn fault_of(byte: u8) -> PathFault {
    match byte {
        b'#' => PathFault::Fragment,
        b'\\' => PathFault::Backslash,
        b';' => PathFault::Semicolon,
        _ => PathFault::ForeignByte { byte },
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn hex_digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'A' + value - 10 })
}
