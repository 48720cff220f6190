//! What no query asks for of an outcome, packed.
//!
//! The fields of [`More`] one after the other, each with its own end. A new field goes to the end of the
//! list and needs nothing else: what is older ends before it, and then it is read as unknown, the
//! default of its type. A field that is no longer kept stays in the list and is written as unknown.
//! Anything else is another [`ENCODING`], and the old one stays readable as long as its rows may be there.
//!
//! Rows lie one after the other behind a byte that says which encoding it is, each behind its length. A
//! text that is the same as in the row before takes one byte: most are. Up to schema 8 each row was a
//! blob of its own ([`More::write`], [`More::read`]).

/// First byte of what is written now.
const ENCODING: u8 = 2;

/// First byte of the blobs of single rows.
const SINGLE: u8 = 1;

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

/// Bytes of a row's length: written when it is known, so that nothing has to be moved.
const LENGTH: usize = 3;

/// Texts and addresses that a row may have.
const MOST_TEXTS: usize = 16;

/// Where rows are packed. Kept for the next ones, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    length: usize,
    // Where each text of the row before stands.
    before: [(usize, usize); MOST_TEXTS],
}

impl Packer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.before = Default::default();
    }
}

/// Writes into room that is there already: a byte at a time, that is what packing costs.
struct Writer<'b> {
    room: &'b mut [u8],
    at: usize,
    before: &'b mut [(usize, usize); MOST_TEXTS],
    // Of the texts of the row.
    next: usize,
    single: bool,
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

    /// A text: 0 if it is that of the row before, else one more than its length, and the text.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        if self.single {
            (text.len() as u64).put(self);
            return self.bytes(text);
        }
        let place = self.next;
        self.next += 1;
        let (from, to) = self.before[place];
        if self.room[from..to] == *text {
            return self.byte(0);
        }
        (text.len() as u64 + 1).put(self);
        self.before[place] = (self.at, self.at + text.len());
        self.bytes(text);
    }
}

/// What is left to read, and the texts of the row before.
struct Reader<'a> {
    rest: &'a [u8],
    before: [&'a [u8]; MOST_TEXTS],
    next: usize,
    single: bool,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u64::take(self)?;
        if self.single {
            return self.bytes(length);
        }
        let place = self.next;
        self.next += 1;
        if let Some(length) = length.checked_sub(1) {
            *self.before.get_mut(place)? = self.bytes(length)?;
        }
        self.before.get(place).copied()
    }
}

/// One type of field.
trait Field<'a>: Sized + Default {
    /// How many bytes it takes at most.
    fn most(&self) -> usize;

    /// Writes it; there is room for [`Self::most`].
    fn put(&self, to: &mut Writer<'_>);

    /// Takes it from the beginning of `from`; `None` if there is something else.
    fn take(from: &mut Reader<'a>) -> Option<Self>;
}

/// Makes the struct and both directions of one list, so that they cannot differ.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// The fields, in the order in which they lie there.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(super) struct More<'a> {
            $($(#[$doc])* pub(super) $field: $type,)*
        }

        impl<'a> More<'a> {
            /// Packs it behind the rows that `to` has.
            pub(super) fn pack(&self, to: &mut Packer) {
                let most = to.length + 1 + LENGTH $(+ self.$field.most())*;
                if to.bytes.len() < most {
                    to.bytes.resize(most.next_power_of_two(), 0);
                }
                if to.length == 0 {
                    (to.bytes[0], to.length) = (ENCODING, 1);
                }
                let start = to.length + LENGTH;
                let (room, before) = (&mut to.bytes[..], &mut to.before);
                let mut writer = Writer { room, at: start, before, next: 0, single: false };
                $(self.$field.put(&mut writer);)*
                let end = writer.at;
                to.bytes[to.length..start].copy_from_slice(&padded(end - start));
                to.length = end;
            }

            /// The blob of a single row.
            pub(super) fn write(&self) -> Vec<u8> {
                let mut blob = vec![0; 1 $(+ self.$field.most())*];
                let before = &mut Default::default();
                let mut writer = Writer { room: &mut blob, at: 0, before, next: 0, single: true };
                writer.byte(SINGLE);
                $(self.$field.put(&mut writer);)*
                let length = writer.at;
                blob.truncate(length);
                blob
            }

            /// `None` if this is not the blob of a single row.
            pub(super) fn read(blob: &'a [u8]) -> Option<Self> {
                let rest = blob.strip_prefix(&[SINGLE])?;
                Self::take(&mut Reader { rest, before: Default::default(), next: 0, single: true })
            }

            /// All of `from` is one row.
            fn take(from: &mut Reader<'a>) -> Option<Self> {
                from.next = 0;
                Some(Self {
                    $($field: {
                        if from.rest.is_empty() { Default::default() } else { Field::take(from)? }
                    },)*
                })
            }
        }
    };
}

/// A length in [`LENGTH`] bytes, as a number that may be written with fewer.
#[inline]
fn padded(length: usize) -> [u8; LENGTH] {
    let [low, middle, high, ..] = (length as u64).to_le_bytes();
    let wide = u32::from_le_bytes([low, middle, high, 0]);
    let seven = |shift: u32| (wide >> shift & 0x7f).to_le_bytes()[0];
    [seven(0) | 0x80, seven(7) | 0x80, seven(14)]
}

/// Rows that were packed, one after the other.
pub(super) struct Rows<'a> {
    bytes: &'a [u8],
    before: [&'a [u8]; MOST_TEXTS],
}

impl<'a> Rows<'a> {
    /// Of all that a [`Packer`] has. What is of another encoding has none.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(&[ENCODING]).unwrap_or_default();
        Self { bytes, before: Default::default() }
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = More<'a>;

    /// `None` at the end, and from the first row on that cannot be read.
    fn next(&mut self) -> Option<More<'a>> {
        let reader = |rest, before| Reader { rest, before, next: 0, single: false };
        let mut all = reader(std::mem::take(&mut self.bytes), self.before);
        let length = u64::take(&mut all)?;
        let mut row = reader(all.bytes(length)?, self.before);
        let more = More::take(&mut row)?;
        (self.bytes, self.before) = (all.rest, row.before);
        Some(more)
    }
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

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = from.rest.split_first()?;
            from.rest = rest;
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

    fn take(from: &mut Reader<'_>) -> Option<Self> {
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

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Some(u64::take(from)?.checked_sub(1))
    }
}

/// See [`Writer::text`].
impl<'a> Field<'a> for &'a [u8] {
    #[inline]
    fn most(&self) -> usize {
        10 + self.len()
    }

    #[inline]
    fn put(&self, to: &mut Writer<'_>) {
        to.text(self);
    }

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        from.text()
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

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        std::str::from_utf8(from.text()?).ok()
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

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let length = u64::take(from)?;
        let bytes = from.bytes(length)?;
        if bytes.is_empty() { Some(Self::default()) } else { bytes.try_into().ok() }
    }
}

#[cfg(test)]
mod tests;
