//! The blob `more` of an outcome: every member that no query asks for.
//!
//! A byte that says which encoding it is, then the fields of [`More`] one after the other, each with
//! its own end. A new field goes to the end of the list and needs nothing else: a blob that is
//! older ends before it, and then it is read as unknown, the default of its type. A field that is no
//! longer kept stays in the list and is written as unknown. Anything else is another
//! [`ENCODING`], and the old one stays readable as long as its rows may be there.

/// First byte of the blobs that are written now.
const ENCODING: u8 = 1;

/// Members of [`More::bits`].
pub(super) mod bit {
    pub(in super::super) const SAMPLED: u64 = 1;
    pub(in super::super) const ELIGIBLE: u64 = 1 << 1;
    pub(in super::super) const REUSED: u64 = 1 << 2;
    pub(in super::super) const STREAM: u64 = 1 << 3;
    pub(in super::super) const COMPLETE: u64 = 1 << 4;
    pub(in super::super) const TOKENS_ESTIMATED: u64 = 1 << 5;
    pub(in super::super) const SHADOW: u64 = 1 << 6;
    /// One of the two is set, or neither: HTTP/1.1.
    pub(in super::super) const HTTP_10: u64 = 1 << 7;
    pub(in super::super) const HTTP_2: u64 = 1 << 8;
    /// The path is the same as `pattern`.
    pub(in super::super) const PATH_IS_PATTERN: u64 = 1 << 9;
}

/// Where a blob is written. Kept for the next one, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub(super) struct Blob {
    bytes: Vec<u8>,
    length: usize,
}

impl Blob {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes into room that is there already: a byte at a time, that is what packing costs.
struct Writer<'b> {
    room: &'b mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.room[self.at] = byte;
        self.at += 1;
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.room[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// One type of field.
trait Field<'a>: Sized + Default {
    /// How many bytes it takes at most.
    fn most(&self) -> usize;

    /// Writes it; there is room for [`Self::most`].
    fn put(&self, to: &mut Writer<'_>);

    /// Takes it from the beginning of `from`; `None` if there is something else.
    fn take(from: &mut &'a [u8]) -> Option<Self>;
}

/// Makes the struct and both directions of one list, so that they cannot differ.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// The fields, in the order in which they lie in the blob.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(super) struct More<'a> {
            $($(#[$doc])* pub(super) $field: $type,)*
        }

        impl<'a> More<'a> {
            /// Writes the blob over what `to` holds.
            pub(super) fn write(&self, to: &mut Blob) {
                let most = 1 $(+ self.$field.most())*;
                if to.bytes.len() < most {
                    to.bytes.resize(most, 0);
                }
                let mut writer = Writer { room: &mut to.bytes, at: 0 };
                writer.byte(ENCODING);
                $(self.$field.put(&mut writer);)*
                to.length = writer.at;
            }

            /// `None` if this is not such a blob.
            pub(super) fn read(blob: &'a [u8]) -> Option<Self> {
                let (&encoding, mut rest) = blob.split_first()?;
                if encoding != ENCODING {
                    return None;
                }
                Some(Self { $($field: field(&mut rest)?,)* })
            }
        }
    };
}

// Only ever longer: see above.
fields! {
    /// Yes/no members and the protocol: [`bit`].
    bits: u64,
    /// Nanoseconds from the time in the request id to the start, which is what the id was made of.
    started: i64,
    // Numbers in `names`.
    reason: Option<u64>,
    rejected: Option<u64>,
    flag: Option<u64>,
    tls_version: Option<u64>,
    tls_cipher: Option<u64>,
    request_model: Option<u64>,
    revision: u64,
    bucket: Option<u64>,
    attempts: u64,
    upstream_status: u64,
    request_bytes: u64,
    response_bytes: u64,
    chunks: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    // Microseconds; `t_total` is a column.
    t_header: Option<u64>,
    t_auth: Option<u64>,
    t_connect: Option<u64>,
    t_send: Option<u64>,
    t_first_byte: Option<u64>,
    t_first_token: Option<u64>,
    t_stream: Option<u64>,
    t_gateway: Option<u64>,
    /// Address and port, 6 or 18 bytes.
    peer: &'a [u8],
    /// Address, 4 or 16 bytes; empty: the peer's.
    client: &'a [u8],
    /// Address and port, 6 or 18 bytes; empty: none.
    endpoint: &'a [u8],
    // Zeros: none.
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: [u8; 8],
    attempt_span_id: [u8; 8],
    // Empty: unknown.
    method: &'a str,
    /// Also empty where `bits` says that it is the same as `pattern`.
    path: &'a str,
    host: &'a str,
    user_agent: &'a str,
    key_id: &'a str,
    response_model: &'a str,
    finish_reason: &'a str,
    client_request_id: &'a str,
    upstream_request_id: &'a str,
    /// End of the head to the beginning of the last attempt, microseconds.
    t_attempt: Option<u64>,
    /// Attempts before that one, a JSON list of `Tried`; empty: none.
    tried: &'a str,
}

fn field<'a, T: Field<'a>>(rest: &mut &'a [u8]) -> Option<T> {
    if rest.is_empty() { Some(T::default()) } else { T::take(rest) }
}

/// Seven bits a byte, the lowest first; all bytes but the last have the eighth.
impl Field<'_> for u64 {
    #[inline]
    fn most(&self) -> usize {
        10
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        let mut left = *self;
        while left >= 0x80 {
            to.byte(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        to.byte(left.to_le_bytes()[0]);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = from.split_first()?;
            *from = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// As 0, -1, 1, -2, 2, …
impl Field<'_> for i64 {
    #[inline]
    fn most(&self) -> usize {
        10
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().put(to);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let number = u64::take(from)?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

/// One more than the number; zero is `None`. The greatest number is kept as the one below it.
impl Field<'_> for Option<u64> {
    #[inline]
    fn most(&self) -> usize {
        10
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        self.map_or(0, |number| number.saturating_add(1)).put(to);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Some(u64::take(from)?.checked_sub(1))
    }
}

/// The length, then the bytes.
impl<'a> Field<'a> for &'a [u8] {
    #[inline]
    fn most(&self) -> usize {
        10 + self.len()
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        (self.len() as u64).put(to);
        to.bytes(self);
    }

    fn take(from: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u64::take(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(bytes)
    }
}

impl<'a> Field<'a> for &'a str {
    #[inline]
    fn most(&self) -> usize {
        self.as_bytes().most()
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        self.as_bytes().put(to);
    }

    fn take(from: &mut &'a [u8]) -> Option<Self> {
        std::str::from_utf8(<&[u8]>::take(from)?).ok()
    }
}

/// As bytes; all zeros are none.
impl<const N: usize> Field<'_> for [u8; N]
where
    Self: Default,
{
    #[inline]
    fn most(&self) -> usize {
        10 + N
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        if *self == [0; N] {
            to.byte(0);
        } else {
            (N as u64).put(to);
            to.bytes(self);
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let bytes = <&[u8]>::take(from)?;
        if bytes.is_empty() { Some(Self::default()) } else { bytes.try_into().ok() }
    }
}

#[cfg(test)]
mod tests;
