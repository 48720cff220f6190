//! An event stream's bytes become events.

use serde_json::Value;

/// Longest event that is kept, in bytes: fifteen minutes of a large gateway are a few megabytes.
const LONGEST: usize = 64 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// What it is called.
    pub(super) name: String,
    /// Its place in the stream, for whoever connects again.
    pub(super) id: Option<String>,
    /// Its data, as it came.
    pub(super) text: String,
}

impl Event {
    /// Its data, read; nothing if it is no JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.text).ok()
    }
}

/// What has come of an event that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    name: String,
    id: Option<String>,
    data: String,
}

/// An event is longer than any that a gateway sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// Reads on: the events that became whole.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > LONGEST {
                return Err(TooLong);
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.line(String::from_utf8_lossy(&line).trim_end()));
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, text) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            let event = Event { name, id: self.id.take(), text };
            // Such as `retry:` alone.
            return (!event.text.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment, or something of a later version.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 2000\n\nid: 7\nevent: frame\ndata: {\"at_unix\":7}\n\n: hold on\n\n\
                          event: end\r\ndata: {\"reason\":\r\ndata: \"shutdown\"}\r\n\r\n";

    #[test]
    fn wherever_the_bytes_are_cut_the_events_are_the_same() {
        let whole = Parser::default().push(STREAM.as_bytes()).unwrap();
        let [frame, end] = &whole[..] else { panic!("{whole:?}") };
        assert_eq!((&*frame.name, frame.id.as_deref()), ("frame", Some("7")));
        assert_eq!(frame.json().unwrap()["at_unix"], 7);
        assert_eq!((&*end.name, end.id.as_deref()), ("end", None));
        assert_eq!(end.json().unwrap()["reason"], "shutdown");
        for cut in 0..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&STREAM.as_bytes()[..cut]).unwrap();
            events.extend(parser.push(&STREAM.as_bytes()[cut..]).unwrap());
            assert_eq!(events, whole, "cut at {cut}");
        }
    }
}
