//! Where each HTTP/1 message of a connection begins and ends, and whether its framing is beyond doubt.
//!
//! An HTTP library repairs what a gateway must refuse: Transfer-Encoding beside Content-Length,
//! equal Content-Lengths, bare line feeds. Whoever repairs can be made to disagree with the next
//! parser about where a message ends, and that is request smuggling. So every byte from a client
//! ([`RequestFraming`]) and from a backend ([`ResponseFraming`]) passes here, and nothing of a head is
//! let through before all of it is found valid. Whoever reads HTTP/1 reads it with these, piece by
//! piece, so that there is no second parser to disagree.
//!
//! Bytes in, verdict out: no clock, no socket. The caller keeps the bytes that were
//! not passed on, calls again with them and whatever else was read, and asks the deadline itself.
//! However the bytes are split over calls, the same ones pass and the same [`Fault`] ends them.
//!
//! Source: RFC 9112, and stricter where that leaves a choice.

mod request;
mod response;
mod fields;
mod body;
mod line;
mod piece;
mod octets;
mod fault;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use piece::{FieldMark, Marks, Piece, Wishes};
pub use request::RequestFraming;
pub use response::ResponseFraming;

/// How large a head may be. What is exactly as large as its limit passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a request target. The request line may be 48 bytes longer; responses have none.
    pub target_bytes: usize,
    /// Bytes of all field lines, line ends and the closing empty line included; trailers count on
    /// from the head, and a response's status line counts too.
    pub header_bytes: usize,
    /// Field lines, those of trailers included.
    pub header_fields: usize,
}
