//! HTTP/2 (RFC 9113) and its compression of fields (HPACK, RFC 7541), as bytes and as values.
//!
//! What a server needs and no more: it reads requests and writes answers. Nothing here keeps the state
//! of a stream or of a window; the gateway does, beside the sockets.

mod code;
mod decode;
mod encode;
mod frame;
mod head;
mod huffman;
mod table;

pub use code::Code;
pub use decode::{CompressionFault, Decoder, Sink};
pub use encode::{FIRST_TABLE, NO_TABLE, put_field, put_status};
pub use frame::{Fault, Frame, FrameHead, HEAD, MOST_PAYLOAD, PREFACE, Setting, Settings};
pub use frame::{flag, kind, put_goaway, put_head, put_ping, put_reset, put_settings, put_window};
pub use head::{HeadFault, HeadReader};
pub use table::{Field, Pseudo};
