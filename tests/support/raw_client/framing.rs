//! Where an HTTP/1.1 message ends, read by the letter and with no more checks than that takes.

/// The length of a head with its empty line, if it is whole.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

/// The fields of a head, names as they were sent.
pub(crate) fn fields(head: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(head)
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// How a head says that its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    ToClose,
}

impl Framing {
    /// Of a request, which has no body unless it says so.
    pub(crate) fn of_request(head: &[u8]) -> Self {
        Self::declared(head).unwrap_or(Self::Length(0))
    }

    /// Of a response, which goes on until the connection closes unless it says otherwise.
    pub(crate) fn of_response(head: &[u8], status: u16) -> Self {
        if (100..200).contains(&status) || status == 204 || status == 304 {
            return Self::Length(0);
        }
        Self::declared(head).unwrap_or(Self::ToClose)
    }

    fn declared(head: &[u8]) -> Option<Self> {
        let fields = fields(head);
        let value = |wanted: &str| {
            fields
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value)
        };
        if value("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
            return Some(Self::Chunked);
        }
        value("content-length")?.parse().ok().map(Self::Length)
    }
}

/// A whole message at the beginning of some bytes.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// How many bytes it takes, head included.
    pub(crate) length: usize,
    /// Its body, taken out of its chunks.
    pub(crate) body: Vec<u8>,
    /// The lines after the last chunk.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// The request at the beginning of `bytes`, if it is whole.
    pub(crate) fn request(bytes: &[u8]) -> Option<Self> {
        let head = head_length(bytes)?;
        Self::framed(bytes, head, Framing::of_request(&bytes[..head]))
    }

    /// The message whose head takes `head` bytes, if it is whole; one that goes on to the close of
    /// the connection never is.
    pub(crate) fn framed(bytes: &[u8], head: usize, framing: Framing) -> Option<Self> {
        match framing {
            Framing::ToClose => None,
            Framing::Length(length) => {
                let body = bytes.get(head..head + length)?.to_vec();
                Some(Self { length: head + length, body, trailers: Vec::new() })
            }
            Framing::Chunked => {
                let (body, end) = dechunk(bytes, head);
                let (length, trailers) = end?;
                Some(Self { length, body, trailers })
            }
        }
    }
}

/// Where a chunked body ends, and the fields after it.
type End = (usize, Vec<(String, String)>);

/// The data of the chunks from `position` on, as far as they came, and their end if it came.
pub(crate) fn dechunk(bytes: &[u8], mut position: usize) -> (Vec<u8>, Option<End>) {
    let mut body = Vec::new();
    let line_end = |from: usize| {
        let found = bytes.get(from..)?.windows(2).position(|window| window == b"\r\n")?;
        Some(from + found)
    };
    loop {
        let Some(end) = line_end(position) else { return (body, None) };
        let line = String::from_utf8_lossy(&bytes[position..end]);
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return (body, None) };
        position = end + 2;
        if size == 0 {
            // Fields, if any, and an empty line.
            let last = if bytes[position..].starts_with(b"\r\n") {
                Some(position + 2)
            } else {
                head_length(&bytes[position..]).map(|length| position + length)
            };
            let end = last.map(|last| {
                // `fields` skips the first line, which a head has and trailers do not.
                (last, fields(&[b"\r\n", &bytes[position..last]].concat()))
            });
            return (body, end);
        }
        let there = bytes.len().min(position + size);
        body.extend_from_slice(&bytes[position..there]);
        if bytes.len() < position + size + 2 {
            return (body, None);
        }
        position += size + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_head_says() {
        let check = |bytes: &str, length: Option<usize>, body: &str| {
            let message = Message::request(bytes.as_bytes());
            assert_eq!(message.as_ref().map(|it| it.length), length, "{bytes:?}");
            if let Some(message) = message {
                assert_eq!(message.body, body.as_bytes(), "{bytes:?}");
            }
        };
        check("GET / HTTP/1.1\r\nhost: x\r\n", None, "");
        check("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET", Some(27), "");
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", None, "");
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", Some(41), "abc");
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{chunked}3;x=1\r\nabc\r\n0\r\n"), None, "");
        check(&format!("{chunked}3;x=1\r\nabc\r\n0\r\n\r\n!"), Some(chunked.len() + 17), "abc");
        check(&format!("{chunked}0\r\na: b\r\n\r\n"), Some(chunked.len() + 11), "");
    }

    #[test]
    fn trailers_are_fields_too() {
        let (body, end) = dechunk(b"1\r\nx\r\n0\r\nA: b\r\nc: d\r\n\r\n", 0);
        let (_, trailers) = end.unwrap();
        assert_eq!(body, b"x");
        assert_eq!(trailers, [("A".into(), "b".into()), ("c".into(), "d".into())]);
    }
}
