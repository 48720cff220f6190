//! Finding, visiting and taking out members of a parsed document by their path.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Damage;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the member of a table.
    Member(String),
    /// Into the element of a list.
    Element(usize),
}

/// `path` as it would be written in the file: `routes.chat.hosts[0]`.
pub(super) fn show(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Element(index) => text.push_str(&format!("[{index}]")),
            Step::Member(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                if !name.is_empty() && name.bytes().all(bare) {
                    text.push_str(name);
                } else {
                    text.push_str(&format!("{name:?}"));
                }
            }
        }
    }
    text
}

/// Calls `each` with every value and its path, outer values first.
pub(super) fn visit<'i>(
    table: &mut DeTable<'i>,
    each: &mut dyn FnMut(&[Step], &mut Spanned<DeValue<'i>>),
) {
    visit_table(table, &mut Vec::new(), each);
}

fn visit_table<'i>(
    table: &mut DeTable<'i>,
    path: &mut Vec<Step>,
    each: &mut dyn FnMut(&[Step], &mut Spanned<DeValue<'i>>),
) {
    for (key, value) in table.iter_mut() {
        path.push(Step::Member(key.get_ref().to_string()));
        visit_value(value, path, each);
        path.pop();
    }
}

fn visit_value<'i>(
    value: &mut Spanned<DeValue<'i>>,
    path: &mut Vec<Step>,
    each: &mut dyn FnMut(&[Step], &mut Spanned<DeValue<'i>>),
) {
    each(path, value);
    match value.get_mut() {
        DeValue::Table(table) => visit_table(table, path, each),
        DeValue::Array(array) => {
            for (index, element) in array.iter_mut().enumerate() {
                path.push(Step::Element(index));
                visit_value(element, path, each);
                path.pop();
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

/// How well a member fits the place of a complaint; smaller is better. A name fits before a value,
/// the exact place before one around it, an inner value before an outer one.
type Fit = (u8, usize, usize);

/// Path of the innermost member whose name or value is at `span`.
pub(super) fn innermost(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    let mut best = None;
    search_table(table, span, &mut Vec::new(), &mut best);
    best.map(|(_, path)| path)
}

fn search_table(
    table: &DeTable<'_>,
    span: &Range<usize>,
    path: &mut Vec<Step>,
    best: &mut Option<(Fit, Vec<Step>)>,
) {
    for (key, value) in table.iter() {
        path.push(Step::Member(key.get_ref().to_string()));
        if key.span() == *span {
            offer((0, 0, usize::MAX - path.len()), path, best);
        }
        search_value(value, span, path, best);
        path.pop();
    }
}

fn search_value(
    value: &Spanned<DeValue<'_>>,
    span: &Range<usize>,
    path: &mut Vec<Step>,
    best: &mut Option<(Fit, Vec<Step>)>,
) {
    let own = value.span();
    if own == *span {
        offer((1, 0, usize::MAX - path.len()), path, best);
    } else if own.start <= span.start && span.end <= own.end {
        offer((2, own.len(), usize::MAX - path.len()), path, best);
    }
    match value.get_ref() {
        DeValue::Table(table) => search_table(table, span, path, best),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                path.push(Step::Element(index));
                search_value(element, span, path, best);
                path.pop();
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

fn offer(fit: Fit, path: &[Step], best: &mut Option<(Fit, Vec<Step>)>) {
    if best.as_ref().is_none_or(|(other, _)| fit < *other) {
        *best = Some((fit, path.to_vec()));
    }
}

/// Where the name of the member at `path` begins (0 for an element of a list), and its value.
pub(super) fn look<'t, 'i>(
    table: &'t DeTable<'i>,
    path: &[Step],
) -> (usize, Option<&'t Spanned<DeValue<'i>>>) {
    let Some((Step::Member(name), rest)) = path.split_first() else { return (0, None) };
    let entry = table.iter().find(|(key, _)| key.get_ref() == name.as_str());
    let Some((key, value)) = entry else { return (0, None) };
    let mut at = key.span().start;
    let mut value = value;
    for step in rest {
        let next = match (step, value.get_ref()) {
            (Step::Member(name), DeValue::Table(table)) => {
                let entry = table.iter().find(|(key, _)| key.get_ref() == name.as_str());
                entry.map(|(key, value)| (key.span().start, value))
            }
            (Step::Element(index), DeValue::Array(array)) => {
                array.get(*index).map(|element| (element.span().start, element))
            }
            (Step::Member(_) | Step::Element(_), _) => None,
        };
        let Some(next) = next else { return (at, None) };
        (at, value) = next;
    }
    (at, Some(value))
}

/// Takes out the member at `path`.
pub(super) fn take(table: &mut DeTable<'_>, path: &[Step]) {
    let Some((Step::Member(name), rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.remove(name.as_str());
    } else if let Some(value) = table.get_mut(name.as_str()) {
        take_inside(value.get_mut(), rest);
    }
}

fn take_inside(value: &mut DeValue<'_>, path: &[Step]) {
    match (value, path) {
        (DeValue::Table(table), path) => take(table, path),
        (DeValue::Array(array), [Step::Element(index)]) => {
            let rest = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = rest.filter(|(at, _)| at != index).map(|(_, element)| element).collect();
        }
        (DeValue::Array(array), [Step::Element(index), rest @ ..]) => {
            if let Some(element) = array.get_mut(*index) {
                take_inside(element.get_mut(), rest);
            }
        }
        _ => {}
    }
}

/// Takes out the member with these names, if it is there; answers where its name begins.
pub(super) fn take_member(table: &mut DeTable<'_>, path: &[&str]) -> Option<usize> {
    let steps: Vec<Step> = path.iter().map(|name| Step::Member((*name).to_owned())).collect();
    let (at, value) = look(table, &steps);
    value?;
    take(table, &steps);
    Some(at)
}

/// Takes out every member that stands on a damaged line, or whose value the parser made up.
pub(super) fn take_damaged(table: &mut DeTable<'_>, damage: &Damage) -> Vec<Vec<Step>> {
    let mut taken = Vec::new();
    if !damage.is_empty() {
        take_damaged_from(table, damage, &mut Vec::new(), &mut taken);
    }
    taken
}

fn take_damaged_from(
    table: &mut DeTable<'_>,
    damage: &Damage,
    path: &mut Vec<Step>,
    taken: &mut Vec<Vec<Step>>,
) {
    let entries = std::mem::take(table).into_iter();
    let sound = entries.filter_map(|(key, mut value)| {
        path.push(Step::Member(key.get_ref().to_string()));
        let made_up = value.span().is_empty();
        let keep = match value.get_mut() {
            // A section on a damaged line may still have sound members elsewhere.
            DeValue::Table(inner) if !made_up => {
                take_damaged_from(inner, damage, path, taken);
                !(inner.is_empty() && damage.touches(key.span().start))
            }
            DeValue::Array(array) if !made_up && array.iter().all(|e| e.get_ref().is_table()) => {
                for (index, element) in array.iter_mut().enumerate() {
                    path.push(Step::Element(index));
                    if let DeValue::Table(inner) = element.get_mut() {
                        take_damaged_from(inner, damage, path, taken);
                    }
                    path.pop();
                }
                !(array.is_empty() && damage.touches(key.span().start))
            }
            DeValue::Table(_)
            | DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => !made_up && !damage.touches(key.span().start),
        };
        if !keep {
            taken.push(path.clone());
        }
        path.pop();
        keep.then_some((key, value))
    });
    *table = sound.collect();
}
