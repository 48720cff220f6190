//! Which requests are copied aside. What is taken off a copy stands in
//! [`headers::strip_for_shadow`](crate::headers::strip_for_shadow).

use http::HeaderMap;

use crate::headers::X_WEIR_SHADOW;

/// Whether a request is copied.
///
/// * `share`: of requests that are copied, a fraction in `0.0..=1.0`; 0 copies none and 1 all,
///   exactly. NaN copies none.
/// * `draw`: uniform over all of `u64`, and drawn for this alone: a draw shared with the split
///   would copy one variant more often than another.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a share below 1 times 2^64 fits into a u64")]
pub fn copies(share: f64, draw: u64) -> bool {
    const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
    if share >= 1.0 {
        return true;
    }
    // Scaling by a power of two is exact; the cast drops less than one draw in 2^64, and sends
    // negative shares and NaN to 0.
    draw < (share * TWO_TO_64) as u64
}

/// Whether a request is a copy itself, made by another Weir in front of this one: it is not copied
/// again (T26). Meaningful only after
/// [`headers::scrub_client`](crate::headers::scrub_client), which keeps the mark from trusted peers
/// alone.
pub fn is_copy(headers: &HeaderMap) -> bool {
    headers.contains_key(&X_WEIR_SHADOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_nothing_and_all_is_all() {
        for draw in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(copies(1.0, draw) && copies(1.5, draw));
            for none in [0.0, -0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
                assert!(!copies(none, draw), "{none}");
            }
        }
        assert!(!copies(1.0 - f64::EPSILON, u64::MAX));
    }

    #[test]
    fn half_is_half_to_the_last_draw() {
        assert!(copies(0.5, (1 << 63) - 1) && !copies(0.5, 1 << 63));
        assert!(copies(0.25, (1 << 62) - 1) && !copies(0.25, 1 << 62));
    }

    #[test]
    fn a_mark_is_seen() {
        let mut headers = HeaderMap::new();
        assert!(!is_copy(&headers));
        headers.insert(X_WEIR_SHADOW, http::HeaderValue::from_static("1"));
        assert!(is_copy(&headers));
    }

    proptest! {
        #[test]
        fn a_larger_share_copies_all_that_a_smaller_one_does(
            share in 0.0..=1.0_f64, more in 0.0..=1.0_f64, draw: u64,
        ) {
            prop_assert!(!copies(share.min(more), draw) || copies(share.max(more), draw));
        }
    }
}
