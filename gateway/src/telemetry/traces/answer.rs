//! What a collector's answer means: taken, to be sent again, or lost. As OTLP's specification has it.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, StatusCode};

use super::retry::Refused;

/// Of OTLP over HTTP.
///
/// # Errors
/// It was not taken.
pub(super) fn of_http(status: StatusCode, headers: &HeaderMap) -> Result<(), Refused> {
    if status.is_success() {
        return Ok(());
    }
    let why = format!("the collector answered {}", status.as_u16());
    let asked = || {
        let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    };
    let again = match status.as_u16() {
        429 | 503 => Some(asked().unwrap_or_default()),
        502 | 504 => Some(Duration::ZERO),
        _ => None,
    };
    Err(Refused { why, again })
}

/// Of OTLP over gRPC, whose status stands behind the answer, or in its head if there is nothing else.
///
/// # Errors
/// It was not taken.
pub(super) fn of_grpc(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
) -> Result<(), Refused> {
    let said = [trailers, Some(headers)]
        .into_iter()
        .flatten()
        .find_map(|fields| Some((fields.get("grpc-status")?.to_str().ok()?, fields)));
    let Some((code, fields)) = said else {
        let why = format!("the collector answered {} without a gRPC status", status.as_u16());
        let again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        return Err(if again { Refused::for_now(why) } else { Refused::for_good(why) });
    };
    let again = match code.trim() {
        "0" => return Ok(()),
        // RESOURCE_EXHAUSTED: only if it says when.
        "8" => asked(fields),
        // UNAVAILABLE.
        "14" => Some(asked(fields).unwrap_or_default()),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, DATA_LOSS.
        "1" | "4" | "10" | "11" | "15" => Some(Duration::ZERO),
        _ => None,
    };
    // A number, whatever was sent.
    let code: u32 = code.trim().parse().unwrap_or(2);
    Err(Refused { why: format!("the collector answered with gRPC status {code}"), again })
}

/// The wait that a gRPC status asks for: `RetryInfo` among the details of its `google.rpc.Status`.
fn asked(fields: &HeaderMap) -> Option<Duration> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let status = LENIENT.decode(fields.get("grpc-status-details-bin")?).ok()?;
    let info = Fields(&status).filter(|(field, _)| *field == 3).find_map(|(_, detail)| {
        let type_url = Fields(detail.bytes()).find(|(field, _)| *field == 1)?.1;
        let value = Fields(detail.bytes()).find(|(field, _)| *field == 2)?.1;
        type_url.bytes().ends_with(b"/google.rpc.RetryInfo").then_some(value)
    })?;
    let delay = Fields(info.bytes()).find(|(field, _)| *field == 1)?.1;
    let part = |number| {
        let found = Fields(delay.bytes()).find(|(field, _)| *field == number);
        found.map_or(0, |(_, value)| value.number())
    };
    let nanos = u32::try_from(part(2)).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    i64::try_from(part(1)).ok().map(|seconds| Duration::new(seconds.cast_unsigned(), nanos))
}

/// A value of a protobuf message.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }
}

/// The fields of a protobuf message. It ends where the message is none.
#[derive(Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(self.bytes(8)?),
            2 => {
                let length = self.number()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::wire::put;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn again(answer: Result<(), Refused>) -> Option<Duration> {
        answer.unwrap_err().again
    }

    #[test]
    fn http_says_by_its_status_whether_a_batch_may_come_again() {
        let of = |status: u16, pairs: &[_]| {
            of_http(StatusCode::from_u16(status).unwrap(), &fields(pairs))
        };
        assert_eq!(of(200, &[]), Ok(()));
        assert_eq!(of(202, &[]), Ok(()));
        for status in [400, 401, 404, 413, 500, 501] {
            assert_eq!(again(of(status, &[("retry-after", "1")])), None, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(again(of(status, &[])), Some(Duration::ZERO), "{status}");
        }
        assert_eq!(again(of(503, &[("retry-after", "7")])), Some(Duration::from_secs(7)));
        assert_eq!(of(404, &[]).unwrap_err().why, "the collector answered 404");
    }

    /// `google.rpc.Status` with `RetryInfo` of 2.5 s behind another detail.
    fn details(type_url: &str) -> String {
        let mut delay = vec![1 << 3, 2, 2 << 3];
        delay.extend_from_slice(&[0x80, 0xca, 0xb5, 0xee, 0x01]);
        let mut info = Vec::new();
        put(&mut info, 1, &delay);
        let mut detail = Vec::new();
        put(&mut detail, 1, type_url.as_bytes());
        put(&mut detail, 2, &info);
        let mut status = vec![1 << 3, 8];
        put(&mut status, 2, b"slower");
        put(&mut status, 3, b"\x0a\x01x\x12\x00");
        put(&mut status, 3, &detail);
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(status)
    }

    #[test]
    fn grpc_says_so_by_its_status_and_its_details() {
        let of = |pairs: &[_]| of_grpc(StatusCode::OK, &fields(&[]), Some(&fields(pairs)));
        assert_eq!(of(&[("grpc-status", "0")]), Ok(()));
        // Nothing but a head.
        let head = fields(&[("grpc-status", "16"), ("grpc-message", "key is s3cret")]);
        let refused = of_grpc(StatusCode::OK, &head, None).unwrap_err();
        assert_eq!(
            (&*refused.why, refused.again),
            ("the collector answered with gRPC status 16", None)
        );
        for code in ["2", "3", "5", "7", "8", "9", "12", "13", "16", "x"] {
            assert_eq!(again(of(&[("grpc-status", code)])), None, "{code}");
        }
        for code in ["1", "4", "10", "11", "14", "15"] {
            assert_eq!(again(of(&[("grpc-status", code)])), Some(Duration::ZERO), "{code}");
        }
        let retry = details("type.googleapis.com/google.rpc.RetryInfo");
        for code in ["8", "14"] {
            let answer = of(&[("grpc-status", code), ("grpc-status-details-bin", &retry)]);
            assert_eq!(again(answer), Some(Duration::from_millis(2_500)), "{code}");
        }
        let other = details("type.googleapis.com/google.rpc.Help");
        assert_eq!(again(of(&[("grpc-status", "8"), ("grpc-status-details-bin", &other)])), None);
        let torn = [("grpc-status", "8"), ("grpc-status-details-bin", &retry[..retry.len() - 8])];
        assert_eq!(again(of(&torn)), None);
        // A proxy in between.
        let of = |status| again(of_grpc(status, &fields(&[]), None));
        assert_eq!(of(StatusCode::BAD_GATEWAY), Some(Duration::ZERO));
        assert_eq!(of(StatusCode::NOT_FOUND), None);
        assert_eq!(of(StatusCode::OK), None);
    }
}
