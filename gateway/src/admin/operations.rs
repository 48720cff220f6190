//! Every operation of the admin listener: who may do it, who answers it, and what the document says of it.
//!
//! One table. The router is made of it, `access` asks it for permissions, `openapi` writes it down; a path
//! that is not here does not exist (hardening T19).

use axum::Router;
use axum::routing::{MethodRouter, get};
use policies::Permission;

use super::openapi::Told;
use super::{Context, console};

mod root;
mod api;

/// One operation.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Method.
    pub method: &'static str,
    /// Path, as axum has it.
    pub path: &'static str,
    /// What it needs; `None`: no credential.
    pub needs: Option<Permission>,
    route: fn() -> MethodRouter<Context>,
    pub(super) told: fn(&mut Told<'_>),
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

const fn op(
    method: &'static str,
    path: &'static str,
    needs: Option<Permission>,
    route: fn() -> MethodRouter<Context>,
    told: fn(&mut Told<'_>),
) -> Operation {
    Operation { method, path, needs, route, told }
}

const OPEN: Option<Permission> = None;
const READ: Option<Permission> = Some(Permission::Read);
const EDIT: Option<Permission> = Some(Permission::EditExperiment);
const RAMP: Option<Permission> = Some(Permission::ControlRamp);
const KEYS: Option<Permission> = Some(Permission::ManageKeys);
const AUDIT: Option<Permission> = Some(Permission::ReadAudit);
const DRAIN: Option<Permission> = Some(Permission::Drain);
const LOG_LEVEL: Option<Permission> = Some(Permission::LogLevel);

/// The table.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    root::OPERATIONS.iter().chain(api::OPERATIONS)
}

/// Every path of the router, with its methods.
pub fn router() -> Router<Context> {
    all().fold(Router::new(), |router, operation| router.route(operation.path, (operation.route)()))
}

/// A page of the console.
const fn page(path: &'static str) -> Operation {
    op("GET", path, OPEN, || get(console::page), |t| t.says("A page of the console").html())
}
