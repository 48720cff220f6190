//! A look into a JSON request body: the model, the stream flag, and what configured pointers name.
//!
//! One pass validates the whole body (strict RFC 8259, at most [`MAX_DEPTH`] deep) and notes where
//! the inspected values stand. Nothing is built and the body is not changed; what is found borrows
//! from it. [`rewrite_model`] replaces exactly one value and no other byte. `peek/walk.rs` goes
//! through the document, which `crate::json` reads token by token; `peek/pointers.rs` knows where
//! in it the pointers lead.
//!
//! What we read and what the backend reads must be the same thing, or a client could show one
//! model to the policy and another to the backend. Hence members are matched case-sensitively
//! after unescaping the key, and a second occurrence of an inspected member is a fault: parsers
//! disagree about which one counts.

mod pointers;
mod rewrite;
mod walk;

use std::borrow::Cow;
use std::ops::Range;

pub use rewrite::rewrite_model;
use walk::Walk;

/// How many objects and arrays may be open at once.
pub const MAX_DEPTH: usize = 64;

/// What was found in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The top-level member `model`.
    pub model: Option<Member<'a>>,
    /// The top-level member `stream`; `None` also when it is not a boolean.
    pub stream: Option<bool>,
    /// One for each pointer, in their order: a string as it is, a number or boolean as its JSON
    /// text, `None` for anything else.
    pub found: Vec<Option<Cow<'a, str>>>,
}

/// A string and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Unescaped.
    pub value: Cow<'a, str>,
    /// The bytes of the value in the body, quotes included.
    pub span: Range<usize>,
}

/// Why a body cannot be looked into. All of them are the client's (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeekFault {
    /// Not JSON, or an inspected string that is not Unicode.
    #[error("the body is not valid JSON at byte {offset}: {reason}")]
    Invalid {
        /// The byte, counted from 0.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Begins like a JSON value, but not like an object. The rest was not looked at.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// More than [`MAX_DEPTH`] objects and arrays in one another.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An inspected member that occurs twice in its object.
    #[error("the body has the member \"{member}\" twice")]
    Duplicate {
        /// Its name: one of ours or of a pointer, never text of the client's.
        member: String,
    },
    /// An inspected member that has to be a string and is not.
    #[error("the member \"{member}\" of the body is not a string")]
    NotAString {
        /// Its name.
        member: &'static str,
    },
}

/// Looks into a body.
///
/// * `pointers`: JSON Pointers (RFC 6901) such as `/metadata/user_id`; a segment that is a number
///   also selects the element of an array. Text that is not a pointer finds nothing.
///
/// # Errors
///
/// The first [`PeekFault`] in reading order; invalid UTF-8 comes before all others.
pub fn peek<'a>(body: &'a [u8], pointers: &[&str]) -> Result<Peek<'a>, PeekFault> {
    let text = std::str::from_utf8(body)
        .map_err(|error| PeekFault::Invalid { offset: error.valid_up_to(), reason: "not UTF-8" })?;
    Walk::new(text, pointers).document()
}

#[cfg(test)]
mod tests;
