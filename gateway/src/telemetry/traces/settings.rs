//! Where spans go and how, by the endpoint and OpenTelemetry's standard variables.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Spans that may wait, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise.
const QUEUE: usize = 8_192;
/// Spans of one batch, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says otherwise.
pub(super) const BATCH: usize = 512;
/// Longest wait for a batch to fill, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
const DELAY: Duration = Duration::from_secs(1);
/// Longest export with all its retries, unless `OTEL_BSP_EXPORT_TIMEOUT` says otherwise.
const EXPORT: Duration = Duration::from_secs(30);
/// Longest answer to one request, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const ANSWER: Duration = Duration::from_secs(10);

/// What endpoint and environment ask for.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) disabled: bool,
    /// HTTP with protobuf, else gRPC.
    pub(super) http: bool,
    /// Whether over TLS.
    pub(super) tls: bool,
    pub(super) endpoint: String,
    /// Authorities that may vouch for the collector; none: the public ones.
    pub(super) certificate: Option<PathBuf>,
    pub(super) queue: usize,
    pub(super) batch: usize,
    pub(super) delay: Duration,
    /// Longest export with all its retries.
    pub(super) timeout: Duration,
    /// Longest answer to one request.
    pub(super) answer: Duration,
    /// What requests say besides, as a rule a credential.
    pub(super) headers: HeaderMap,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with the endpoint or with a variable, in words for whoever set it.
    pub(super) fn of(
        endpoint: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name: &str| -> Option<u64> { variable(name)?.trim().parse().ok() };
        let size = |name: &str, otherwise: usize| {
            number(name)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=1 << 20).contains(n))
                .unwrap_or(otherwise)
        };
        let millis = |name: &str, otherwise: Duration| {
            number(name).filter(|n| *n > 0).map_or(otherwise, Duration::from_millis)
        };

        let uri: http::Uri =
            endpoint.parse().map_err(|error| format!("{endpoint:?} is not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => {
                return Err(format!("{endpoint:?} does not begin with http:// or https://"));
            }
        };
        // The one for traces counts more.
        let either = |of: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{of}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{of}")))
        };
        let named = either("PROTOCOL");
        let path = uri.path().trim_end_matches('/');
        let http = match named.as_deref().map(str::trim) {
            Some("grpc") => false,
            Some("http/protobuf") => true,
            None => path.ends_with("/v1/traces") || uri.port_u16() == Some(4318),
            Some(other) => {
                return Err(format!(
                    "OTEL_EXPORTER_OTLP_PROTOCOL={other:?} is not known here; \
                     known: grpc, http/protobuf"
                ));
            }
        };
        let mut endpoint = endpoint.trim_end_matches('/').to_owned();
        if http && !path.ends_with("/v1/traces") {
            endpoint.push_str("/v1/traces");
        }
        let queue = size("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE).max(2);
        Ok(Self {
            disabled: variable("OTEL_SDK_DISABLED")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            http,
            tls,
            endpoint,
            certificate: either("CERTIFICATE").filter(|_| tls).map(PathBuf::from),
            queue,
            batch: size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH).min(queue),
            delay: millis("OTEL_BSP_SCHEDULE_DELAY", DELAY),
            timeout: millis("OTEL_BSP_EXPORT_TIMEOUT", EXPORT),
            answer: either("TIMEOUT")
                .and_then(|text| text.trim().parse().ok())
                .filter(|n| *n > 0)
                .map_or(ANSWER, Duration::from_millis),
            headers: either("HEADERS").map(|text| headers(&text)).unwrap_or_default(),
        })
    }
}

/// Headers as the environment gives them: `name=value` with commas between, values percent-encoded.
/// What is none is left out.
fn headers(text: &str) -> HeaderMap {
    let pairs = text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let value = value.trim();
        let decoded = percent_decoded(value.as_bytes());
        let mut value = HeaderValue::from_bytes(decoded.as_deref().unwrap_or(value.as_bytes()))
            .ok()
            .filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some((name, value))
    });
    pairs.collect()
}

/// `text` without its percent-encoding; `None` if it is not encoded so.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = behind;
    }
    String::from_utf8(out).ok().map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_follows_endpoint_and_environment() {
        let of = |endpoint: &str, protocol: Option<&str>| {
            Settings::of(endpoint, &|name| match name {
                "OTEL_EXPORTER_OTLP_PROTOCOL" => protocol.map(str::to_owned),
                _ => None,
            })
            .map(|settings| (settings.http, settings.endpoint))
        };
        for (endpoint, protocol, http, expected) in [
            ("http://otel:4317", None, false, "http://otel:4317"),
            ("http://otel:4317/", None, false, "http://otel:4317"),
            ("http://otel:4318", None, true, "http://otel:4318/v1/traces"),
            ("http://otel/v1/traces", None, true, "http://otel/v1/traces"),
            ("http://otel:9/base", Some("http/protobuf"), true, "http://otel:9/base/v1/traces"),
            ("http://otel:4318", Some("grpc"), false, "http://otel:4318"),
            ("https://otel:4317", None, false, "https://otel:4317"),
            ("https://otel:4318", None, true, "https://otel:4318/v1/traces"),
        ] {
            assert_eq!(of(endpoint, protocol), Ok((http, expected.to_owned())), "{endpoint}");
        }
        assert!(of("otel:4317", None).is_err());
        assert!(of("http://otel:4317", Some("http/json")).unwrap_err().contains("known: grpc"));

        let variables = |name: &str| {
            let value = match name {
                "OTEL_SDK_DISABLED" => "TRUE",
                "OTEL_BSP_MAX_QUEUE_SIZE" => "100",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" => "700",
                "OTEL_BSP_SCHEDULE_DELAY" => "250",
                "OTEL_BSP_EXPORT_TIMEOUT" => "soon",
                "OTEL_EXPORTER_OTLP_TIMEOUT" => "2500",
                "OTEL_EXPORTER_OTLP_CERTIFICATE" => "/etc/ca.pem",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let settings = Settings::of("http://otel:4317", &variables).unwrap();
        assert_eq!(
            settings,
            Settings {
                disabled: true,
                http: false,
                tls: false,
                endpoint: "http://otel:4317".into(),
                certificate: None,
                queue: 100,
                batch: 100,
                delay: Duration::from_millis(250),
                timeout: EXPORT,
                answer: Duration::from_millis(2_500),
                headers: HeaderMap::new(),
            }
        );
        let settings = Settings::of("https://otel:4317", &variables).unwrap();
        assert_eq!((settings.tls, settings.certificate), (true, Some("/etc/ca.pem".into())));
    }

    #[test]
    fn headers_are_read_as_the_environment_writes_them_and_are_not_shown() {
        let told = |text: &str| -> Vec<(String, String)> {
            let headers = headers(text);
            let pairs = headers.iter();
            pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            told(" Api-Key = s3cr%65t%3D , x-a=b=c,, none, =v, empty= , bad name=v"),
            [pair("api-key", "s3cret="), pair("x-a", "b=c")]
        );
        // What is not encoded stays as it is.
        assert_eq!(
            told("a=100%,b=%zz,c=%ff"),
            [pair("a", "100%"), pair("b", "%zz"), pair("c", "%ff")]
        );
        assert!(!format!("{:?}", headers("api-key=s3cret")).contains("s3cret"));
        let of = |named: &'static str| {
            let variable = |name: &str| (name == named).then(|| "a=b".to_owned());
            Settings::of("http://otel:4317", &variable).unwrap().headers.len()
        };
        assert_eq!(of("OTEL_EXPORTER_OTLP_HEADERS"), 1);
        assert_eq!(of("OTEL_EXPORTER_OTLP_TRACES_HEADERS"), 1);
    }
}
