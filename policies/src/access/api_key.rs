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
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Caller, Grants, KeyLimits, Role};

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
pub fn stored_hash(pepper: &[u8; 32], secret: &str) -> [u8; 32] {
    blake3::keyed_hash(pepper, secret.as_bytes()).into()
}

/// What a configuration file states of a key.
///
/// Without the pepper, so that a file can be written before there is an installation and be the
/// same for all of them. That is safe for keys as long and random as [`make`] makes them, and for
/// nothing that a person thought up.
pub fn declared_hash(secret: &str) -> [u8; 32] {
    blake3::derive_key("weir 2026-11 api key, declared by hash", secret.as_bytes())
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

/// One key that is known here.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyEntry {
    /// Public id; the name, for a key declared in the file.
    pub id: Arc<str>,
    /// The name people gave it.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// Where it may do it.
    pub grants: Grants,
    /// First second, since 1970, in which it no longer works.
    pub expires_at_unix: Option<i64>,
    /// Kept so that a use of it can be told from a guess.
    pub revoked: bool,
    /// Its limits.
    pub limits: KeyLimits,
}

impl KeyEntry {
    /// Who it is that holds this key.
    pub fn caller(&self) -> Caller {
        Caller {
            key_id: Arc::clone(&self.id),
            name: Arc::clone(&self.name),
            role: self.role,
            grants: self.grants.clone(),
        }
    }
}

/// Why a credential is not accepted. For metrics and logs only: the client gets the same bytes
/// whichever it is (T14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// There is none.
    #[error("no credential was presented")]
    Missing,
    /// It cannot be one: too long, ambiguous, or with a checksum that does not fit.
    #[error("the credential is malformed")]
    Malformed,
    /// No key has it.
    #[error("no such key")]
    Unknown,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// It was taken back.
    #[error("the key was revoked")]
    Revoked,
}

impl Denied {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Malformed, Self::Unknown, Self::Expired, Self::Revoked];

    /// The `result` label of `weir_auth_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Every key that is known, by hash. Never changed: a new key makes a new ring.
pub struct KeyRing {
    pepper: Zeroizing<[u8; 32]>,
    stored: ByHash,
    declared: ByHash,
}

impl KeyRing {
    /// A ring of keys from the store, by [`stored_hash`] under `pepper`, and of keys from the file,
    /// by [`declared_hash`]. Of two with one hash the first counts.
    pub fn new(
        pepper: [u8; 32],
        stored: impl IntoIterator<Item = ([u8; 32], KeyEntry)>,
        declared: impl IntoIterator<Item = ([u8; 32], KeyEntry)>,
    ) -> Self {
        Self {
            pepper: Zeroizing::new(pepper),
            stored: ByHash::new(stored),
            declared: ByHash::new(declared),
        }
    }

    /// The key that `presented` is, if it works at `now_unix` (seconds since 1970).
    ///
    /// The shape is looked at last and decides nothing but the reason: keys brought along from
    /// elsewhere may be declared too, and every text of up to [`LONGEST`] bytes costs the same.
    pub fn find(&self, presented: &str, now_unix: i64) -> Result<&KeyEntry, Denied> {
        if presented.is_empty() {
            return Err(Denied::Missing);
        }
        if presented.len() > LONGEST {
            return Err(Denied::Malformed);
        }
        let stored = self.stored.get(&stored_hash(&self.pepper, presented));
        let declared = if self.declared.is_empty() {
            None
        } else {
            self.declared.get(&declared_hash(presented))
        };
        let Some(entry) = stored.or(declared) else {
            let mistyped = presented.starts_with(PREFIX) && !looks_like_weir_key(presented);
            return Err(if mistyped { Denied::Malformed } else { Denied::Unknown });
        };
        if entry.revoked {
            return Err(Denied::Revoked);
        }
        if entry.expires_at_unix.is_some_and(|end| end <= now_unix) {
            return Err(Denied::Expired);
        }
        Ok(entry)
    }

    /// Keys in the ring, revoked and expired ones included.
    pub fn len(&self) -> usize {
        self.stored.entries.len() + self.declared.entries.len()
    }

    /// Whether nobody can come in with a key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key in the ring, in no order that means anything.
    pub fn entries(&self) -> impl Iterator<Item = &KeyEntry> {
        self.stored.entries.iter().chain(&self.declared.entries).map(|(_, entry)| entry)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// Entries sorted by the first eight bytes of their hash, which are kept apart to keep the search
/// in few cache lines. A hash map would do as well, but its seed is chance.
struct ByHash {
    starts: Box<[u64]>,
    entries: Box<[([u8; 32], KeyEntry)]>,
}

impl ByHash {
    fn new(entries: impl IntoIterator<Item = ([u8; 32], KeyEntry)>) -> Self {
        let mut entries: Box<[_]> = entries.into_iter().collect();
        entries.sort_by_key(|(hash, _)| start_of(hash));
        Self { starts: entries.iter().map(|(hash, _)| start_of(hash)).collect(), entries }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn get(&self, hash: &[u8; 32]) -> Option<&KeyEntry> {
        let start = start_of(hash);
        let first = self.starts.partition_point(|&each| each < start);
        let same_start = self.starts[first..].iter().take_while(|&&each| each == start).count();
        let candidates = &self.entries[first..first + same_start];
        candidates.iter().find(|(each, _)| bool::from(each.ct_eq(hash))).map(|(_, entry)| entry)
    }
}

fn start_of(hash: &[u8; 32]) -> u64 {
    hash[..8].iter().fold(0, |value, &byte| (value << 8) | u64::from(byte))
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
    for name in [&AUTHORIZATION, &X_API_KEY, &API_KEY] {
        let Some(text) = single(headers, name)? else { continue };
        let text = if name == AUTHORIZATION { bearer(text)? } else { text };
        if !is_one_token(text) || found.is_some_and(|other| other != text) {
            return Err(Malformed);
        }
        found = Some(text);
    }
    Ok(found)
}

/// Whether a secret of the operator's own making can be presented at all: 1 to [`LONGEST`] visible
/// ASCII characters, no comma.
pub fn can_be_presented(secret: &str) -> bool {
    secret.len() <= LONGEST && is_one_token(secret)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Malformed> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Malformed);
    }
    value.to_str().map(Some).map_err(|_| Malformed)
}

fn bearer(value: &str) -> Result<&str, Malformed> {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(token.trim_matches(' '))
        }
        _ => Err(Malformed),
    }
}

fn is_one_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const PEPPER: [u8; 32] = [7; 32];

    fn random_bytes() -> impl Strategy<Value = [u8; 40]> {
        (any::<[u8; 32]>(), any::<[u8; 8]>()).prop_map(|(most, rest)| {
            let mut bytes = [0; 40];
            bytes[..32].copy_from_slice(&most);
            bytes[32..].copy_from_slice(&rest);
            bytes
        })
    }

    fn entry(name: &str) -> KeyEntry {
        KeyEntry {
            id: name.into(),
            name: name.into(),
            role: Role::Client,
            grants: Grants::All,
            expires_at_unix: None,
            revoked: false,
            limits: KeyLimits::default(),
        }
    }

    fn ring_with(stored: &[(&str, KeyEntry)], declared: &[(&str, KeyEntry)]) -> KeyRing {
        KeyRing::new(
            PEPPER,
            stored.iter().map(|(secret, entry)| (stored_hash(&PEPPER, secret), entry.clone())),
            declared.iter().map(|(secret, entry)| (declared_hash(secret), entry.clone())),
        )
    }

    proptest! {
        #[test]
        fn a_key_made_is_a_key_read(random in random_bytes()) {
            let key = make(&random);
            let text = key.secret.expose();
            prop_assert_eq!(text.len(), KEY_LEN);
            prop_assert!(looks_like_weir_key(text));
            prop_assert_eq!(parse_id(text), Some(key.id.as_str()));
        }

        #[test]
        fn t14_one_wrong_character_is_always_malformed(
            random in random_bytes(), at in 0..KEY_LEN, wrong in 0x21_u8..0x7f,
        ) {
            let key = make(&random);
            let mut bytes = key.secret.expose().as_bytes().to_vec();
            prop_assume!(bytes[at] != wrong);
            bytes[at] = wrong;
            let typo = String::from_utf8(bytes).unwrap();
            prop_assert!(!looks_like_weir_key(&typo));
            prop_assert_eq!(parse_id(&typo), None);
        }

        #[test]
        fn two_neighbours_swapped_are_always_malformed(random in random_bytes(), at in 1..KEY_LEN) {
            let key = make(&random);
            let mut bytes = key.secret.expose().as_bytes().to_vec();
            prop_assume!(bytes[at - 1] != bytes[at]);
            bytes.swap(at - 1, at);
            prop_assert!(!looks_like_weir_key(&String::from_utf8(bytes).unwrap()));
        }

        #[test]
        fn a_key_cut_short_or_run_on_is_malformed(random in random_bytes(), to in 0..KEY_LEN) {
            let key = make(&random);
            let text = key.secret.expose();
            prop_assert!(!looks_like_weir_key(&text[..to]));
            let longer = format!("{text}0");
            prop_assert!(!looks_like_weir_key(&longer));
        }

        #[test]
        fn no_text_upsets_the_readers(text in "\\PC{0,80}") {
            let _ = (looks_like_weir_key(&text), parse_id(&text), parse_hash(&text));
        }

        #[test]
        fn different_secrets_make_different_keys(one in random_bytes(), bit in 0..320_usize) {
            let mut two = one;
            two[bit / 8] ^= 1 << (bit % 8);
            let (one, two) = (make(&one), make(&two));
            prop_assert_ne!(one.secret.expose(), two.secret.expose());
        }

        #[test]
        fn a_hash_is_read_back_as_it_was_written(hash in any::<[u8; 32]>()) {
            prop_assert_eq!(parse_hash(&format_hash(&hash)), Ok(hash));
            let upper = format!("blake3:{}", format_hash(&hash)[7..].to_uppercase());
            prop_assert_eq!(parse_hash(&upper), Ok(hash));
        }
    }

    /// Pinned: a change here would lock out everybody who holds a key.
    #[test]
    fn the_form_of_keys_and_hashes_never_moves() {
        let random: [u8; 40] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let key = make(&random);
        assert_eq!(key.secret.expose(), GOLDEN_KEY);
        assert_eq!(key.id, &GOLDEN_KEY[5..13]);
        assert_eq!(format_hash(&declared_hash(GOLDEN_KEY)), GOLDEN_DECLARED);
        assert_eq!(format_hash(&stored_hash(&PEPPER, GOLDEN_KEY)), GOLDEN_STORED);
    }

    const GOLDEN_KEY: &str = "weir_IYT0XLWR_1u8QmlquE1rQpeqoulx6MZVGVGgufeog3UsDEHmrG2p36vN8v";
    const GOLDEN_DECLARED: &str =
        "blake3:6c4b13a93b1a03a7585d69f05faa86eca5cd31f0a4f3175c3da3e1eeff896794";
    const GOLDEN_STORED: &str =
        "blake3:032c78d70d5d3eadcf6673fded4a397824329e319db904360cb6cea7f70c302a";

    #[test]
    fn the_largest_secret_still_fits() {
        let key = make(&[0xff; 40]);
        assert!(looks_like_weir_key(key.secret.expose()));
        let smallest = make(&[0; 40]);
        assert_eq!(&smallest.secret.expose()[..KEY_LEN - 6], format!("weir_{:0>8}_{:0>43}", 0, 0));
    }

    #[test]
    fn t16_a_secret_does_not_show_itself() {
        let key = make(&[9; 40]);
        let shown = format!("{key:?} {:?}", ring_with(&[(key.secret.expose(), entry("a"))], &[]));
        assert!(shown.contains("Secret(***)") && !shown.contains(&key.secret.expose()[14..]));
        assert!(!shown.contains('7'), "no pepper: {shown}");
    }

    #[test]
    fn stored_and_declared_keys_are_both_found() {
        let (a, b, c) = (make(&[1; 40]), make(&[2; 40]), make(&[3; 40]));
        let ring = ring_with(
            &[(a.secret.expose(), entry("a")), (b.secret.expose(), entry("b"))],
            &[(c.secret.expose(), entry("c")), ("sk-brought-along", entry("d"))],
        );
        for (secret, name) in [
            (a.secret.expose(), "a"),
            (b.secret.expose(), "b"),
            (c.secret.expose(), "c"),
            ("sk-brought-along", "d"),
        ] {
            assert_eq!(&*ring.find(secret, 0).unwrap().caller().name, name);
        }
        assert_eq!(ring.len(), 4);
    }

    #[test]
    fn a_declared_hash_in_the_store_or_a_stored_one_in_the_file_opens_nothing() {
        let key = make(&[1; 40]);
        let secret = key.secret.expose();
        let ring = KeyRing::new(
            PEPPER,
            [(declared_hash(secret), entry("a"))],
            [(stored_hash(&PEPPER, secret), entry("b"))],
        );
        assert_eq!(ring.find(secret, 0), Err(Denied::Unknown));
    }

    #[test]
    fn t14_every_denial_has_its_reason() {
        let (live, gone, old) = (make(&[1; 40]), make(&[2; 40]), make(&[3; 40]));
        let ring = ring_with(
            &[
                (live.secret.expose(), entry("live")),
                (gone.secret.expose(), KeyEntry { revoked: true, ..entry("gone") }),
                (old.secret.expose(), KeyEntry { expires_at_unix: Some(1000), ..entry("old") }),
            ],
            &[],
        );
        let unknown = make(&[4; 40]);
        let typo = live.secret.expose().replace('_', "-");
        let mut typo_inside = live.secret.expose().to_owned();
        typo_inside.replace_range(20..21, "~");
        let long = "x".repeat(LONGEST + 1);
        for (presented, now, expected) in [
            ("", 0, Denied::Missing),
            (unknown.secret.expose(), 0, Denied::Unknown),
            (&typo, 0, Denied::Unknown),
            (&typo_inside, 0, Denied::Malformed),
            ("weir_", 0, Denied::Malformed),
            (&long, 0, Denied::Malformed),
            (gone.secret.expose(), 0, Denied::Revoked),
            (old.secret.expose(), 1000, Denied::Expired),
            ("' OR 1=1 --", 0, Denied::Unknown),
        ] {
            assert_eq!(ring.find(presented, now), Err(expected), "{presented:.20}");
        }
        assert!(ring.find(old.secret.expose(), 999).is_ok(), "until the last second");
        assert!(ring.find(&"x".repeat(LONGEST), 0) == Err(Denied::Unknown));
    }

    #[test]
    fn hashes_with_the_same_start_are_told_apart() {
        let mut one = [5; 32];
        let two = one;
        one[31] = 6;
        let found = ByHash::new([(one, entry("one")), (two, entry("two"))]);
        assert_eq!(&*found.get(&one).unwrap().name, "one");
        assert_eq!(&*found.get(&two).unwrap().name, "two");
        assert!(found.get(&[4; 32]).is_none() && found.get(&[6; 32]).is_none());
    }

    #[test]
    fn a_wrong_hash_is_explained() {
        let digits = "ab".repeat(32);
        for (text, message) in [
            ("", "a hash starts with `blake3:`, followed by 64 hexadecimal digits"),
            (
                &*format!("sha256:{digits}"),
                "a hash starts with `blake3:`, followed by 64 hexadecimal digits",
            ),
            ("blake3:abc", "after `blake3:` there must be 64 hexadecimal digits, not 3"),
            (
                "blake3:0x12",
                "after `blake3:` there must be hexadecimal digits only, but character 2 is 'x'",
            ),
            (
                make(&[1; 40]).secret.expose(),
                "this is a key, not its hash: write `blake3:` and 64 hexadecimal digits, and \
                 replace the key, because it has been in a file",
            ),
        ] {
            assert_eq!(parse_hash(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn t18_a_credential_is_read_from_three_places_and_never_from_two_at_odds() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: &[(Fields, Result<Option<&str>, Malformed>)] = &[
            (&[], Ok(None)),
            (&[("authorization", "Bearer k1")], Ok(Some("k1"))),
            (&[("authorization", "bEARER   k1 ")], Ok(Some("k1"))),
            (&[("x-api-key", "k1")], Ok(Some("k1"))),
            (&[("api-key", "k1")], Ok(Some("k1"))),
            (
                &[("authorization", "Bearer k1"), ("x-api-key", "k1"), ("api-key", "k1")],
                Ok(Some("k1")),
            ),
            (&[("authorization", "Bearer k1"), ("x-api-key", "k2")], Err(Malformed)),
            (&[("api-key", "k1"), ("x-api-key", "k2")], Err(Malformed)),
            (&[("authorization", "Bearer k1"), ("authorization", "Bearer k1")], Err(Malformed)),
            (&[("x-api-key", "k1"), ("x-api-key", "k1")], Err(Malformed)),
            (&[("authorization", "Basic dTpw")], Err(Malformed)),
            (&[("authorization", "Basic dTpw"), ("x-api-key", "k1")], Err(Malformed)),
            (&[("authorization", "Bearer")], Err(Malformed)),
            (&[("authorization", "Bearer ")], Err(Malformed)),
            (&[("authorization", "k1")], Err(Malformed)),
            (&[("authorization", "")], Err(Malformed)),
            (&[("x-api-key", "")], Err(Malformed)),
            (&[("x-api-key", "k1, k2")], Err(Malformed)),
            (&[("x-api-key", "k1,k2")], Err(Malformed)),
            (&[("authorization", "Bearer k1 k2")], Err(Malformed)),
            (&[("authorization", "Bearer k1, Bearer k2")], Err(Malformed)),
            (&[("x-api-key", "k\u{e9}")], Err(Malformed)),
            (&[("cookie", "key=k1")], Ok(None)),
        ];
        for (fields, expected) in table {
            let mut headers = HeaderMap::new();
            for &(name, value) in *fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(credential_of(&headers), *expected, "{fields:?}");
        }
    }

    #[test]
    fn a_secret_that_no_header_could_carry_is_noticed_beforehand() {
        assert!(can_be_presented(make(&[1; 40]).secret.expose()));
        for wrong in ["", "a b", "a,b", "schl\u{fc}ssel", &"x".repeat(257)] {
            assert!(!can_be_presented(wrong));
        }
    }
}
