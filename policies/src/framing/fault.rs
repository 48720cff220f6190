//! Why a message is refused: one variant for each reason.

/// What is wrong with the framing of a message. Its connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// Not method, target and version with one space between each.
    #[error("request line is not method, target and version with single spaces")]
    RequestLine,
    /// The method is empty or holds a byte that no token may hold.
    #[error("method is not a token")]
    Method,
    /// The target holds a byte that no URI holds, or a fragment, or is no URI at all.
    #[error("request target is not a uri without fragment")]
    TargetByte,
    /// The target, or the line it stands in, is over its limit.
    #[error("request target too long")]
    TargetTooLong,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("version is neither http/1.0 nor http/1.1")]
    Version,
    /// A second empty line where a request line should be.
    #[error("more than one empty line before the request line")]
    BlankLines,
    /// A response that does not begin with a version and a status of three digits.
    #[error("status line is not version, status and reason")]
    StatusLine,
    /// A status outside `100..=599`.
    #[error("status is not within 100 to 599")]
    Status,
    /// Field lines, trailers included, are over their limit in bytes.
    #[error("header fields too large")]
    HeadTooLarge,
    /// More field lines, trailers included, than the limit.
    #[error("too many header fields")]
    TooManyFields,
    /// A line feed without a carriage return before it.
    #[error("line feed without carriage return")]
    BareLf,
    /// A carriage return without a line feed after it.
    #[error("carriage return without line feed")]
    BareCr,
    /// A control byte other than a tab in a field value, a reason or a chunk extension.
    #[error("control byte in a field value, reason or chunk extension")]
    ControlByte,
    /// The first field line begins with a space or tab.
    #[error("whitespace before the first header field")]
    LeadingWhitespace,
    /// A later field line begins with a space or tab: obsolete line folding.
    #[error("folded header line")]
    FoldedLine,
    /// A field line without a colon.
    #[error("header line without colon")]
    NoColon,
    /// A field line that begins with its colon.
    #[error("empty header name")]
    EmptyName,
    /// A space or tab between field name and colon.
    #[error("whitespace between header name and colon")]
    SpaceBeforeColon,
    /// A field name that is not a token.
    #[error("header name is not a token")]
    NameByte,
    /// A Content-Length that is not 1 to 19 digits.
    #[error("content-length is not a plain number")]
    ContentLength,
    /// More than one Content-Length, even if they are equal.
    #[error("content-length given twice")]
    ContentLengthRepeated,
    /// A Transfer-Encoding that is not exactly `chunked`.
    #[error("transfer-encoding is not chunked")]
    TransferEncoding,
    /// More than one Transfer-Encoding.
    #[error("transfer-encoding given twice")]
    TransferEncodingRepeated,
    /// Transfer-Encoding together with Content-Length.
    #[error("transfer-encoding together with content-length")]
    LengthAndEncoding,
    /// Transfer-Encoding in an HTTP/1.0 message.
    #[error("transfer-encoding in http/1.0")]
    EncodingInHttp10,
    /// An HTTP/1.1 request without Host, or any request with more than one.
    #[error("host is missing or given twice")]
    Host,
    /// A chunk size that is not 1 to 16 hexadecimal digits.
    #[error("chunk size is not a plain hexadecimal number")]
    ChunkSize,
    /// A chunk extension of more than 256 bytes.
    #[error("chunk extension too long")]
    ChunkExtension,
    /// Chunk data that goes on after its size, or ends otherwise than with CRLF.
    #[error("chunk data does not end where its size says")]
    ChunkEnd,
    /// Content-Length, Transfer-Encoding or Host in a trailer.
    #[error("framing header in a trailer")]
    FramingTrailer,
    /// More than 8 informational (1xx) responses before a final one.
    #[error("too many informational responses")]
    InformationalFlood,
    /// A 101 to a request that asked for no upgrade.
    #[error("switch of protocols that was not asked for")]
    UnaskedUpgrade,
    /// Bytes after the end of a response, or before any request.
    #[error("bytes beyond the end of the response")]
    ExcessBytes,
    /// The connection ended before the head of the response that was expected.
    #[error("connection ended before the end of the response head")]
    ShortHead,
    /// The connection ended inside a body.
    #[error("connection ended before the end of the response body")]
    ShortBody,
}

impl Fault {
    /// The status a request with this fault is refused with. What a client is told about a faulty
    /// response is not decided here.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::RequestLine
            | Self::Method
            | Self::TargetByte
            | Self::BlankLines
            | Self::StatusLine
            | Self::Status
            | Self::BareLf
            | Self::BareCr
            | Self::ControlByte
            | Self::LeadingWhitespace
            | Self::FoldedLine
            | Self::NoColon
            | Self::EmptyName
            | Self::SpaceBeforeColon
            | Self::NameByte
            | Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::TransferEncoding
            | Self::TransferEncodingRepeated
            | Self::LengthAndEncoding
            | Self::EncodingInHttp10
            | Self::Host
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::FramingTrailer
            | Self::InformationalFlood
            | Self::UnaskedUpgrade
            | Self::ExcessBytes
            | Self::ShortHead
            | Self::ShortBody => 400,
        }
    }

    /// A stable code for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Method => "method",
            Self::TargetByte => "target_byte",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::BlankLines => "blank_lines",
            Self::StatusLine => "status_line",
            Self::Status => "status",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::ControlByte => "control_byte",
            Self::LeadingWhitespace => "leading_whitespace",
            Self::FoldedLine => "folded_line",
            Self::NoColon => "no_colon",
            Self::EmptyName => "empty_name",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::NameByte => "name_byte",
            Self::ContentLength => "content_length",
            Self::ContentLengthRepeated => "content_length_repeated",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferEncodingRepeated => "transfer_encoding_repeated",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::EncodingInHttp10 => "encoding_in_http10",
            Self::Host => "host",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::FramingTrailer => "framing_trailer",
            Self::InformationalFlood => "informational_flood",
            Self::UnaskedUpgrade => "unasked_upgrade",
            Self::ExcessBytes => "excess_bytes",
            Self::ShortHead => "short_head",
            Self::ShortBody => "short_body",
        }
    }
}
