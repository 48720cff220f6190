//! Keys: made, revoked, and as the ring of the snapshot knows them.

use std::sync::Arc;

use policies::api_key::{self, KeyEntry};
use policies::{Grants, KeyLimits, Role};
use serde_json::Value;

use super::{ChangeError, Changes, Held};
use crate::clock;
use crate::ids;
use crate::live::Actor;
use crate::news::{Kind, News};
use crate::store::{AuditRow, KeyRow, StoreError};

impl Changes {
    /// Keys as stored, without secrets.
    pub async fn keys(&self) -> Vec<KeyRow> {
        self.state.lock().await.keys.clone()
    }

    /// Adds a key. Its secret is given back once and never kept.
    ///
    /// # Errors
    /// [`ChangeError`]; then there is no key.
    pub async fn add_key(
        &self,
        mut row: KeyRow,
        secret: Option<&str>,
        actor: &Actor,
    ) -> Result<(KeyRow, String), ChangeError> {
        let mut random = [0; 40];
        ids::random(&mut random)
            .map_err(|error| StoreError::Unavailable(format!("no random numbers: {error}")))?;
        let made = api_key::make(&random);
        let secret = secret.map_or_else(|| made.secret.expose().to_owned(), str::to_owned);
        row.id = made.id;
        row.hash = api_key::stored_hash(&self.installation.pepper, &secret);
        row.created_at = clock::unix_seconds();
        row.created_by.clone_from(&actor.name);
        let mut state = self.state.lock().await;
        if let Some(routes) = &row.routes
            && let Some(unknown) = routes
                .iter()
                .find(|route| !state.plan.routes.iter().any(|known| *known.name == ***route))
        {
            return Err(ChangeError::Invalid(format!("route {unknown:?} is not defined")));
        }
        let audit = AuditRow {
            at: clock::unix_micros(),
            key_id: actor.key_id.clone(),
            actor: actor.name.clone(),
            from: actor.from.clone(),
            action: "key.create".into(),
            target: format!("key/{}", row.id),
            reason: None,
            before: Value::Null,
            after: serde_json::to_value(&row).unwrap_or_default(),
            request_id: actor.request_id.clone(),
        };
        let stored = row.clone();
        self.store.call(move |store| store.add_key(&stored, &audit)).await?;
        state.keys.push(row.clone());
        self.put_in_force(&mut state);
        let words = format!("key {} of role {} was made", row.name, row.role);
        self.shared.news.tell(News::now(Kind::Key, "key.create", &actor.name, words));
        Ok((row, secret))
    }

    /// Revokes a key: effective with the next request.
    ///
    /// # Errors
    /// [`ChangeError`]; then the key works on.
    pub async fn revoke_key(
        &self,
        id: &str,
        may: impl Fn(Role, &Grants) -> bool,
        actor: &Actor,
    ) -> Result<KeyRow, ChangeError> {
        let mut state = self.state.lock().await;
        let Some(place) = state.keys.iter().position(|key| key.id == id) else {
            if state.plan.declared_keys.iter().any(|key| *key.name == *id) {
                return Err(ChangeError::DeclaredInFile(id.to_owned()));
            }
            return Err(ChangeError::Missing(format!("key {id:?} does not exist")));
        };
        let before = state.keys[place].clone();
        let routes = grants(before.routes.as_ref().map(|r| r.iter().map(|name| &**name).collect()));
        if !before.role.parse().is_ok_and(|role| may(role, &routes)) {
            return Err(ChangeError::Forbidden(format!(
                "this credential may not revoke a key of role {} for these routes",
                before.role
            )));
        }
        if before.revoked_at.is_some() {
            return Ok(before);
        }
        let at = clock::unix_seconds();
        if before.role == Role::Admin.as_str() && !state.has_another_admin(id, at) {
            return Err(ChangeError::LastAdmin(before.name));
        }
        let after = KeyRow { revoked_at: Some(at), ..before.clone() };
        let audit = AuditRow {
            at: clock::unix_micros(),
            key_id: actor.key_id.clone(),
            actor: actor.name.clone(),
            from: actor.from.clone(),
            action: "key.revoke".into(),
            target: format!("key/{id}"),
            reason: None,
            before: serde_json::to_value(&before).unwrap_or_default(),
            after: serde_json::to_value(&after).unwrap_or_default(),
            request_id: actor.request_id.clone(),
        };
        let id = id.to_owned();
        self.store.call(move |store| store.revoke_key(&id, at, &audit)).await?;
        state.keys[place] = after.clone();
        self.put_in_force(&mut state);
        let words = format!("key {} of role {} was revoked", after.name, after.role);
        self.shared.news.tell(News::now(Kind::Key, "key.revoke", &actor.name, words));
        Ok(after)
    }
}

impl Held {
    /// Whether anybody could still make keys of every role if `id` were gone.
    fn has_another_admin(&self, id: &str, now: i64) -> bool {
        let works = |key: &KeyRow| {
            key.role == Role::Admin.as_str()
                && key.id != id
                && key.revoked_at.is_none()
                && key.expires_at.is_none_or(|end| end > now)
        };
        self.keys.iter().any(works)
            || self.plan.declared_keys.iter().any(|key| key.role == Role::Admin)
    }
}

pub(super) fn grants(routes: Option<Vec<&str>>) -> Grants {
    routes.map_or(Grants::All, |routes| Grants::Only(routes.into_iter().map(Arc::from).collect()))
}

/// A stored key as the ring knows it; `None` if its role is not one of this version's.
pub(super) fn entry(row: &KeyRow) -> Option<KeyEntry> {
    Some(KeyEntry {
        id: Arc::from(&*row.id),
        name: Arc::from(&*row.name),
        role: row.role.parse().ok()?,
        grants: grants(row.routes.as_ref().map(|r| r.iter().map(|name| &**name).collect())),
        expires_at_unix: row.expires_at,
        revoked: row.revoked_at.is_some(),
        limits: KeyLimits {
            requests_per_second: row.requests_per_second,
            concurrent: row.concurrent,
            tokens_per_minute: row.tokens_per_minute,
        },
    })
}
