//! The process that spans and metrics come from.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};

use super::SCHEMA_URL;
use crate::ids::hex;

/// Who sends: `service.*`, `host.name`, `process.pid`, `telemetry.sdk.*`, and what
/// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say, which count more. The instance is the boot
/// id of the store, whatever they say, so that spans and outcomes can be joined.
pub fn resource(boot: [u8; 16]) -> Resource {
    let mut builder = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "weir"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .with_detector(Box::new(TelemetryResourceDetector));
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        builder = builder.with_attribute(KeyValue::new("host.name", host.trim().to_owned()));
    }
    builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    if let Some(name) = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        builder = builder.with_service_name(name);
    }
    builder
        .with_attribute(KeyValue::new("service.instance.id", hex(&boot)))
        .with_schema_url([], SCHEMA_URL)
        .build()
}
