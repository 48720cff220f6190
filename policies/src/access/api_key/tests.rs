//! Keys made, checked and looked up; every wrong one fails alike.

use super::ring::ByHash;
use super::*;
use crate::access::{Grants, KeyLimits, Role};
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
    assert!(ring.find("x".repeat(LONGEST), 0) == Err(Denied::Unknown));
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
        (&[("authorization", "Bearer k1"), ("x-api-key", "k1"), ("api-key", "k1")], Ok(Some("k1"))),
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

        headers.append("a", HeaderValue::from_static("kept"));
        let seen = Seen::of(&headers);
        let taken = take_credential(&mut headers, seen);
        let token = taken.as_ref().map(|taken| taken.as_ref().map(Credential::token));
        assert_eq!(token, expected.as_ref().map(|text| text.map(str::as_bytes)), "{fields:?}");
        if expected.is_ok() {
            assert!(FIELDS.iter().all(|name| !headers.contains_key(name)), "{fields:?}");
            assert_eq!(headers["a"], "kept");
        }
    }
}

#[test]
fn a_secret_that_no_header_could_carry_is_noticed_beforehand() {
    assert!(can_be_presented(make(&[1; 40]).secret.expose()));
    for wrong in ["", "a b", "a,b", "schl\u{fc}ssel", &"x".repeat(257)] {
        assert!(!can_be_presented(wrong));
    }
}
