//! Signatures by which a receiver knows that a message is ours, whole and fresh.
//!
//! Standard Webhooks: `webhook-signature: v1,BASE64` is the HMAC-SHA256 of
//! `ID.TIMESTAMP.BODY`, where `ID` is the header `webhook-id` and `TIMESTAMP` (seconds since 1970) the
//! header `webhook-timestamp`. Several secrets give several signatures with blanks between them, so
//! that a secret can be exchanged without a moment in which receivers refuse us.
//!
//! Source: Standard Webhooks specification, "Signature scheme".

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

/// How a secret begins that is written as its specification says: the rest is base64.
const PREFIX: &str = "whsec_";

/// As the libraries read it: `=` at the end may be left out.
const ENCODED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Secrets that are shorter can be guessed sooner than they should (Standard Webhooks asks for 24).
pub const SHORT: usize = 24;

/// A secret, ready to sign. What it is made of is not kept.
#[derive(Clone, Debug)]
pub struct Secret {
    key: hmac::Key,
    /// Whether it has fewer than [`SHORT`] bytes.
    pub is_short: bool,
}

impl Secret {
    /// `whsec_` and base64, or any other text, whose bytes are the key.
    ///
    /// # Errors
    /// Why it is none, in words that do not repeat it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => {
                ENCODED.decode(encoded).map_err(|_| "what follows \"whsec_\" is not base64")?
            }
            None => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err("it is empty");
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Ok(Self { key, is_short: bytes.len() < SHORT })
    }
}

/// The value of `webhook-signature`: one signature for each secret.
pub fn signature(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut value = String::new();
    for secret in secrets {
        let mut context = hmac::Context::with_key(&secret.key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        STANDARD.encode_string(context.sign(), &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the test suites of the libraries of Standard Webhooks.
    #[test]
    fn a_signature_is_the_one_that_the_libraries_expect() {
        let secret = Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let secrets = [secret.clone(), secret];
        let signed = signature(&secrets[..1], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let twice = signature(&secrets, "a", 1, b"");
        assert_eq!(twice.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_is_text_or_base64_and_never_shown() {
        let of = |text: &str| Secret::read(text).map(|secret| secret.is_short);
        assert_eq!(of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Ok(false));
        assert_eq!(of("a-text-of-twenty-four-by"), Ok(false));
        assert_eq!(of("short"), Ok(true));
        assert_eq!(of("whsec_"), Err("it is empty"));
        assert!(of("whsec_not base64").is_err());
        // One key, written in two ways.
        let one = [Secret::read("0123456789abcdef").unwrap()];
        for other in ["whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "whsec_MDEyMzQ1Njc4OWFiY2RlZg"] {
            let other = Secret::read(other).unwrap();
            assert_eq!(signature(&one, "a", 1, b"b"), signature(&[other], "a", 1, b"b"));
        }
        assert!(!format!("{one:?}").contains("0123456789abcdef"));
    }
}
