//! Which bytes may stand where: by table, and eight at a time where lines are long.

/// The bytes of a token (RFC 9110, 5.6.2): field names and methods.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut at = 0;
    while at < allowed.len() {
        table[allowed[at] as usize] = true;
        at += 1;
    }
    table
};

/// The bytes of a target in its usual form: visible, and with a place in a path or query.
const TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        table[byte as usize] = !matches!(byte, b'#' | b'<' | b'>' | b'"' | b'`');
        byte += 1;
    }
    table
};

/// `byte` in each of eight places.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Non-zero if and only if a byte of `word` is below `bound`, for bounds up to 0x80. Which byte it
/// was cannot be told from the answer, because a borrow runs on into the bytes above.
const fn any_below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(eight(bound)) & !word & eight(0x80)
}

/// How many bytes at the beginning belong to a token.
#[inline]
pub(super) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TOKEN[usize::from(byte)]).unwrap_or(bytes.len())
}

/// How many bytes at the beginning belong to a target in its usual form.
#[inline]
pub(super) fn target_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TARGET[usize::from(byte)]).unwrap_or(bytes.len())
}

/// Whether a request target may consist of `bytes`: visible ASCII only.
#[inline]
pub(super) fn is_visible(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut bad = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        bad |= any_below(word, 0x21) | any_below(word ^ eight(0x7f), 1) | (word & eight(0x80));
    }
    bad == 0 && rest.iter().all(u8::is_ascii_graphic)
}

/// Whether a field value may consist of `bytes`: no control bytes except tabs. Bytes from 0x80 up
/// are allowed.
#[inline]
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.iter().all(is_text_byte) };
    // The last eight bytes once more, instead of those that are left one by one.
    let suspect = bytes.as_chunks::<8>().0.iter().chain([last]).fold(0, |suspect, word| {
        let word = u64::from_ne_bytes(*word);
        suspect | any_below(word, 0x20) | any_below(word ^ eight(0x7f), 1)
    });
    // A tab is below 0x20 too; values with tabs are rare enough to be looked at twice.
    suspect == 0 || bytes.iter().all(is_text_byte)
}

/// How many bytes at the beginning are text other than tabs: a field line ends at the first that is not.
#[inline]
pub(super) fn text_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        // The lowest byte that is found is one, whatever a borrow makes of those above it.
        let word = u64::from_le_bytes(*word);
        let odd = any_below(word, 0x20) | any_below(word ^ eight(0x7f), 1);
        if odd != 0 {
            return number * 8 + odd.trailing_zeros() as usize / 8;
        }
    }
    let odd = rest.iter().position(u8::is_ascii_control);
    bytes.len() - rest.len() + odd.unwrap_or(rest.len())
}

#[inline]
fn is_text_byte(byte: &u8) -> bool {
    *byte == b'\t' || !byte.is_ascii_control()
}

/// Whether `byte` is a space or tab, which is what HTTP calls whitespace.
#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without the spaces and tabs before it.
#[inline]
pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    bytes
}

/// `bytes` without the spaces and tabs around it. Not `trim_ascii`, which takes line ends too.
#[inline]
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_start(bytes);
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}
