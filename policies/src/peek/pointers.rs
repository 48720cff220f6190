//! Where in a document the pointers lead, and how far along them a walk is.

use std::borrow::Cow;

use super::PeekFault;

/// The pointers of one walk.
#[derive(Debug)]
pub(super) struct Pointers<'p, 'a> {
    targets: Vec<Target<'p, 'a>>,
    /// The largest `matched`. Members that stand deeper than one below it concern no pointer.
    reach: usize,
}

/// One pointer, and how far along it the walk is.
#[derive(Debug)]
struct Target<'p, 'a> {
    /// Without the leading slash; segments still escaped.
    path: Option<&'p str>,
    segments: usize,
    /// So many segments name the objects and arrays around the place of the walk, or the member
    /// whose value is next.
    matched: usize,
    /// Bit `n`: segment `n` was met. Never cleared: around it there is only one such object, or
    /// its own name would have been met twice.
    seen: u64,
    found: Option<Cow<'a, str>>,
}

impl<'p, 'a> Pointers<'p, 'a> {
    pub(super) fn new(pointers: &[&'p str]) -> Self {
        let targets = pointers
            .iter()
            .map(|pointer| {
                let path = pointer.strip_prefix('/');
                let segments = path.map_or(0, |path| path.split('/').count());
                Target { path, segments, matched: 0, seen: 0, found: None }
            })
            .collect();
        Self { targets, reach: 0 }
    }

    /// What each of them led to, in their order.
    pub(super) fn into_found(self) -> Vec<Option<Cow<'a, str>>> {
        self.targets.into_iter().map(|target| target.found).collect()
    }

    /// Whether a member or element at this depth may be on the way of one.
    pub(super) fn concern(&self, depth: usize) -> bool {
        !self.targets.is_empty() && depth <= self.reach + 1
    }

    /// Moves each pointer along whose next segment is the member of this name, which comes now.
    pub(super) fn enter_member(&mut self, depth: usize, name: &[u8]) -> Result<(), PeekFault> {
        self.advance(depth, |segment| unescape_segment(segment).as_bytes() == name)
    }

    /// Moves each pointer along whose next segment is the element that comes now.
    pub(super) fn enter_element(&mut self, depth: usize, index: usize) -> Result<(), PeekFault> {
        self.advance(depth, |segment| is_index(segment, index))
    }

    fn advance(&mut self, depth: usize, comes: impl Fn(&str) -> bool) -> Result<(), PeekFault> {
        for target in &mut self.targets {
            // Exactly the objects around us are matched, and none that was left.
            if target.matched + 1 != depth {
                continue;
            }
            let segment = target.path.and_then(|path| path.split('/').nth(target.matched));
            let Some(segment) = segment.filter(|segment| comes(segment)) else {
                continue;
            };
            if target.seen >> target.matched & 1 == 1 {
                return Err(PeekFault::Duplicate { member: unescape_segment(segment).into() });
            }
            target.seen |= 1 << target.matched;
            target.matched += 1;
            self.reach = self.reach.max(target.matched);
        }
        Ok(())
    }

    /// After a value at this depth: pointers that led into it lead on from where it stands.
    pub(super) fn leave(&mut self, depth: usize) {
        if depth == 0 || self.reach < depth {
            return;
        }
        self.reach = 0;
        for target in &mut self.targets {
            target.matched = target.matched.min(depth - 1);
            self.reach = self.reach.max(target.matched);
        }
    }

    /// Whether one of them leads to the value at this depth.
    pub(super) fn want(&self, depth: usize) -> bool {
        self.reach >= depth && self.targets.iter().any(|target| target.wants(depth))
    }

    /// Gives the value at this depth to those that lead to it.
    pub(super) fn find(&mut self, depth: usize, value: Option<&Cow<'a, str>>) {
        for target in &mut self.targets {
            if target.wants(depth) {
                target.found = value.cloned();
            }
        }
    }
}

impl Target<'_, '_> {
    fn wants(&self, depth: usize) -> bool {
        self.matched == depth && self.segments == depth
    }
}

/// A segment of a pointer without its escapes: `~1` for a slash, `~0` for a tilde.
fn unescape_segment(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') {
        Cow::Owned(segment.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// Whether the segment is this number, written without leading zeros.
fn is_index(segment: &str, index: usize) -> bool {
    let canonical = segment == "0" || segment.starts_with(|first| matches!(first, '1'..='9'));
    canonical && segment.parse() == Ok(index)
}
