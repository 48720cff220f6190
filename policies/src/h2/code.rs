//! Why a stream or a connection ends.

/// A code of `RST_STREAM` and `GOAWAY` (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0x0);
    /// The peer did what the protocol forbids.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// Something went wrong on this side.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer sent more than a window allows.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// The peer sent on a stream that it had ended.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame has a size that it may not have.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was not looked at: it may be sent again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The compression of fields is out of step.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The peer causes too much work.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
}
