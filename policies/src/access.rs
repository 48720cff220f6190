//! Who may do what: roles, the permissions behind them, and the routes a caller is confined to.
//!
//! There is one table, [`Role::allows`] reads it, and everything else (the edge, the admin API, its
//! OpenAPI document, the test that walks every operation times every role) asks [`Role::allows`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub mod api_key;

/// What a caller is allowed to be. Closed, so that the table below stays readable on one screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A program that calls models and sends feedback.
    Client,
    /// A person who looks.
    Viewer,
    /// A person who asks questions of the traffic: experiments, weights, ramps.
    Experimenter,
    /// A person who keeps the gateway running.
    Operator,
    /// A person who checks what the others did.
    Auditor,
    /// Everything.
    Admin,
}

/// One thing that may be allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Send a request to a model through the edge.
    Call,
    /// Send feedback for a request.
    Feedback,
    /// Send feedback for requests that another key made.
    FeedbackForOthers,
    /// See in the answer which variant served it.
    ExperimentInspect,
    /// Force a variant with `x-weir-variant`.
    ExperimentOverride,
    /// Have a received trace continued instead of linked.
    TraceContinue,
    /// Read the effective state, results and stored outcomes.
    Read,
    /// Create an experiment, change what is not its weights, end it.
    EditExperiment,
    /// Change an experiment's weights.
    ChangeWeights,
    /// Start, pause, resume, abort or promote a ramp.
    ControlRamp,
    /// The kill switch.
    StopExperiment,
    /// Go back to an earlier revision.
    UndoExperiment,
    /// Create, list and revoke keys; [`Role::may_grant`] says of which roles.
    ManageKeys,
    /// Read the audit log.
    ReadAudit,
    /// Read what was kept of requests and answers.
    ReadPayloads,
    /// Take the gateway out of service and back.
    Drain,
    /// Change the log filter for a while.
    LogLevel,
    /// Send a test to a webhook.
    TestWebhook,
}

const YES: bool = true;
const NO: bool = false;

/// Who may do what: the only place that says so.
///
/// Why it looks as it does:
/// * Deny by default: a permission is a row somebody had to fill in.
/// * A viewer and an auditor look. Their tokens sit in browsers and reporting scripts, and a call
///   costs money and moves an experiment's numbers, so neither can call, nor send feedback.
/// * An experimenter, an operator and an admin can call: they try what they have just changed with
///   the credential they have. For the same reason they see the variant and can force one.
/// * A client can do neither. Names of variants stay inside, and a client that picks its own arm
///   would no longer be a random sample. It may not choose its trace id either.
/// * A client answers for its own requests only (T31). Who runs experiments may bring in what people
///   said who never saw the gateway: raters, a support desk.
/// * Whoever can move weights can also stop and undo: the way back is never behind a higher door.
/// * Only who decides what is kept of what clients ask and are answered may read it: the operator
///   owns the file. An experimenter has the counts.
/// * Reading the audit log is not part of operating: who is checked does not choose what is seen.
#[rustfmt::skip]
const TABLE: [(Permission, [bool; 6]); 18] = [
    //                                client  viewer  exper.  oper.   audit.  admin
    (Permission::Call,               [YES,    NO,    YES,    YES,    NO,    YES]),
    (Permission::Feedback,           [YES,    NO,    YES,    YES,    NO,    YES]),
    (Permission::FeedbackForOthers,  [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::ExperimentInspect,  [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::ExperimentOverride, [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::TraceContinue,      [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::Read,               [NO,    YES,    YES,    YES,    YES,    YES]),
    (Permission::EditExperiment,     [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::ChangeWeights,      [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::ControlRamp,        [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::StopExperiment,     [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::UndoExperiment,     [NO,    NO,    YES,    YES,    NO,    YES]),
    (Permission::ManageKeys,         [NO,    NO,    NO,    YES,    NO,    YES]),
    (Permission::ReadAudit,          [NO,    NO,    NO,    NO,    YES,    YES]),
    (Permission::ReadPayloads,       [NO,    NO,    NO,    YES,    NO,    YES]),
    (Permission::Drain,              [NO,    NO,    NO,    YES,    NO,    YES]),
    (Permission::LogLevel,           [NO,    NO,    NO,    YES,    NO,    YES]),
    (Permission::TestWebhook,        [NO,    NO,    NO,    YES,    NO,    YES]),
];

// `allows` indexes by discriminant, so a row in the wrong place must not compile.
const _: () = {
    let mut row = 0;
    while row < TABLE.len() {
        assert!(TABLE[row].0 as usize == row, "the table's rows follow the order of `Permission`");
        assert!(Permission::ALL[row] as usize == row);
        row += 1;
    }
    let mut column = 0;
    while column < Role::ALL.len() {
        assert!(Role::ALL[column] as usize == column, "the columns follow the order of `Role`");
        column += 1;
    }
};

impl Role {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 6] = [
        Self::Client,
        Self::Viewer,
        Self::Experimenter,
        Self::Operator,
        Self::Auditor,
        Self::Admin,
    ];

    /// Whether this role has `permission`.
    #[inline]
    pub const fn allows(self, permission: Permission) -> bool {
        TABLE[permission as usize].1[self as usize]
    }

    /// Whether this role may create, change or revoke a key of role `other`.
    ///
    /// An admin: of any. An operator: of lower roles only, where lower means that every permission
    /// of `other` is also the operator's and some of the operator's are missing: so never another
    /// operator, and never an auditor, whose sight of the audit log an operator lacks. Nobody can
    /// hand out what they do not have (T19).
    pub fn may_grant(self, other: Self) -> bool {
        if !self.allows(Permission::ManageKeys) {
            return false;
        }
        let has_all = Permission::ALL.iter().all(|&each| self.allows(each) || !other.allows(each));
        has_all && (self == Self::Admin || self != other)
    }

    /// The name in files, in the API and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Viewer => "viewer",
            Self::Experimenter => "experimenter",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: write one of client, viewer, experimenter, operator, auditor, admin")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == name);
        found.ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

impl Permission {
    /// Every permission, in the order of the table's rows.
    pub const ALL: [Self; 18] = [
        Self::Call,
        Self::Feedback,
        Self::FeedbackForOthers,
        Self::ExperimentInspect,
        Self::ExperimentOverride,
        Self::TraceContinue,
        Self::Read,
        Self::EditExperiment,
        Self::ChangeWeights,
        Self::ControlRamp,
        Self::StopExperiment,
        Self::UndoExperiment,
        Self::ManageKeys,
        Self::ReadAudit,
        Self::ReadPayloads,
        Self::Drain,
        Self::LogLevel,
        Self::TestWebhook,
    ];

    /// The name in the API's document, in audit rows and in refusals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Feedback => "feedback",
            Self::FeedbackForOthers => "feedback:others",
            Self::ExperimentInspect => "experiment:inspect",
            Self::ExperimentOverride => "experiment:override",
            Self::TraceContinue => "trace:continue",
            Self::Read => "read",
            Self::EditExperiment => "experiment:edit",
            Self::ChangeWeights => "experiment:weights",
            Self::ControlRamp => "experiment:ramp",
            Self::StopExperiment => "experiment:stop",
            Self::UndoExperiment => "experiment:undo",
            Self::ManageKeys => "keys:manage",
            Self::ReadAudit => "audit:read",
            Self::ReadPayloads => "payload:read",
            Self::Drain => "drain",
            Self::LogLevel => "log_level",
            Self::TestWebhook => "webhook:test",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The routes a caller is confined to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grants {
    /// Every route, also those that are configured later.
    #[default]
    All,
    /// These routes, by name. Empty means none.
    Only(Arc<[Arc<str>]>),
}

impl Grants {
    /// Whether `route` may be called. A walk: a key names a handful of routes.
    #[inline]
    pub fn allows(&self, route: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(routes) => routes.iter().any(|each| **each == *route),
        }
    }

    /// Whether everything that `other` allows is allowed here too.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(_), Self::Only(routes)) => routes.iter().all(|route| self.allows(route)),
        }
    }
}

/// Limits of one caller; `None` is no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyLimits {
    /// Requests per second.
    pub requests_per_second: Option<f64>,
    /// Requests at the same time.
    pub concurrent: Option<u32>,
    /// Tokens (input and output) per minute.
    pub tokens_per_minute: Option<u64>,
}

/// Who sent a request, once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's public id, a token's subject or a certificate's name: safe to log and to store.
    pub key_id: Arc<str>,
    /// The name people gave it.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// Where it may do it.
    pub grants: Grants,
}

impl Caller {
    /// Whether this caller may send requests on `route`.
    #[inline]
    pub fn may_call(&self, route: &str) -> bool {
        self.role.allows(Permission::Call) && self.grants.allows(route)
    }

    /// Whether this caller may create a key of this role for these routes: the role must be one it
    /// can give, and the routes no more than its own (T19).
    pub fn may_grant(&self, role: Role, grants: &Grants) -> bool {
        self.role.may_grant(role) && self.grants.contains(grants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(routes: &[&str]) -> Grants {
        Grants::Only(routes.iter().map(|&route| Arc::from(route)).collect())
    }

    /// What the interface promises, written a second time from the other side: by role. Every role
    /// is held against every permission, so that a change of the table is a change here too.
    #[test]
    fn t19_every_role_has_exactly_the_permissions_it_is_promised() {
        let client = vec!["call", "feedback"];
        let viewer = vec!["read"];
        let experimenter = [
            &client[..],
            &viewer[..],
            &["feedback:others"],
            &["experiment:inspect", "experiment:override", "trace:continue"],
            &["experiment:edit", "experiment:weights", "experiment:ramp"],
            &["experiment:stop", "experiment:undo"],
        ]
        .concat();
        let operator = [
            &experimenter[..],
            &["keys:manage", "drain", "log_level", "webhook:test", "payload:read"],
        ]
        .concat();
        let auditor = vec!["read", "audit:read"];
        let admin = Permission::ALL.map(Permission::as_str).to_vec();

        let promised = [client, viewer, experimenter, operator, auditor, admin];
        for (role, promised) in Role::ALL.into_iter().zip(promised) {
            for permission in Permission::ALL {
                assert_eq!(
                    role.allows(permission),
                    promised.contains(&permission.as_str()),
                    "{role} {permission}"
                );
            }
        }
    }

    #[test]
    fn an_operator_grants_lower_roles_only_and_an_admin_any() {
        let granted_by = |role: Role| -> Vec<&str> {
            let others = Role::ALL.into_iter().filter(|&other| role.may_grant(other));
            others.map(Role::as_str).collect()
        };
        assert_eq!(granted_by(Role::Operator), ["client", "viewer", "experimenter"]);
        assert_eq!(granted_by(Role::Admin).len(), Role::ALL.len());
        for role in [Role::Client, Role::Viewer, Role::Experimenter, Role::Auditor] {
            assert!(granted_by(role).is_empty(), "{role}");
        }
    }

    #[test]
    fn t19_nobody_grants_a_permission_they_lack() {
        for giver in Role::ALL {
            for taker in Role::ALL.into_iter().filter(|&taker| giver.may_grant(taker)) {
                for permission in Permission::ALL {
                    assert!(giver.allows(permission) || !taker.allows(permission));
                }
            }
        }
    }

    #[test]
    fn t19_nobody_grants_a_route_they_lack() {
        let operator = |grants: Grants| Caller {
            key_id: "k".into(),
            name: "n".into(),
            role: Role::Operator,
            grants,
        };
        let confined = operator(only(&["chat", "embed"]));
        assert!(confined.may_grant(Role::Client, &only(&["chat"])));
        assert!(!confined.may_grant(Role::Client, &only(&["chat", "rank"])));
        assert!(!confined.may_grant(Role::Client, &Grants::All));
        assert!(!confined.may_grant(Role::Admin, &only(&["chat"])));
        assert!(operator(Grants::All).may_grant(Role::Viewer, &Grants::All));
    }

    #[test]
    fn a_confined_caller_calls_its_routes_and_no_other() {
        assert!(Grants::All.allows("anything"));
        assert!(only(&["chat"]).allows("chat"));
        assert!(!only(&["chat"]).allows("cha"));
        assert!(!only(&[]).allows("chat"));
        let mut caller = Caller {
            key_id: "k".into(),
            name: "n".into(),
            role: Role::Client,
            grants: only(&["a"]),
        };
        assert!(caller.may_call("a") && !caller.may_call("b"));
        caller.role = Role::Viewer;
        assert!(!caller.may_call("a"), "a viewer never calls");
    }

    #[test]
    fn a_role_is_read_back_from_its_name_and_from_nothing_else() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for wrong in ["", "Admin", "root", "admin "] {
            assert_eq!(wrong.parse::<Role>(), Err(UnknownRole(wrong.to_owned())));
        }
    }

    #[test]
    fn no_two_permissions_share_a_name() {
        let mut names = Permission::ALL.map(Permission::as_str);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
