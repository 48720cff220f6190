//! Which fields a head has, found in one pass over its names, so that what is absent is not looked up.

use http::HeaderMap;

use super::{
    SEEN_CONNECTION, SEEN_OTHER, SEEN_TE, SEEN_UPGRADE, has_underscore, hop_by_hop, starts_as_ours,
};

/// A set of fields, or of kinds of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u32);

impl Seen {
    /// None.
    pub const NONE: Self = Self(0);
    /// What belongs to one connection: [`super::strip_hop_by_hop`] has something to do.
    pub const HOP_BY_HOP: Self =
        Self((SEEN_CONNECTION | SEEN_TE | SEEN_UPGRADE | SEEN_OTHER) as u32);
    /// `Connection`.
    pub const CONNECTION: Self = Self(SEEN_CONNECTION as u32);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(SEEN_UPGRADE as u32);
    /// What only the gateway, or a peer that is believed, may say: [`super::scrub_client`] has
    /// something to do. In an answer too.
    pub const OURS: Self = Self(1 << 8);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 9);
    /// `x-request-id`.
    pub const REQUEST_ID: Self = Self(1 << 10);
    /// `traceparent`.
    pub const TRACEPARENT: Self = Self(1 << 11);
    /// `tracestate`.
    pub const TRACESTATE: Self = Self(1 << 12);
    /// `baggage`.
    pub const BAGGAGE: Self = Self(1 << 13);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 14);
    /// `User-Agent`.
    pub const USER_AGENT: Self = Self(1 << 15);
    /// `Content-Type`.
    pub const CONTENT_TYPE: Self = Self(1 << 16);
    /// `Cookie`.
    pub const COOKIE: Self = Self(1 << 17);
    /// `Alt-Svc`.
    pub const ALT_SVC: Self = Self(1 << 18);
    /// `grpc-status`.
    pub const GRPC_STATUS: Self = Self(1 << 19);

    /// `Authorization`.
    pub const AUTHORIZATION: Self = Self(1 << 20);
    /// `x-api-key`.
    pub const X_API_KEY: Self = Self(1 << 21);
    /// `api-key`.
    pub const API_KEY: Self = Self(1 << 22);
    /// Every field that a credential may stand in.
    pub const CREDENTIALS: Self = Self::AUTHORIZATION.and(Self::X_API_KEY).and(Self::API_KEY);

    /// What is in `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |seen, name| seen.and(Self::name(name.as_str())))
    }

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of `any` is in it.
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// Those of `any` that are in it.
    pub const fn only(self, any: Self) -> Self {
        Self(self.0 & any.0)
    }

    #[inline]
    fn name(name: &str) -> Self {
        // By the first byte: most names are done with after one comparison.
        let own = match name.as_bytes().first() {
            Some(b'a') => match name {
                "alt-svc" => Self::ALT_SVC,
                "authorization" => Self::AUTHORIZATION,
                "api-key" => Self::API_KEY,
                _ => Self::NONE,
            },
            Some(b'b') if name == "baggage" => Self::BAGGAGE,
            Some(b'c') if name == "content-type" => Self::CONTENT_TYPE,
            Some(b'c') if name == "cookie" => Self::COOKIE,
            Some(b'e') if name == "expect" => Self::EXPECT,
            Some(b'g') if name == "grpc-status" => Self::GRPC_STATUS,
            Some(b't') => match name {
                "traceparent" => Self::TRACEPARENT,
                "tracestate" => Self::TRACESTATE,
                "transfer-encoding" => Self::TRANSFER_ENCODING,
                _ => Self::NONE,
            },
            Some(b'u') if name == "user-agent" => Self::USER_AGENT,
            Some(b'x') => match name {
                "x-request-id" => Self::REQUEST_ID,
                "x-api-key" => Self::X_API_KEY,
                _ if starts_as_ours(name, false) => Self::OURS,
                _ => Self::NONE,
            },
            Some(b'f' | b's') if starts_as_ours(name, false) => Self::OURS,
            Some(_) | None => Self::NONE,
        };
        if own != Self::NONE {
            return own;
        }
        let hop = Self(u32::from(hop_by_hop(name)));
        let ours = has_underscore(name) || name.starts_with('c') && starts_as_ours(name, false);
        hop.and(if ours { Self::OURS } else { Self::NONE })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn each_field_is_seen_and_nothing_else() {
        let fields = [
            ("expect", Seen::EXPECT),
            ("x-request-id", Seen::REQUEST_ID),
            ("traceparent", Seen::TRACEPARENT),
            ("tracestate", Seen::TRACESTATE),
            ("baggage", Seen::BAGGAGE),
            ("transfer-encoding", Seen::TRANSFER_ENCODING),
            ("user-agent", Seen::USER_AGENT),
            ("content-type", Seen::CONTENT_TYPE),
            ("cookie", Seen::COOKIE),
            ("alt-svc", Seen::ALT_SVC),
            ("grpc-status", Seen::GRPC_STATUS),
            ("authorization", Seen::AUTHORIZATION),
            ("x-api-key", Seen::X_API_KEY),
            ("api-key", Seen::API_KEY),
            ("client-cert-chain", Seen::OURS),
            ("ssl-client-dn", Seen::OURS),
            ("forwarded", Seen::OURS),
            ("x-real-ip", Seen::OURS),
            ("x-arr-clientcert", Seen::OURS),
            ("ends-with_", Seen::OURS),
            ("_", Seen::OURS),
            ("eight_or_more", Seen::OURS),
            ("te_", Seen::OURS),
            ("connection", Seen::CONNECTION),
            ("upgrade", Seen::UPGRADE),
            ("x-weir-variant", Seen::OURS),
            ("x-forwarded-for", Seen::OURS),
            ("some_name", Seen::OURS),
            ("keep-alive", Seen::HOP_BY_HOP),
            ("te", Seen::HOP_BY_HOP),
            ("proxy-authorization", Seen::HOP_BY_HOP),
            ("accept", Seen::NONE),
            ("content-length", Seen::NONE),
            ("x-stainless-package-version", Seen::NONE),
            ("x-user-id", Seen::NONE),
        ];
        let mut all = HeaderMap::new();
        for (name, kind) in fields {
            let mut one = HeaderMap::new();
            let name = HeaderName::from_static(name);
            one.insert(&name, HeaderValue::from_static("x"));
            all.append(&name, HeaderValue::from_static("x"));
            let seen = Seen::of(&one);
            assert_eq!(seen.has(kind), kind != Seen::NONE, "{name}");
            for (other, other_kind) in fields.iter().filter(|(_, other)| !kind.has(*other)) {
                assert!(!seen.has(*other_kind), "{name} and {other}");
            }
        }
        assert!(fields.iter().all(|(_, kind)| *kind == Seen::NONE || Seen::of(&all).has(*kind)));
    }
}
