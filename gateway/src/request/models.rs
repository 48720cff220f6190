//! `GET /v1/models` where no route has that path: the model names that this key may ask for.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use policies::Permission;
use policies::api_key::KeyEntry;

use crate::request::read_head::Head;
use crate::request::{Answer, Cx, Rejection, authenticate};

/// The list, in OpenAI's shape.
///
/// # Errors
/// 403 for a key that may not call models at all.
pub fn list(cx: &Cx, _head: &Head, caller: &KeyEntry) -> Result<Answer, Rejection> {
    if !caller.role.allows(Permission::Call) {
        authenticate::count_denied(cx);
        return Err(Rejection::Forbidden("call models"));
    }
    let mut names: Vec<&str> = cx
        .snapshot
        .table
        .iter()
        .filter(|(_, place)| caller.grants.allows(cx.snapshot.routes[**place].name))
        .filter_map(|(rule, _)| rule.model.as_deref())
        .collect();
    names.sort_unstable();
    names.dedup();
    let data: Vec<serde_json::Value> = names
        .iter()
        .map(
            |id| serde_json::json!({"id": id, "object": "model", "created": 0, "owned_by": "weir"}),
        )
        .collect();
    let body = serde_json::json!({"object": "list", "data": data}).to_string();
    let mut response = Response::new(Bytes::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Answer::Own(response))
}
