//! The document at `/api/v1/openapi.json`: OpenAPI 3.1, made of the table of operations and of the types
//! that handlers read and answer.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use policies::{Permission, Role};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::experiments::shown::Experiment;
use super::operations::{self, Operation};

pub mod answers;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| written().to_string());

/// `GET /openapi.json`.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// Errors of every operation.
#[derive(JsonSchema)]
#[schemars(rename = "Error")]
#[expect(dead_code, reason = "what the document says of errors")]
struct ErrorBody {
    error: ErrorSaid,
}

/// What went wrong.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what the document says of errors")]
struct ErrorSaid {
    /// A stable word, such as `stale_revision`.
    r#type: String,
    /// For a person.
    message: String,
    /// Id of the call.
    request_id: String,
    /// What a program may want to know.
    details: Vec<Value>,
}

/// An experiment after a change.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what the document says of changes")]
struct ChangedExperiment {
    #[schemars(flatten)]
    experiment: Experiment,
    /// How many of the 10,000 buckets changed hands.
    #[schemars(skip_serializing_if = "absent")]
    buckets_moved: u16,
    /// The revision that was taken back.
    #[schemars(skip_serializing_if = "absent")]
    undoes: Option<u64>,
    /// Whether it is stored. A stop may be in force without.
    stored: bool,
    /// What to know if it is not.
    #[schemars(skip_serializing_if = "absent")]
    warning: String,
    /// What whoever changes it should know.
    #[schemars(skip_serializing_if = "absent")]
    note: String,
}

/// What the document says of one operation.
pub(super) struct Told<'a> {
    answers: &'a mut SchemaGenerator,
    says: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

/// A schema of what is sent, whole in itself.
fn asked<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(members) = schema.as_object_mut() {
        members.shift_remove("title");
    }
    schema
}

impl Told<'_> {
    /// One line on what it does.
    pub(super) fn says(&mut self, says: &'static str) -> &mut Self {
        self.says = says;
        self
    }

    /// The query has the members of `T`.
    pub(super) fn query<T: JsonSchema>(&mut self) -> &mut Self {
        let schema = asked::<T>();
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let members = schema.get("properties").and_then(Value::as_object).cloned();
        for (name, mut member) in members.unwrap_or_default() {
            let described = member.as_object_mut().and_then(|m| m.shift_remove("description"));
            // A member of a query is there or not: null cannot be sent.
            without_null(&mut member);
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()),
                "schema": member,
            });
            if let Some(described) = described {
                parameter["description"] = described;
            }
            self.parameters.push(parameter);
        }
        self
    }

    fn takes(&mut self, schema: Value, required: bool) {
        let content = json!({ "application/json": { "schema": schema } });
        self.body = Some(json!({ "required": required, "content": content }));
    }

    /// The body is a `T`.
    pub(super) fn body<T: JsonSchema>(&mut self) -> &mut Self {
        self.takes(asked::<T>(), true);
        self
    }

    /// The body is a `T`, or empty.
    pub(super) fn optional_body<T: JsonSchema>(&mut self) -> &mut Self {
        self.takes(asked::<T>(), false);
        self
    }

    fn header(&mut self, name: &str, required: bool, schema: Value, says: &str) {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": required, "schema": schema,
            "description": says,
        }));
    }

    /// A repeat with the same `Idempotency-Key` is answered as before.
    pub(super) fn once(&mut self) -> &mut Self {
        let schema = json!({
            "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$",
        });
        let says = "A repeat with the same key, within ten minutes, is answered as before; the same key \
                    for another request is a 422.";
        self.header("Idempotency-Key", false, schema, says);
        self.fails(422, "This `Idempotency-Key` was used for another request")
    }

    /// It names the revision that was seen.
    pub(super) fn if_match(&mut self) -> &mut Self {
        let schema = json!({ "type": "string", "pattern": "^\"[0-9]{1,19}\"$" });
        self.header("If-Match", true, schema, "The `ETag` of the experiment that was seen.");
        self.fails(412, "Somebody was faster").fails(428, "Without `If-Match`").conflicts()
    }

    fn answers_with(&mut self, status: u16, says: &str, kind: &str, schema: Value) -> &mut Self {
        let response = self.responses.entry(status.to_string());
        let response = response.or_insert_with(|| json!({ "description": says, "content": {} }));
        response["content"][kind] = json!({ "schema": schema });
        self
    }

    /// It answers a `T`.
    pub(super) fn answers<T: JsonSchema>(&mut self, status: u16) -> &mut Self {
        let schema = self.answers.subschema_for::<T>().to_value();
        self.answers_with(status, "Done", "application/json", schema)
    }

    /// It answers JSON.
    pub(super) fn anything(&mut self, status: u16) -> &mut Self {
        self.answers_with(status, "Done", "application/json", json!({ "type": "object" }))
    }

    /// It answers the experiment as it is since the change.
    pub(super) fn changed(&mut self, status: u16) -> &mut Self {
        self.answers::<ChangedExperiment>(status).tagged().conflicts()
    }

    /// What it answers has the revision as `ETag`.
    pub(super) fn tagged(&mut self) -> &mut Self {
        for (status, response) in &mut self.responses {
            if status.starts_with('2') {
                response["headers"]["ETag"] = json!({
                    "description": "The revision, in quotes.", "schema": { "type": "string" },
                });
            }
        }
        self
    }

    /// It answers nothing.
    pub(super) fn nothing(&mut self, status: u16) -> &mut Self {
        self.responses.insert(status.to_string(), json!({ "description": "Done" }));
        self
    }

    /// It answers text.
    pub(super) fn text(&mut self, kind: &str) -> &mut Self {
        self.answers_with(200, "Done", kind, json!({ "type": "string" }))
    }

    /// It answers a page.
    pub(super) fn html(&mut self) {
        self.text("text/html");
    }

    /// It answers one of a few files.
    pub(super) fn file(&mut self) {
        for kind in ["text/javascript", "text/css", "image/svg+xml"] {
            self.text(kind);
        }
        self.nothing(304).fails(404, "There is no such file");
    }

    /// It answers events with these data.
    pub(super) fn events<T: JsonSchema>(&mut self) -> &mut Self {
        let _ = self.answers.subschema_for::<T>();
        self.text("text/event-stream");
        self.parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "required": false,
            "schema": { "type": "string", "pattern": "^[0-9]{1,12}$" },
            "description": "The last second that was seen: the stream goes on from there.",
        }));
        self
    }

    /// It says whether all is well.
    pub(super) fn health(&mut self) {
        for (status, says) in [(200, "All is well"), (503, "It is not")] {
            let schema = self.answers.subschema_for::<super::health::Checks>().to_value();
            self.answers_with(status, says, "application/json", schema);
            self.answers_with(status, says, "text/plain", json!({ "type": "string" }));
        }
    }

    fn fails(&mut self, status: u16, says: &str) -> &mut Self {
        let schema = self.answers.subschema_for::<ErrorBody>().to_value();
        self.answers_with(status, says, "application/json", schema)
    }

    /// It may clash with what there is.
    pub(super) fn conflicts(&mut self) -> &mut Self {
        self.fails(409, "It clashes with what there is")
    }
}

/// Takes null out of what may be sent.
fn without_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|each| each != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|each| each.get("type") != Some(&json!("null")));
        if let [one] = any.as_slice() {
            *schema = one.clone();
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
}

/// The whole document.
fn written() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut answers = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations::all() {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = one(operation, &mut answers);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": answers.take_definitions(true),
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-weir" },
            },
        },
    })
}

fn one(operation: &Operation, answers: &mut SchemaGenerator) -> Value {
    let mut told =
        Told { answers, says: "", parameters: Vec::new(), body: None, responses: Map::new() };
    (operation.told)(&mut told);
    for name in operation
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')))
    {
        told.parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": of_path(name),
        }));
        if operation.needs.is_some() {
            told.fails(404, "There is no such thing");
        }
    }
    let asks = told.body.is_some() || !told.parameters.is_empty();
    if asks && operation.path.starts_with("/api/") {
        told.fails(400, "What was sent is not understood");
    }
    if operation.needs.is_some() {
        told.fails(401, "No valid credential").fails(403, "The role does not allow it");
    }
    told.fails(421, "This listener is not served under this host");
    // The store is away, a list is full, and whatever nobody thought of.
    told.fails(503, "Try again later");
    let schema = told.answers.subschema_for::<ErrorBody>().to_value();
    let default = json!({
        "description": "Anything else", "content": { "application/json": { "schema": schema } },
    });
    told.responses.insert("default".into(), default);
    let Told { says, parameters, body, responses, .. } = told;
    let mut out = json!({
        "summary": says,
        "operationId": id(operation),
        "tags": [tag(operation.path)],
        "parameters": parameters,
        "responses": responses,
        "security": match operation.needs {
            Some(_) => json!([{ "key": [] }, { "session": [] }]),
            None => json!([]),
        },
    });
    if let Some(body) = body {
        out["requestBody"] = body;
    }
    if let Some(permission) = operation.needs {
        out["x-weir-permission"] = permission.as_str().into();
        out["x-weir-roles"] = roles(permission);
    }
    out
}

fn roles(permission: Permission) -> Value {
    let may = Role::ALL.into_iter().filter(|role| role.allows(permission));
    may.map(Role::as_str).collect()
}

/// What a part of a path may be.
fn of_path(name: &str) -> Value {
    match name {
        "hand" => json!({ "type": "string", "enum": ["pause", "resume", "abort", "promote"] }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// `get_experiments_experiment_ramp`.
fn id(operation: &Operation) -> String {
    let path = operation.path.replace("/api/v1", "");
    let words = path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty());
    let parts: Vec<String> =
        std::iter::once(operation.method.to_lowercase()).chain(words.map(str::to_owned)).collect();
    let prefix = if operation.path.starts_with("/api/") { "" } else { "root_" };
    format!("{prefix}{}", parts.join("_"))
}

fn tag(path: &str) -> &str {
    match path.strip_prefix("/api/v1/") {
        Some(rest) => rest.split('/').next().unwrap_or("other"),
        None if path.starts_with("/debug/") => "debug",
        None if path.ends_with('z') || matches!(path, "/version" | "/metrics" | "/status") => {
            "health"
        }
        None if path.ends_with("drain") => "service",
        None => "console",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_the_document_with_its_permission_and_roles() {
        let document = written();
        let paths = document["paths"].as_object().unwrap();
        let mut told = 0;
        for operation in operations::all() {
            let one = &paths[operation.path][operation.method.to_lowercase()];
            assert!(!one["summary"].as_str().unwrap().is_empty(), "{operation:?}");
            let permission = operation.needs.map(Permission::as_str);
            assert_eq!(one["x-weir-permission"].as_str(), permission, "{operation:?}");
            assert_eq!(one["security"] == json!([]), operation.needs.is_none(), "{operation:?}");
            assert!(one["responses"].as_object().unwrap().keys().any(|s| s.starts_with('2')));
            told += 1;
        }
        let all: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(told, all, "nothing is in it twice, or besides");
        let mut ids: Vec<String> = operations::all().map(id).collect();
        ids.sort();
        assert!(ids.windows(2).all(|two| two[0] != two[1]), "{ids:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = written();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn what_the_document_calls_one_outcome_has_every_column_of_an_export() {
        let document = written();
        let members = &document["components"]["schemas"]["Outcome"]["properties"];
        for column in super::super::export::COLUMNS {
            assert!(members.get(column).is_some(), "{column}");
        }
    }
}
