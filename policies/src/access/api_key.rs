//! API keys: how one is made, what of it is stored, and how a presented one is found.
//!
//! ```text
//! weir_ 4fT9aZq1 _ 0pQ…43 characters…kV 1zWx9B
//!       public id  256 random bits      CRC-32 of all before it
//! ```
//!
//! The prefix lets secret scanners find a leaked key, the id names the key in logs and tables, and
//! the checksum tells a mistyped key from an unknown one without a look-up. What is stored is a
//! keyed hash; a presented key is hashed and *looked up*, so no comparison depends on a stored
//! secret (T14).

use std::fmt;
use std::ops::Range;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::headers::{Seen, strip_credentials};

mod ring;

pub use ring::{Denied, Fingerprint, KeyEntry, KeyRing};

const PREFIX: &str = "weir_";
const ID_LEN: usize = 8;
/// 62^43 is a little more than 2^256.
const RANDOM_LEN: usize = 43;
/// 62^6 is more than 2^32.
const CHECKSUM_LEN: usize = 6;
const KEY_LEN: usize = PREFIX.len() + ID_LEN + 1 + RANDOM_LEN + CHECKSUM_LEN;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Longest presented key that is looked at, in bytes (L17).
pub const LONGEST: usize = 256;

/// `x-api-key`: where clients of the Anthropic API put their key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// `api-key`: where clients of Azure put it.
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Every field that a credential may stand in.
pub(crate) static FIELDS: [HeaderName; 3] = [AUTHORIZATION, X_API_KEY, API_KEY];

/// A key's text, or another secret: not printed, and overwritten when dropped.
///
/// It has no `Display`, no `Clone` and no `Serialize`, so that showing it takes an [`expose`] which
/// a reader of the code can search for (T16).
///
/// [`expose`]: Secret::expose
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies made before are not overwritten.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A key just made.
#[derive(Debug)]
pub struct NewKey {
    /// Its public id.
    pub id: String,
    /// The whole key; shown once.
    pub secret: Secret,
}

/// Makes a key from 40 random bytes: 8 for the public id, 32 for the secret.
///
/// As good as the bytes are; the same bytes make the same key.
pub fn make(random: &[u8; 40]) -> NewKey {
    let (for_id, for_secret) = random.split_at(8);

    let mut id_bits = Zeroizing::new([0_u32; 8]);
    fill_limbs(&mut id_bits, for_id);
    let mut id = [0_u8; ID_LEN];
    write_base62(&mut id_bits, &mut id);

    let mut limbs = Zeroizing::new([0_u32; 8]);
    fill_limbs(&mut limbs, for_secret);
    let mut digits = Zeroizing::new([0_u8; RANDOM_LEN]);
    write_base62(&mut limbs, &mut *digits);

    // Its final size from the start: a string that grows leaves copies of the secret behind.
    let mut text = String::with_capacity(KEY_LEN);
    text.push_str(PREFIX);
    text.extend(id.iter().map(|&digit| char::from(digit)));
    text.push('_');
    text.extend(digits.iter().map(|&digit| char::from(digit)));
    let checksum = checksum_of(text.as_bytes());
    text.extend(checksum.iter().map(|&digit| char::from(digit)));

    NewKey { id: id.iter().map(|&digit| char::from(digit)).collect(), secret: Secret::new(text) }
}

/// Sets `limbs`, most significant first, from big-endian `bytes`, right-aligned.
fn fill_limbs(limbs: &mut [u32; 8], bytes: &[u8]) {
    for (limb, four) in limbs.iter_mut().rev().zip(bytes.rchunks(4)) {
        *limb = four.iter().fold(0, |value, &byte| (value << 8) | u32::from(byte));
    }
}

/// Writes the number in `limbs` in base 62, most significant digit first; digits that do not fit
/// into `out` are left off. `limbs` is used up.
#[expect(clippy::cast_possible_truncation, reason = "a quotient of a 38-bit number by 62 fits")]
fn write_base62(limbs: &mut [u32; 8], out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        let mut rest = 0_u64;
        for limb in limbs.iter_mut() {
            let value = (rest << 32) | u64::from(*limb);
            *limb = (value / 62) as u32;
            rest = value % 62;
        }
        *place = BASE62[rest as usize];
    }
}

fn checksum_of(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [0; CHECKSUM_LEN];
    for place in digits.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Whether `text` is a whole Weir key with a fitting checksum. Not whether it exists.
///
/// One wrong character, or two neighbours swapped, are always noticed: a CRC-32 catches every burst
/// of up to 32 bits.
pub fn looks_like_weir_key(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != KEY_LEN || !text.starts_with(PREFIX) {
        return false;
    }
    let separator = PREFIX.len() + ID_LEN;
    let well_formed = bytes[PREFIX.len()..].iter().enumerate().all(|(at, byte)| {
        if at + PREFIX.len() == separator { *byte == b'_' } else { byte.is_ascii_alphanumeric() }
    });
    let (body, checksum) = bytes.split_at(KEY_LEN - CHECKSUM_LEN);
    // Compared as text: every other spelling of the same number is a typo.
    well_formed && checksum_of(body) == checksum
}

/// The public id inside a key, if `text` is one: safe to log.
pub fn parse_id(text: &str) -> Option<&str> {
    looks_like_weir_key(text).then(|| &text[PREFIX.len()..PREFIX.len() + ID_LEN])
}

/// What the store keeps of a key: its hash keyed with this installation's `pepper`, so that a
/// stolen table cannot even be used to check a guess.
pub fn stored_hash(pepper: &[u8; 32], secret: impl AsRef<[u8]>) -> [u8; 32] {
    blake3::keyed_hash(pepper, secret.as_ref()).into()
}

/// What a configuration file states of a key.
///
/// Without the pepper, so that a file can be written before there is an installation and be the
/// same for all of them. That is safe for keys as long and random as [`make`] makes them, and for
/// nothing that a person thought up.
pub fn declared_hash(secret: impl AsRef<[u8]>) -> [u8; 32] {
    blake3::derive_key("weir 2026-11 api key, declared by hash", secret.as_ref())
}

const HASH_SCHEME: &str = "blake3:";

/// `blake3:` and 64 hexadecimal digits: how a hash is written in a file.
pub fn format_hash(hash: &[u8; 32]) -> String {
    format!("{HASH_SCHEME}{}", blake3::Hash::from_bytes(*hash).to_hex())
}

/// Reads what [`format_hash`] writes; hexadecimal digits may be in either case.
pub fn parse_hash(text: &str) -> Result<[u8; 32], HashProblem> {
    if text.starts_with(PREFIX) {
        return Err(HashProblem::IsAKey);
    }
    let Some(hex) = text.strip_prefix(HASH_SCHEME) else {
        return Err(HashProblem::NoScheme);
    };
    if let Some((at, found)) = hex.char_indices().find(|(_, each)| !each.is_ascii_hexdigit()) {
        return Err(HashProblem::NotHex { at: at + 1, found });
    }
    if hex.len() != 64 {
        return Err(HashProblem::Length { digits: hex.len() });
    }
    blake3::Hash::from_hex(hex).map(Into::into).map_err(|_| HashProblem::Length { digits: 0 })
}

/// Why a text is not the hash of a key. Repeats at most one character of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashProblem {
    /// The secret was written where its hash belongs.
    #[error(
        "this is a key, not its hash: write `blake3:` and 64 hexadecimal digits, and replace the \
         key, because it has been in a file"
    )]
    IsAKey,
    /// Something without `blake3:`.
    #[error("a hash starts with `blake3:`, followed by 64 hexadecimal digits")]
    NoScheme,
    /// Too short or too long.
    #[error("after `blake3:` there must be 64 hexadecimal digits, not {digits}")]
    Length {
        /// How many there are.
        digits: usize,
    },
    /// Something else than a digit.
    #[error(
        "after `blake3:` there must be hexadecimal digits only, but character {at} is {found:?}"
    )]
    NotHex {
        /// Its place after the colon, in bytes, from 1.
        at: usize,
        /// The first character that is none.
        found: char,
    },
}

/// A request that carries a credential which cannot be read, or more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential is repeated, contradictory or unreadable")]
pub struct Malformed;

impl From<Malformed> for Denied {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The credential of a request: a key or a token, `None` if there is none.
///
/// Looked for in `Authorization: Bearer`, `x-api-key` and `api-key`. Two of them may be there if
/// they say the same, as some SDKs do. Whatever another reader could understand differently is
/// refused: a field that is repeated, values that differ, a list, another scheme (T18). A query
/// string is never looked at (T14).
pub fn credential_of(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut found: Option<&str> = None;
    let mut seen = [false; 3];
    // One pass over all fields, a repeated one twice.
    for (name, value) in headers {
        let Some(place) = FIELDS.iter().position(|each| each == name) else { continue };
        if std::mem::replace(&mut seen[place], true) {
            return Err(Malformed);
        }
        let token = if place == 0 { bearer(value.as_bytes())? } else { value.as_bytes() };
        if !is_one_token(token) {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(token).map_err(|_| Malformed)?;
        if found.is_some_and(|other| other != text) {
            return Err(Malformed);
        }
        found = Some(text);
    }
    Ok(found)
}

/// A credential that was taken out of a head.
#[derive(Debug)]
pub struct Credential(HeaderValue, Range<usize>);

impl Credential {
    /// The key or token, as visible ASCII.
    pub fn token(&self) -> &[u8] {
        self.0.as_bytes().get(self.1.clone()).unwrap_or_default()
    }
}

/// What [`credential_of`] finds, taken out of the head together with every field that one may stand
/// in: the backend never sees it (T24).
///
/// `seen`: at least what is there of [`Seen::CREDENTIALS`].
pub fn take_credential(
    headers: &mut HeaderMap,
    seen: Seen,
) -> Result<Option<Credential>, Malformed> {
    let seen = seen.only(Seen::CREDENTIALS);
    if seen == Seen::NONE {
        return Ok(None);
    }
    let is_repeated = headers.len() != headers.keys_len();
    let [authorization, ..] = &FIELDS;
    if seen == Seen::AUTHORIZATION && !is_repeated {
        // The ordinary case: the field is found once, to be read and to be removed.
        return headers.remove(authorization).map(of_authorization).transpose();
    }
    let text = credential_of(headers)?.map(ToOwned::to_owned);
    strip_credentials(headers);
    let Some(text) = text else { return Ok(None) };
    let length = text.len();
    let mut value = HeaderValue::try_from(text).map_err(|_| Malformed)?;
    value.set_sensitive(true);
    Ok(Some(Credential(value, 0..length)))
}

fn of_authorization(value: HeaderValue) -> Result<Credential, Malformed> {
    let token = bearer(value.as_bytes())?;
    if !is_one_token(token) {
        return Err(Malformed);
    }
    // What is around the token: the scheme before it, and spaces behind.
    let behind = value.as_bytes().iter().rev().take_while(|&&byte| byte == b' ').count();
    let end = value.len() - behind;
    let place = end - token.len()..end;
    Ok(Credential(value, place))
}

/// Whether a secret of the operator's own making can be presented at all: 1 to [`LONGEST`] visible
/// ASCII characters, no comma.
pub fn can_be_presented(secret: &str) -> bool {
    secret.len() <= LONGEST && is_one_token(secret.as_bytes())
}

fn bearer(value: &[u8]) -> Result<&[u8], Malformed> {
    const SCHEME: &[u8] = b"bearer ";
    let Some((scheme, mut token)) = value.split_at_checked(SCHEME.len()) else {
        return Err(Malformed);
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(Malformed);
    }
    while let [b' ', rest @ ..] | [rest @ .., b' '] = token {
        token = rest;
    }
    Ok(token)
}

fn is_one_token(text: &[u8]) -> bool {
    // Every byte is looked at, wherever the first bad one is: that takes fewer steps, not more.
    let bad = |bad, byte: &u8| bad | !byte.is_ascii_graphic() | (*byte == b',');
    !text.is_empty() && !text.iter().fold(false, bad)
}

#[cfg(test)]
mod tests;
