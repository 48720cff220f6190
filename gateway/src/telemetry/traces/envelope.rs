//! What stands around the spans of a batch: an `ExportTraceServiceRequest` with one `ResourceSpans`
//! with one `ScopeSpans`.
//!
//! All of it but three lengths is worked out once. A batch's buffer begins with room for it, so that
//! nothing is moved when the lengths are known.

use bytes::Bytes;
use opentelemetry::Value;
use opentelemetry_sdk::Resource;

use super::SCHEMA_URL;
use super::wire::{part, put, put_number, tag, width};

/// A frame of gRPC: whether it is compressed, and its length.
const FRAME: usize = 5;

/// The envelope of one process.
#[derive(Debug)]
pub(super) struct Envelope {
    // `resource` of `ResourceSpans`, `scope` of `ScopeSpans`, `schema_url` of both: whole fields.
    resource: Vec<u8>,
    scope: Vec<u8>,
    schema: Vec<u8>,
    grpc: bool,
}

impl Envelope {
    /// For spans of `resource`; with a frame around it for gRPC.
    pub(super) fn new(resource: &Resource, grpc: bool) -> Self {
        let mut attributes = Vec::new();
        for (key, value) in resource {
            let mut pair = Vec::new();
            put(&mut pair, 1, key.as_str().as_bytes());
            put(&mut pair, 2, &any(value));
            put(&mut attributes, 1, &pair);
        }
        let mut scope = Vec::new();
        put(&mut scope, 1, b"weir");
        put(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let field = |number, bytes: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, number, bytes);
            out
        };
        Self {
            resource: field(1, &attributes),
            scope: field(1, &scope),
            schema: field(3, SCHEMA_URL.as_bytes()),
            grpc,
        }
    }

    /// Bytes that a batch's buffer is to begin with.
    pub(super) fn room(&self) -> usize {
        FRAME + self.resource.len() + self.scope.len() + 2 * (1 + width(u64::MAX))
    }

    /// Puts the envelope around the spans that stand in `buffer` behind the room for it.
    pub(super) fn close(&self, mut buffer: Vec<u8>) -> Bytes {
        let room = self.room();
        buffer.extend_from_slice(&self.schema);
        let of_scope = (self.scope.len() + buffer.len() - room) as u64;
        buffer.extend_from_slice(&self.schema);
        let around = 1 + width(of_scope);
        let of_resource =
            (self.resource.len() + around + self.scope.len() + buffer.len() - room) as u64;
        let mut head = Vec::with_capacity(room);
        head.push(part(1));
        put_number(&mut head, of_resource);
        head.extend_from_slice(&self.resource);
        head.push(part(2));
        put_number(&mut head, of_scope);
        head.extend_from_slice(&self.scope);
        if self.grpc {
            // Never beyond four bytes: the largest batch of the longest spans takes some hundred MiB.
            let length = u32::try_from(head.len() + buffer.len() - room).unwrap_or(u32::MAX);
            let mut frame = vec![0];
            frame.extend_from_slice(&length.to_be_bytes());
            head.splice(..0, frame);
        }
        let began = room - head.len();
        buffer[began..room].copy_from_slice(&head);
        Bytes::from(buffer).slice(began..)
    }
}

/// An `AnyValue`.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Bool(yes) => out.extend_from_slice(&[tag(2, 0), u8::from(*yes)]),
        Value::I64(number) => {
            out.push(tag(3, 0));
            put_number(&mut out, number.cast_unsigned());
        }
        Value::F64(number) => {
            out.push(tag(4, 1));
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::String(text) => put(&mut out, 1, text.as_str().as_bytes()),
        // No list can be set by the environment, and we set none.
        Value::Array(_) | _ => put(&mut out, 1, value.as_str().as_bytes()),
    }
    out
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Read;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, InstrumentationScope, KeyValue as Pair,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource as ReadResource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;

    #[test]
    fn a_batch_of_any_size_is_read_as_it_was_meant() {
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "weir"),
                KeyValue::new("process.pid", -7),
                KeyValue::new("yes", true),
                KeyValue::new("half", 0.5),
                KeyValue::new("long", "x".repeat(300)),
            ])
            .build();
        let read = |key: &str| match key {
            "process.pid" => Read::IntValue(-7),
            "yes" => Read::BoolValue(true),
            "half" => Read::DoubleValue(0.5),
            "long" => Read::StringValue("x".repeat(300)),
            _ => Read::StringValue("weir".into()),
        };
        let attributes = resource.iter().map(|(key, _)| Pair {
            key: key.to_string(),
            value: Some(AnyValue { value: Some(read(key.as_str())) }),
            key_strindex: 0,
        });
        let attributes: Vec<Pair> = attributes.collect();
        assert_eq!(attributes.len(), 5);
        for (count, grpc) in [(0, false), (1, false), (1, true), (512, true), (70_000, true)] {
            let span = Span { trace_id: vec![1; 16], name: "x".repeat(40), ..Span::default() };
            let envelope = Envelope::new(&resource, grpc);
            let mut buffer = vec![0; envelope.room()];
            (0..count).for_each(|_| put(&mut buffer, 2, &span.encode_to_vec()));
            let mut bytes = envelope.close(buffer);
            if grpc {
                let frame = bytes.split_to(FRAME);
                assert_eq!(frame[0], 0, "not compressed");
                assert_eq!(frame[1..], u32::try_from(bytes.len()).unwrap().to_be_bytes());
            }
            let expected = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: Some(ReadResource {
                        attributes: attributes.clone(),
                        ..ReadResource::default()
                    }),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(InstrumentationScope {
                            name: "weir".into(),
                            version: env!("CARGO_PKG_VERSION").into(),
                            ..InstrumentationScope::default()
                        }),
                        spans: vec![span; count],
                        schema_url: SCHEMA_URL.into(),
                    }],
                    schema_url: SCHEMA_URL.into(),
                }],
            };
            assert!(ExportTraceServiceRequest::decode(&*bytes).unwrap() == expected, "{count}");
            assert!(expected.encode_to_vec() == bytes, "as any other writer would write it");
        }
    }
}
