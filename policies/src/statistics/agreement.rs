//! Does a copy's answer agree with the live one?
//!
//! How to compare is chosen per shadow. Bodies come whole, read as JSON where they are. What is not
//! what a comparison expects (no JSON, no such member) is told as such, with whose it was.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// Text is compared up to here.
const TEXT_BYTES: usize = 4096;

/// Similarity from which two texts agree.
pub const TEXT_AGREES: f64 = 0.8;

/// Cosine from which two embeddings agree.
pub const EMBEDDING_AGREES: f64 = 0.95;

/// How two answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// The class of the status: 200 and 204 agree.
    Status,
    /// The bodies: as JSON without regard to the order of members and without those at `ignored`
    /// (JSON pointers, such as `/id`); byte by byte if one is no JSON.
    Exact {
        /// What may differ.
        ignored: Vec<String>,
    },
    /// The value at a JSON pointer.
    Label {
        /// Where.
        pointer: String,
    },
    /// Numbers at a JSON pointer: one, or a vector of which all must be close.
    Numeric {
        /// Where.
        pointer: String,
        /// How close is close.
        closeness: Closeness,
    },
    /// Text at a JSON pointer; the empty pointer takes a body that is no JSON as it is.
    Text {
        /// Where.
        pointer: String,
        /// Similarity from which two agree, usually [`TEXT_AGREES`].
        at_least: f64,
    },
    /// The cosine of vectors at a JSON pointer: lists of numbers, or the base64 of 32-bit floats that
    /// OpenAI's clients ask for.
    Embedding {
        /// Where.
        pointer: String,
        /// Cosine from which two agree, usually [`EMBEDDING_AGREES`].
        at_least: f64,
    },
}

/// `|a-b| <= absolute + relative*max(|a|,|b|)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closeness {
    /// In the number's own unit.
    pub absolute: f64,
    /// As a fraction.
    pub relative: f64,
}

impl Default for Closeness {
    fn default() -> Self {
        Self { absolute: 1e-6, relative: 1e-3 }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Status, 100 to 599.
    pub status: u16,
    /// The whole body.
    pub body: Content<'a>,
}

/// A whole body.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// JSON, read.
    Json(&'a Value),
    /// Anything else.
    Bytes(&'a [u8]),
}

/// Whose body was not what the comparison expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The live one's, whatever the copy's was.
    Live,
    /// The copy's alone.
    Copy,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Whether the two agree.
    pub agrees: bool,
    /// How alike they are, 0 to 1: for [`Comparison::Text`] and [`Comparison::Embedding`] by
    /// degrees, for all others 0 or 1. Kept in [`Similarities`], not only the verdict.
    pub similarity: f64,
    /// The largest `|a-b|` of [`Comparison::Numeric`], if all could be compared.
    pub largest_gap: Option<f64>,
    /// Shorter over longer, of [`Comparison::Text`], in bytes.
    pub length_ratio: Option<f64>,
    /// Both labels of [`Comparison::Label`], live first: for [`shadow::Labels`](super::shadow::Labels).
    pub labels: Option<(String, String)>,
}

impl Agreement {
    fn of(agrees: bool) -> Self {
        let similarity = if agrees { 1.0 } else { 0.0 };
        Self { agrees, similarity, largest_gap: None, length_ratio: None, labels: None }
    }
}

impl Comparison {
    /// Compares a copy's answer with the live one.
    ///
    /// # Errors
    /// Whose body has nothing to compare.
    pub fn compare(&self, live: Answer<'_>, copy: Answer<'_>) -> Result<Agreement, Unusable> {
        let (of_live, of_copy) = (live.body, copy.body);
        Ok(match self {
            Self::Status => Agreement::of(live.status / 100 == copy.status / 100),
            Self::Exact { ignored } => Agreement::of(exact(of_live, of_copy, ignored)),
            Self::Label { pointer } => {
                let (live, copy) = both(of_live, of_copy, |body| label(body, pointer))?;
                let agrees = live == copy;
                Agreement { labels: Some((live, copy)), ..Agreement::of(agrees) }
            }
            Self::Numeric { pointer, closeness } => {
                let (live, copy) = both(of_live, of_copy, |body| numbers(body.at(pointer)?))?;
                numeric(&live, &copy, *closeness)
            }
            Self::Text { pointer, at_least } => {
                let (live, copy) = both(of_live, of_copy, |body| text(body, pointer))?;
                texts(&live, &copy, *at_least)
            }
            Self::Embedding { pointer, at_least } => {
                let (live, copy) = both(of_live, of_copy, |body| vector(body.at(pointer)?))?;
                // A vector without a direction, or of another space, can be compared with nothing.
                let is_zero = live.iter().all(|part| *part == 0.0);
                let whose = if is_zero { Unusable::Live } else { Unusable::Copy };
                let cosine = cosine(&live, &copy).ok_or(whose)?;
                let agreement = Agreement::of(cosine >= *at_least);
                Agreement { similarity: cosine.clamp(0.0, 1.0), ..agreement }
            }
        })
    }
}

/// What is read of each body, or whose body does not have it.
fn both<'a, T>(
    live: Content<'a>,
    copy: Content<'a>,
    read: impl Fn(Content<'a>) -> Option<T>,
) -> Result<(T, T), Unusable> {
    let live = read(live).ok_or(Unusable::Live)?;
    Ok((live, read(copy).ok_or(Unusable::Copy)?))
}

impl<'a> Content<'a> {
    /// The value at a JSON pointer.
    fn at(self, pointer: &str) -> Option<&'a Value> {
        match self {
            Self::Json(value) => value.pointer(pointer),
            Self::Bytes(_) => None,
        }
    }
}

fn exact(live: Content<'_>, copy: Content<'_>, ignored: &[String]) -> bool {
    match (live, copy) {
        (Content::Json(live), Content::Json(copy)) => {
            let without = |value: &Value| {
                let mut value = value.clone();
                ignored.iter().for_each(|pointer| remove(&mut value, pointer));
                value
            };
            // Equal without regard to the order of members.
            if ignored.is_empty() { live == copy } else { without(live) == without(copy) }
        }
        (Content::Bytes(live), Content::Bytes(copy)) => live == copy,
        (Content::Json(_), Content::Bytes(_)) | (Content::Bytes(_), Content::Json(_)) => false,
    }
}

fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let name = last.replace("~1", "/").replace("~0", "~");
    let Some(parent) = value.pointer_mut(parent) else { return };
    if let Some(members) = parent.as_object_mut() {
        members.shift_remove(&name);
    } else if let (Some(elements), Ok(index)) = (parent.as_array_mut(), name.parse::<usize>()) {
        // Not removed, so that the elements after it keep their places.
        if let Some(element) = elements.get_mut(index) {
            *element = Value::Null;
        }
    }
}

/// A text is a label as it is, anything else as JSON writes it.
fn label(body: Content<'_>, pointer: &str) -> Option<String> {
    match (body, body.at(pointer)) {
        (_, Some(Value::String(text))) => Some(text.clone()),
        (_, Some(value)) => Some(value.to_string()),
        (Content::Bytes(bytes), None) if pointer.is_empty() => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        (_, None) => None,
    }
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Array(elements) => {
            let parts: Option<Vec<Vec<f64>>> = elements.iter().map(numbers).collect();
            parts.map(|parts| parts.concat())
        }
        Value::Number(number) => number.as_f64().map(|number| vec![number]),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_) => None,
    }
}

/// A list of numbers, or the base64 of 32-bit floats.
fn vector(value: &Value) -> Option<Vec<f64>> {
    let Value::String(text) = value else { return numbers(value) };
    let bytes = BASE64.decode(text).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    let read = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
    (rest.is_empty() && !floats.is_empty()).then(|| floats.iter().map(read).collect())
}

fn numeric(live: &[f64], copy: &[f64], closeness: Closeness) -> Agreement {
    if live.len() != copy.len() {
        return Agreement::of(false);
    }
    let mut largest: f64 = 0.0;
    let mut all_close = true;
    for (a, b) in live.iter().zip(copy) {
        let gap = (a - b).abs();
        largest = largest.max(gap);
        let allowed = closeness.absolute + closeness.relative * a.abs().max(b.abs());
        all_close &= gap <= allowed;
    }
    Agreement { largest_gap: Some(largest), ..Agreement::of(all_close) }
}

fn text<'a>(body: Content<'a>, pointer: &str) -> Option<Cow<'a, str>> {
    match (body, body.at(pointer)) {
        (_, Some(Value::String(text))) => Some(Cow::Borrowed(text)),
        (_, Some(value)) if pointer.is_empty() => Some(Cow::Owned(value.to_string())),
        (Content::Bytes(bytes), None) if pointer.is_empty() => Some(String::from_utf8_lossy(bytes)),
        (_, Some(_) | None) => None,
    }
}

fn texts(live: &str, copy: &str, at_least: f64) -> Agreement {
    let similarity = similarity_of_texts(live, copy);
    let (short, long) = (live.len().min(copy.len()), live.len().max(copy.len()));
    Agreement {
        similarity,
        length_ratio: Some(if long == 0 { 1.0 } else { short as f64 / long as f64 }),
        ..Agreement::of(similarity >= at_least)
    }
}

/// How alike two texts are, 0 to 1: 1 if they are equal but for case and white space, else the
/// Jaccard similarity of their runs of three characters, over the first 4 KiB.
pub fn similarity_of_texts(a: &str, b: &str) -> f64 {
    let (a, b) = (plain(a), plain(b));
    if a == b {
        return 1.0;
    }
    let (a, b) = (shingles(&a), shingles(&b));
    let common = a.iter().filter(|shingle| b.binary_search(shingle).is_ok()).count();
    let either = a.len() + b.len() - common;
    if either == 0 { 0.0 } else { common as f64 / either as f64 }
}

/// Lower case, white space collapsed.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(2 * TEXT_BYTES));
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.extend(word.chars().flat_map(char::to_lowercase));
    }
    plain
}

/// The runs of three characters, sorted, each once. A character has 21 bits, so three fit into 64
/// as they are: no hash, no collisions.
fn shingles(text: &str) -> Vec<u64> {
    let end = text.floor_char_boundary(TEXT_BYTES);
    let mut shingles = Vec::with_capacity(end);
    let (mut run, mut length) = (0_u64, 0);
    for character in text[..end].chars() {
        run = (run << 21 | u64::from(u32::from(character))) & ((1 << 63) - 1);
        length += 1;
        if length >= 3 {
            shingles.push(run);
        }
    }
    if length > 0 && length < 3 {
        // Shorter than a shingle: the whole text is one.
        shingles.push(run);
    }
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

/// The cosine of the angle between two vectors; `None` if their lengths differ or one is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let size = dot(a, a).sqrt() * dot(b, b).sqrt();
    (a.len() == b.len() && size > 0.0 && size.is_finite()).then(|| dot(a, b) / size)
}

/// Similarities by twentieths: what is kept of them besides the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Similarities {
    /// From `[0, 0.05)` to `[0.95, 1]`.
    pub counts: [u64; 20],
}

impl Similarities {
    /// Counts one; what is no number counts as 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 20")]
    pub fn add(&mut self, similarity: f64) {
        let bin = (similarity * 20.0).clamp(0.0, 19.0) as usize;
        self.counts[bin] += 1;
    }

    /// Adds what another replica counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests;
