//! How a request ended, in the closed lists that metrics, logs, results and alerts share.

use std::fmt;

/// How an assigned request ended: the `outcome` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend answered and the client has all of it.
    Ok,
    /// The backend answered 4xx: what was asked was wrong, not who answered.
    ClientError,
    /// The backend answered 5xx, or could not be reached or understood.
    UpstreamError,
    /// The backend was too slow.
    Timeout,
    /// The backend broke off its answer.
    UpstreamReset,
    /// The client left before the end.
    ClientAborted,
    /// We failed: our own cap, a panic, a shutdown.
    GatewayError,
}

impl Outcome {
    /// Every outcome, in the order of [`Outcome::index`].
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::ClientError,
        Self::UpstreamError,
        Self::Timeout,
        Self::UpstreamReset,
        Self::ClientAborted,
        Self::GatewayError,
    ];

    /// The name in metrics, rows and results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::ClientAborted => "client_aborted",
            Self::GatewayError => "gateway_error",
        }
    }

    /// Its place in [`Outcome::ALL`], for arrays of counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it counts against the variant that served.
    ///
    /// A client's own mistake does not, nor its leaving, nor a fault of ours: none of them tells
    /// anything about the model, and our faults hit every variant alike.
    #[inline]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::UpstreamError | Self::Timeout | Self::UpstreamReset => true,
            Self::Ok | Self::ClientError | Self::ClientAborted | Self::GatewayError => false,
        }
    }

    /// The outcome of a backend's answer that arrived whole. A status outside 100 to 599 is an
    /// error of the backend.
    pub const fn of_status(status: u16) -> Self {
        match status {
            100..=399 => Self::Ok,
            400..=499 => Self::ClientError,
            _ => Self::UpstreamError,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an answer is not simply the backend's own: a flag that Envoy's runbooks know, and our
/// `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Flag {
    /// `-`: as the backend answered.
    #[default]
    None,
    /// `NR`: nothing matched.
    NoRoute,
    /// `UAEX`: no credential, or none that works.
    Unauthenticated,
    /// `UAEX`: a known caller that may not.
    Forbidden,
    /// `RL`: our limit.
    RateLimited,
    /// `IH`: header fields that we refuse.
    InvalidHeaders,
    /// `DPE`: a message that cannot be read.
    DownstreamProtocolError,
    /// `SI`: the client took too long to send.
    ClientIdleTimeout,
    /// `UH`: every endpoint is ejected or down.
    NoHealthyUpstream,
    /// `UF`: refused, unreachable, TLS.
    UpstreamConnectFailure,
    /// `DF`: no address ever.
    DnsFailure,
    /// `UO`: the backend's cap.
    UpstreamOverflow,
    /// `OM`: our cap; shedding.
    Overloaded,
    /// `UT`: the first byte came late.
    UpstreamTimeout,
    /// `UMSDR`: the whole request took too long.
    MaxDuration,
    /// `UC`: closed by the backend.
    UpstreamClosed,
    /// `UR`: reset by the backend.
    UpstreamReset,
    /// `UPE`: an answer that cannot be read.
    UpstreamProtocolError,
    /// `URX`: the budget or the count of retries is used up.
    RetriesExhausted,
    /// `DC`: the client left.
    ClientAborted,
    /// `LR`: we broke off (slow reader, end of drain).
    LocalReset,
}

impl Flag {
    /// Every flag, in the order of [`Flag::index`].
    pub const ALL: [Self; 21] = [
        Self::None,
        Self::NoRoute,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::RateLimited,
        Self::InvalidHeaders,
        Self::DownstreamProtocolError,
        Self::ClientIdleTimeout,
        Self::NoHealthyUpstream,
        Self::UpstreamConnectFailure,
        Self::DnsFailure,
        Self::UpstreamOverflow,
        Self::Overloaded,
        Self::UpstreamTimeout,
        Self::MaxDuration,
        Self::UpstreamClosed,
        Self::UpstreamReset,
        Self::UpstreamProtocolError,
        Self::RetriesExhausted,
        Self::ClientAborted,
        Self::LocalReset,
    ];

    /// Envoy's abbreviation: `flags` of the access log.
    pub const fn as_str(self) -> &'static str {
        self.names().0
    }

    /// `error.type`, also the `type` of an error body and `x-weir-error`; `None` for
    /// [`Flag::None`].
    pub const fn error_type(self) -> Option<&'static str> {
        if matches!(self, Self::None) { None } else { Some(self.names().1) }
    }

    /// Its place in [`Flag::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("-", ""),
            Self::NoRoute => ("NR", "no_route"),
            Self::Unauthenticated => ("UAEX", "unauthenticated"),
            Self::Forbidden => ("UAEX", "forbidden"),
            Self::RateLimited => ("RL", "rate_limited"),
            Self::InvalidHeaders => ("IH", "invalid_headers"),
            Self::DownstreamProtocolError => ("DPE", "downstream_protocol_error"),
            Self::ClientIdleTimeout => ("SI", "client_idle_timeout"),
            Self::NoHealthyUpstream => ("UH", "no_healthy_upstream"),
            Self::UpstreamConnectFailure => ("UF", "upstream_connect_failure"),
            Self::DnsFailure => ("DF", "dns_failure"),
            Self::UpstreamOverflow => ("UO", "upstream_overflow"),
            Self::Overloaded => ("OM", "overloaded"),
            Self::UpstreamTimeout => ("UT", "upstream_timeout"),
            Self::MaxDuration => ("UMSDR", "max_duration"),
            Self::UpstreamClosed => ("UC", "upstream_closed"),
            Self::UpstreamReset => ("UR", "upstream_reset"),
            Self::UpstreamProtocolError => ("UPE", "upstream_protocol_error"),
            Self::RetriesExhausted => ("URX", "retries_exhausted"),
            Self::ClientAborted => ("DC", "client_aborted"),
            Self::LocalReset => ("LR", "local_reset"),
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the gateway refused before anything was assigned: `reason` of `weir_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Not a request that can be read in only one way.
    Malformed,
    /// Too many or too large header fields, or a target that is too long.
    HeaderTooLarge,
    /// A body beyond the route's limit.
    BodyTooLarge,
    /// A head that took too long.
    HeaderTimeout,
    /// Nothing matched.
    NoRoute,
    /// No credential, or none that works.
    Unauthenticated,
    /// A known caller that may not.
    Forbidden,
    /// The caller's limit.
    RateLimited,
    /// A cap of the gateway or a backend.
    Overloaded,
    /// The gateway is leaving.
    Draining,
}

impl RejectReason {
    /// Every reason, in the order of [`RejectReason::index`].
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::HeaderTooLarge,
        Self::BodyTooLarge,
        Self::HeaderTimeout,
        Self::NoRoute,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::RateLimited,
        Self::Overloaded,
        Self::Draining,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeaderTooLarge => "header_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::NoRoute => "no_route",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }

    /// Its place in [`RejectReason::ALL`], for arrays of counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are API: alerts and dashboards are written against them.
    #[test]
    fn the_names_are_the_promised_ones() {
        assert_eq!(
            Outcome::ALL.map(Outcome::as_str),
            [
                "ok",
                "client_error",
                "upstream_error",
                "timeout",
                "upstream_reset",
                "client_aborted",
                "gateway_error"
            ]
        );
        assert_eq!(
            RejectReason::ALL.map(RejectReason::as_str),
            [
                "malformed",
                "header_too_large",
                "body_too_large",
                "header_timeout",
                "no_route",
                "unauthenticated",
                "forbidden",
                "rate_limited",
                "overloaded",
                "draining"
            ]
        );
        let table = "- NR:no_route UAEX:unauthenticated UAEX:forbidden RL:rate_limited \
             IH:invalid_headers DPE:downstream_protocol_error SI:client_idle_timeout \
             UH:no_healthy_upstream UF:upstream_connect_failure DF:dns_failure \
             UO:upstream_overflow OM:overloaded UT:upstream_timeout UMSDR:max_duration \
             UC:upstream_closed UR:upstream_reset UPE:upstream_protocol_error \
             URX:retries_exhausted DC:client_aborted LR:local_reset";
        let flags = Flag::ALL.map(|flag| match flag.error_type() {
            Some(error_type) => format!("{flag}:{error_type}"),
            None => flag.to_string(),
        });
        assert_eq!(flags.join(" "), table);
    }

    #[test]
    fn every_index_is_its_place_in_all() {
        assert!(Outcome::ALL.iter().enumerate().all(|(at, each)| each.index() == at));
        assert!(RejectReason::ALL.iter().enumerate().all(|(at, each)| each.index() == at));
        assert!(Flag::ALL.iter().enumerate().all(|(at, each)| each.index() == at));
    }

    #[test]
    fn only_what_the_backend_did_wrong_counts_as_failure() {
        let failures: Vec<_> = Outcome::ALL.into_iter().filter(|each| each.is_failure()).collect();
        assert_eq!(failures, [Outcome::UpstreamError, Outcome::Timeout, Outcome::UpstreamReset]);
    }

    #[test]
    fn a_status_has_one_outcome() {
        for (status, outcome) in [
            (101, Outcome::Ok),
            (200, Outcome::Ok),
            (304, Outcome::Ok),
            (399, Outcome::Ok),
            (400, Outcome::ClientError),
            (429, Outcome::ClientError),
            (499, Outcome::ClientError),
            (500, Outcome::UpstreamError),
            (599, Outcome::UpstreamError),
            (0, Outcome::UpstreamError),
            (99, Outcome::UpstreamError),
            (600, Outcome::UpstreamError),
            (999, Outcome::UpstreamError),
        ] {
            assert_eq!(Outcome::of_status(status), outcome, "{status}");
        }
    }
}
