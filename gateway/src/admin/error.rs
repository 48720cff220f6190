//! Errors of the admin API: `{"error":{"type","message","request_id","details"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::change::ChangeError;
use crate::clock;
use crate::ids::RequestId;
use crate::store::StoreError;

/// What went wrong with one call.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    details: Vec<Value>,
}

impl ApiError {
    /// An error with a status, a stable type and words for a person.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), details: Vec::new() }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 404.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 401.
    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "no valid credential; send `Authorization: Bearer KEY`",
        )
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Adds what a program may want to know.
    pub fn with(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Missing(_) => Self::missing(message),
            ChangeError::OwnedByFile(_) | ChangeError::DeclaredInFile(_) => {
                Self::new(StatusCode::CONFLICT, "owned_by_file", message)
            }
            ChangeError::Stale { seen, current, by } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "stale_revision", message)
                    .with(json!({ "seen": seen, "current": current, "changed_by": by }))
            }
            ChangeError::Invalid(_) => Self::invalid(message),
            ChangeError::LastAdmin(_) => Self::new(StatusCode::CONFLICT, "last_admin", message),
            ChangeError::Exists(_) => Self::new(StatusCode::CONFLICT, "exists", message),
            ChangeError::Ended(_) => Self::new(StatusCode::CONFLICT, "ended", message),
            ChangeError::Problems(problems) => {
                let details = problems.list.into_iter();
                let details =
                    details.map(|problem| json!({ "what": problem.what, "mend": problem.mend }));
                Self { details: details.collect(), ..Self::invalid(message) }
            }
            ChangeError::Forbidden(_) => Self::forbidden(message),
            ChangeError::Store(error) => Self::from(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(_) => Self::missing(error.to_string()),
            StoreError::Exists(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", format!("{error}; try again"))
            }
            StoreError::Unavailable(_) | StoreError::Damaged(_) | StoreError::Newer { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string())
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let id = RequestId::new(clock::unix_nanos(), fastrand::u64(..));
        let body = json!({
            "error": {
                "type": self.kind,
                "message": self.message,
                "request_id": id.to_string(),
                "details": self.details,
            }
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// No such path.
pub async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::missing(format!("there is nothing at {}", uri.path()))
}

/// No such method on this path.
pub async fn no_such_method(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} does not take this method", uri.path()),
    )
}
