//! The body of a post to `/feedback`: one answer or several, as the client wrote them.
//!
//! Read in two steps: the list first, then each item by itself, so that one that cannot be read does
//! not spoil the others. Texts are borrowed from the body where they hold no escapes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::feedback::rules::Said;

/// Most items of one post.
pub const MOST_ITEMS: usize = 1_000;
/// Longest text of a value, in bytes.
pub const MOST_TEXT: usize = 4_096;
/// Longest id of a client, in bytes.
const MOST_ID: usize = 128;
/// Most labels of one item, and their length in bytes.
const MOST_LABELS: usize = 8;
const MOST_LABEL: usize = 64;

/// The items of a body, unread.
///
/// # Errors
/// A sentence for the client: not JSON, neither object nor list, too many.
pub fn list(body: &[u8]) -> Result<Vec<&RawValue>, String> {
    let Items(items) = serde_json::from_slice(body)
        .map_err(|error| format!("the request body is not acceptable: {error}"))?;
    Ok(items)
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = <&RawValue>::deserialize(deserializer)?;
        match whole.get().as_bytes().first() {
            Some(b'{') => return Ok(Self(vec![whole])),
            Some(b'[') => {}
            _ => return Err(de::Error::custom("it is neither an object nor a list of objects")),
        }
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Vec<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST_ITEMS {
                        let what = format!("more than {MOST_ITEMS} items");
                        return Err(de::Error::custom(what));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        let mut reader = serde_json::Deserializer::from_str(whole.get());
        reader.deserialize_seq(List).map(Self).map_err(de::Error::custom)
    }
}

/// One answer, as written and well formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<'a> {
    /// What it is about.
    pub about: About<'a>,
    /// Metric, unchecked.
    pub metric: Cow<'a, str>,
    /// Value.
    pub value: Said<'a>,
    /// The client's id of it.
    pub id: Option<Cow<'a, str>>,
    /// Labels, a JSON object of strings in the order of their names.
    pub segment: Option<Box<str>>,
}

/// What an answer is about.
#[derive(Clone, Debug, PartialEq)]
pub enum About<'a> {
    /// The exposure that a receipt speaks of.
    Receipt(Cow<'a, str>),
    /// The request with this id.
    Request(Cow<'a, str>),
}

/// Reads one item.
///
/// # Errors
/// A sentence for the client.
pub fn item(raw: &RawValue) -> Result<Item<'_>, Cow<'static, str>> {
    if !raw.get().starts_with('{') {
        return Err("an item is an object".into());
    }
    let Written { receipt, request_id, metric, value, id, segment } =
        serde_json::from_str(raw.get()).map_err(|error| {
            // It may quote what the client wrote, which can be long.
            let mut text = error.to_string();
            text.truncate(text.floor_char_boundary(200));
            Cow::from(text)
        })?;
    let about = match (receipt, request_id) {
        (Some(Text(receipt)), None) => About::Receipt(receipt),
        (None, Some(Text(id))) => About::Request(id),
        (Some(_), Some(_)) => return Err("`receipt` or `request_id`, not both".into()),
        (None, None) => return Err("`receipt` (or `request_id`) is missing".into()),
    };
    let Some(Text(metric)) = metric else { return Err("`metric` is missing".into()) };
    let Some(Value(value)) = value else { return Err("`value` is missing".into()) };
    if matches!(&value, Said::Text(text) if text.len() > MOST_TEXT) {
        return Err(format!("`value` has more than {MOST_TEXT} bytes").into());
    }
    let id = id.map(|Text(id)| id);
    if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MOST_ID) {
        return Err(format!("`id` has 1 to {MOST_ID} bytes").into());
    }
    let segment = segment.map(|Segment(labels)| labels).filter(|labels| !labels.is_empty());
    let segment = segment.and_then(|labels| serde_json::to_string(&labels).ok());
    Ok(Item { about, metric, value, id, segment: segment.map(String::into_boxed_str) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Written<'a> {
    #[serde(borrow)]
    receipt: Option<Text<'a>>,
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
    #[serde(borrow)]
    metric: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Value<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    segment: Option<Segment>,
}

struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value(Said::Text(text)) => Ok(Self(text)),
            Value(Said::Bool(_) | Said::Number(_)) => Err(de::Error::custom("expected text")),
        }
    }
}

struct Value<'a>(Said<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Said<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, a finite number or text")
            }
            fn visit_bool<E>(self, yes: bool) -> Result<Said<'de>, E> {
                Ok(Said::Bool(yes))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Said<'de>, E> {
                Ok(Said::Number(number as f64))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Said<'de>, E> {
                Ok(Said::Number(number as f64))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Said<'de>, E> {
                if number.is_finite() {
                    Ok(Said::Number(number))
                } else {
                    Err(E::custom("expected a finite number"))
                }
            }
            fn visit_str<E>(self, text: &str) -> Result<Said<'de>, E> {
                Ok(Said::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Said<'de>, E> {
                Ok(Said::Text(Cow::Borrowed(text)))
            }
        }
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Segment(BTreeMap<Box<str>, Box<str>>);

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Labels;
        impl<'de> Visitor<'de> for Labels {
            type Value = BTreeMap<Box<str>, Box<str>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of short texts for `segment`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some((Text(name), Text(label))) = map.next_entry()? {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                    if name.is_empty() || name.len() > MOST_LABEL || !name.bytes().all(plain) {
                        let what = "a name in `segment` has 1 to 64 of the characters \
                                    A-Z a-z 0-9 _ . -";
                        return Err(de::Error::custom(what));
                    }
                    if label.len() > MOST_LABEL || label.chars().any(char::is_control) {
                        let what = "a label in `segment` has at most 64 bytes and no control \
                                    characters";
                        return Err(de::Error::custom(what));
                    }
                    if labels.insert(name.into(), label.into()).is_some() {
                        return Err(de::Error::custom("a name in `segment` occurs twice"));
                    }
                    if labels.len() > MOST_LABELS {
                        return Err(de::Error::custom("`segment` has more than 8 labels"));
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Labels).map(Self)
    }
}

#[cfg(test)]
mod tests;
