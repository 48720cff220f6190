//! Cuts a stream of server-sent events into the data of its events.
//!
//! By the rules of the HTML standard, section 9.2.6: lines end in CRLF, LF or CR, a byte order mark
//! may come first, the `data` lines of an event are joined by LF, and an empty line ends it. Other
//! fields and comments are passed over without being kept.

use super::held::{Data, Held, MAX_WHOLE};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data:";

/// The place in a stream, at any byte.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    line: Line,
    /// So many bytes of the stream's byte order mark were seen.
    mark: usize,
    /// The last byte was a CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    /// The event has a `data` line, even if an empty one.
    has_data: bool,
    data: Held,
}

#[derive(Debug, Default)]
enum Line {
    /// The stream has not begun, or not got past its byte order mark.
    #[default]
    Mark,
    /// So many bytes of the line agree with [`DATA`].
    Field(usize),
    /// Right after `data:`, where one space is left out.
    Space,
    Data,
    /// Nothing of interest up to the line end.
    Other,
}

impl EventStream {
    /// Takes the next bytes and hands over the data of each event that ends in them.
    pub(crate) fn feed(&mut self, chunk: &[u8], event: &mut impl FnMut(Data<'_>)) {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                rest = &rest[1..];
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                self.after_cr = byte == b'\r';
                self.end_line(event);
                rest = &rest[1..];
                continue;
            }
            match self.line {
                Line::Field(0)
                    if !self.has_data
                        && let Some((data, after)) = whole_event(rest) =>
                {
                    event(Data::Whole(data));
                    rest = after;
                }
                Line::Mark => {
                    if byte == BYTE_ORDER_MARK[self.mark] {
                        self.mark += 1;
                        rest = &rest[1..];
                        if self.mark == BYTE_ORDER_MARK.len() {
                            self.line = Line::Field(0);
                        }
                    } else if self.mark == 0 {
                        self.line = Line::Field(0);
                    } else {
                        self.line = Line::Other;
                    }
                }
                Line::Field(agreed) => {
                    rest = &rest[1..];
                    self.line = if byte != DATA[agreed] {
                        Line::Other
                    } else if agreed + 1 < DATA.len() {
                        Line::Field(agreed + 1)
                    } else {
                        self.begin_data_line();
                        Line::Space
                    };
                }
                Line::Space => {
                    if byte == b' ' {
                        rest = &rest[1..];
                    }
                    self.line = Line::Data;
                }
                Line::Data | Line::Other => {
                    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    if matches!(self.line, Line::Data) {
                        self.data.push(&rest[..end]);
                    }
                    rest = &rest[end..];
                }
            }
        }
    }

    /// The stream is over. The standard drops an event that no empty line ended; servers that
    /// forget the last line end are too common for that.
    pub(crate) fn end(&mut self, event: &mut impl FnMut(Data<'_>)) {
        self.dispatch(event);
    }

    fn begin_data_line(&mut self) {
        if self.has_data {
            self.data.push(b"\n");
        }
        self.has_data = true;
    }

    fn end_line(&mut self, event: &mut impl FnMut(Data<'_>)) {
        match std::mem::replace(&mut self.line, Line::Field(0)) {
            Line::Field(0) => self.dispatch(event),
            Line::Mark if self.mark == 0 => self.dispatch(event),
            // The field's name alone is the field without a value.
            Line::Field(agreed) if agreed + 1 == DATA.len() => self.begin_data_line(),
            Line::Mark | Line::Field(_) | Line::Space | Line::Data | Line::Other => {}
        }
    }

    fn dispatch(&mut self, event: &mut impl FnMut(Data<'_>)) {
        if !self.data.is_empty() {
            event(self.data.data());
        }
        self.data.clear();
        self.has_data = false;
    }
}

/// The data of the event that begins here, and what comes after it, if it is a single line, is all
/// here, and ends as nearly all do: then there is no need to keep it.
fn whole_event(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = rest.strip_prefix(DATA)?;
    let line = line.strip_prefix(b" ").unwrap_or(line);
    let (data, after) = line.split_at(memchr::memchr2(b'\n', b'\r', line)?);
    let after = after.strip_prefix(b"\n\n").or_else(|| after.strip_prefix(b"\r\n\r\n"))?;
    (!data.is_empty() && data.len() <= MAX_WHOLE).then_some((data, after))
}
