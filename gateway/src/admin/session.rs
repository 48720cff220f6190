//! Signing in to the console: an admin key is exchanged once for a cookie that no script can read.
//!
//! A session is worth as much as its key, and as long: every call asks the keys in force again, so one
//! that is revoked or expires takes its sessions along. Sessions live in this process only; a restart
//! signs everybody out. Calls that change something must also come from a page of this origin and carry
//! a token that only such a page can have read (hardening T22).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use policies::api_key::{Fingerprint, Secret, credential_of};
use policies::{Caller, Grants, Permission};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::Context;
use super::access;
use super::error::ApiError;
use super::extract::Body;
use crate::clock;

/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(8 * 3_600);
/// Most sessions of one key; the oldest gives way.
const MOST_OF_A_KEY: usize = 32;
/// Most sessions altogether; the oldest gives way.
const MOST: usize = 1_024;
/// The cookie. Browsers keep it only if it is `Secure`, for this host alone and for every path.
const COOKIE: &str = "__Host-weir";
/// The cookie on plain loopback of a browser that keeps no `Secure` one there.
const PLAIN_COOKIE: &str = "weir-on-loopback";
/// The field that carries the token of calls that change something.
const TOKEN_FIELD: &str = "x-weir-session-token";

/// One signed-in browser.
#[derive(Clone, Debug)]
struct Session {
    key: Fingerprint,
    /// What its page must send along with changes.
    token: String,
    begun: Instant,
    begun_unix: i64,
}

/// Everybody who is signed in, by hash of the cookie.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

/// The session that a call came with.
#[derive(Clone, Debug)]
pub struct InSession {
    token: String,
    ends_unix: i64,
}

impl Sessions {
    fn begin(&self, key: Fingerprint) -> Result<(String, InSession), ApiError> {
        let (cookie, token) = (random()?, random()?);
        let session =
            Session { key, token, begun: clock::now(), begun_unix: clock::unix_seconds() };
        let told = session.told();
        let mut all = self.0.lock();
        all.retain(|_, session| session.begun.elapsed() < LASTS);
        let key = session.key.clone();
        make_room(&mut all, MOST_OF_A_KEY, |session| session.key.is(&key));
        make_room(&mut all, MOST, |_| true);
        all.insert(hash(&cookie), session);
        Ok((cookie, told))
    }

    fn end(&self, cookie: &str) {
        self.0.lock().remove(&hash(cookie));
    }

    fn find(&self, cookie: &str) -> Option<Session> {
        let found = self.0.lock().get(&hash(cookie)).cloned();
        found.filter(|session| session.begun.elapsed() < LASTS)
    }
}

impl Session {
    fn told(&self) -> InSession {
        let lasts = i64::try_from(LASTS.as_secs()).unwrap_or(0);
        InSession { token: self.token.clone(), ends_unix: self.begun_unix.saturating_add(lasts) }
    }
}

/// Lets the oldest go until one more fits among those that are `counted`.
fn make_room(
    all: &mut HashMap<[u8; 32], Session>,
    most: usize,
    counted: impl Fn(&Session) -> bool,
) {
    while all.values().filter(|session| counted(session)).count() >= most {
        let oldest = all
            .iter()
            .filter(|(_, session)| counted(session))
            .min_by_key(|(_, session)| session.begun)
            .map(|(hash, _)| *hash);
        let Some(oldest) = oldest else { return };
        all.remove(&oldest);
    }
}

/// 256 bits that nobody can guess.
fn random() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    crate::ids::random(&mut bytes).map_err(|_| {
        let said = "the system has no random numbers";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_random_numbers", said)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Looked up instead of compared, so that no comparison depends on a secret.
fn hash(cookie: &str) -> [u8; 32] {
    blake3::hash(cookie.as_bytes()).into()
}

/// The cookies of a call that could be a session's.
fn cookies(headers: &HeaderMap, plain: bool) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(name, _)| *name == COOKIE || (plain && *name == PLAIN_COOKIE))
        .map(|(_, value)| value)
}

/// Who the session of a call is, if its key still works.
pub fn caller(context: &Context, headers: &HeaderMap) -> Option<(Caller, InSession)> {
    let plain = !context.is_tls();
    let session = cookies(headers, plain).find_map(|cookie| context.sessions.find(cookie))?;
    let snapshot = context.shared.current.load();
    let entry = snapshot.keys.find_again(&session.key, clock::unix_seconds()).ok()?;
    Some((entry.caller(), session.told()))
}

/// Whether a change that came with a session was asked for by the console.
///
/// # Errors
/// 403 if it comes from a page of another origin, or without the session's token.
pub fn check_change(
    context: &Context,
    session: &InSession,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    check_origin(context, headers)?;
    let token = headers.get(TOKEN_FIELD).map_or(&b""[..], HeaderValue::as_bytes);
    if bool::from(token.ct_eq(session.token.as_bytes())) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "a change made with a session needs its token in `{TOKEN_FIELD}`; `GET /api/v1/session` says it"
    )))
}

/// A page of another origin may not change anything here, nor sign anybody in.
fn check_origin(context: &Context, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    // In front of a listener on loopback a proxy may speak TLS.
    let schemes: &[&str] = if context.is_tls() { &["https://"] } else { &["http://", "https://"] };
    let is_own = text(header::ORIGIN)
        .and_then(|origin| schemes.iter().find_map(|scheme| origin.strip_prefix(scheme)))
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host) && !host.is_empty());
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if is_own && site.is_none_or(|site| site == b"same-origin") {
        return Ok(());
    }
    Err(ApiError::forbidden("this call does not come from a page of this origin"))
}

/// Who signs in.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// An admin key.
    key: String,
    /// The browser keeps no `Secure` cookie on plain loopback.
    #[serde(default)]
    plain_cookie: bool,
}

/// `POST /session`: signs in. Each sign-in is a new session; the one it came with is over.
pub async fn sign_in(
    State(context): State<Context>,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    check_origin(&context, &headers)?;
    let SignIn { key, plain_cookie } = super::experiments::body(&bytes, None)?;
    let key = Secret::new(key);
    let presented = key.expose().trim();
    if plain_cookie && context.is_tls() {
        return Err(ApiError::invalid("`plain_cookie` is for an admin listener without TLS"));
    }
    let snapshot = context.shared.current.load_full();
    let entry = snapshot.keys.find(presented, clock::unix_seconds()).map_err(|_| {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "this key is not known here, was revoked, or has expired",
        )
    })?;
    if !entry.role.allows(Permission::Read) {
        return Err(ApiError::forbidden(format!(
            "a key of role {} calls models; the console needs viewer or above",
            entry.role
        )));
    }
    for cookie in cookies(&headers, true) {
        context.sessions.end(cookie);
    }
    let (cookie, session) = context.sessions.begin(snapshot.keys.fingerprint(presented))?;
    let said = said(&entry.caller(), Some(&session));
    let mut response = Json(said).into_response();
    set_cookie(&mut response, &cookie, plain_cookie, LASTS);
    Ok(response)
}

/// `DELETE /session`: signs out. A call without a session has nothing to end.
pub async fn sign_out(State(context): State<Context>, headers: HeaderMap) -> Response {
    for cookie in cookies(&headers, true) {
        context.sessions.end(cookie);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", false, Duration::ZERO);
    if !context.is_tls() {
        set_cookie(&mut response, "", true, Duration::ZERO);
    }
    response
}

fn set_cookie(response: &mut Response, value: &str, plain: bool, lasts: Duration) {
    let (name, secure) = if plain { (PLAIN_COOKIE, "") } else { (COOKIE, "; Secure") };
    let seconds = lasts.as_secs();
    let text =
        format!("{name}={value}; Path=/; Max-Age={seconds}{secure}; HttpOnly; SameSite=Strict");
    if let Ok(text) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, text);
    }
}

/// `GET /session`: who the caller is and what it may do; with a session, its token too. To whoever has no
/// credential it says just that: the console asks before anybody has signed in.
///
/// # Errors
/// 401 for a key that does not work.
pub async fn show(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    match access::authenticate(&context, &headers) {
        Ok((caller, session)) => Ok(Json(said(&caller, session.as_ref()))),
        Err(_) if matches!(credential_of(&headers), Ok(None)) => Ok(Json(nobody())),
        Err(error) => Err(error),
    }
}

fn nobody() -> Value {
    json!({
        "key": null, "role": null, "routes": [], "permissions": [], "may_grant": [], "session": null,
    })
}

fn said(caller: &Caller, session: Option<&InSession>) -> Value {
    let may = Permission::ALL.into_iter().filter(|each| caller.role.allows(*each));
    let grantable = policies::Role::ALL.into_iter().filter(|role| caller.role.may_grant(*role));
    let routes = match &caller.grants {
        Grants::All => Value::Null,
        Grants::Only(routes) => routes.iter().map(ToString::to_string).collect(),
    };
    json!({
        "key": { "id": &*caller.key_id, "name": &*caller.name },
        "role": caller.role.as_str(),
        "routes": routes,
        "permissions": may.map(Permission::as_str).collect::<Vec<_>>(),
        "may_grant": grantable.map(policies::Role::as_str).collect::<Vec<_>>(),
        "session": session.map(|session| json!({
            "token": session.token,
            "ends_at": clock::rfc3339_micros(session.ends_unix.saturating_mul(1_000_000)),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> policies::api_key::KeyRing {
        policies::api_key::KeyRing::new([0; 32], [], [])
    }

    #[test]
    fn the_oldest_session_of_a_key_gives_way_and_others_stay() {
        let sessions = Sessions::default();
        let (of_a, of_b) = (ring().fingerprint("a"), ring().fingerprint("b"));
        let (of_other, _) = sessions.begin(of_b).unwrap();
        let cookies: Vec<String> =
            (0..=MOST_OF_A_KEY).map(|_| sessions.begin(of_a.clone()).unwrap().0).collect();
        assert!(sessions.find(&cookies[0]).is_none());
        assert!(cookies[1..].iter().all(|cookie| sessions.find(cookie).is_some()));
        assert!(sessions.find(&of_other).is_some());
    }

    #[test]
    fn there_are_never_more_sessions_than_there_is_room_for() {
        let sessions = Sessions::default();
        for key in 0..MOST + 10 {
            sessions.begin(ring().fingerprint(&key.to_string())).unwrap();
        }
        assert_eq!(sessions.0.lock().len(), MOST);
    }

    #[test]
    fn a_cookie_is_found_among_others_and_the_plain_one_only_where_it_counts() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; __Host-weir=one".parse().unwrap());
        headers.append(header::COOKIE, "weir-on-loopback=two".parse().unwrap());
        assert_eq!(cookies(&headers, false).collect::<Vec<_>>(), ["one"]);
        assert_eq!(cookies(&headers, true).collect::<Vec<_>>(), ["one", "two"]);
    }
}
