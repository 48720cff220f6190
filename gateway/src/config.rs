//! The configuration: from the text of a file to a [`plan::Plan`], or to everything that is wrong
//! with it.
//!
//! [`load()`] is the way in. The stages: `written` mirrors the file, `harvest` reads text into it,
//! `check` makes the plan, `problem` is how mistakes are told. A plan is plain data; `snapshot`
//! joins it with the living state.

pub mod plan;
mod problem;
mod value;
mod written;
mod harvest;
mod check;
mod load;
mod schema;
mod says;
pub mod definition;

pub use load::{Loaded, load};
pub use problem::{Problem, Problems};
pub use says::{Says, experiment};
pub use schema::schema;
pub(crate) use value::show_duration;
pub use value::{duration as parse_duration, size as parse_size};
/// What `[experiments.NAME]` may say, for schemas.
pub(crate) use written::Experiment as Definition;

#[cfg(test)]
mod tests;
