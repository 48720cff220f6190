//! One line after the other, each byte searched once.

use super::Fault;

/// Where the line that is being read began, and how far its end was looked for in vain. Both count
/// from the first byte not yet passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    start: usize,
    searched: usize,
}

impl Line {
    /// Everything before this has been read as complete lines.
    pub(super) fn start(self) -> usize {
        self.start
    }

    /// Whether nothing of the line that begins here was looked at.
    #[inline]
    pub(super) fn is_fresh(self) -> bool {
        self.searched == self.start
    }

    /// A line of `length` bytes has been read without [`Self::next`].
    #[inline]
    pub(super) fn pass(&mut self, length: usize) {
        self.start += length;
        self.searched = self.start;
    }

    /// The next line without its CRLF, or `None` until all of it is there.
    ///
    /// * `budget`: most bytes the line may have, its CRLF included.
    /// * `too_long`: the fault of a line that has more. It is looked for first, because a line that
    ///   comes byte by byte is over its budget before its content is known.
    #[inline]
    pub(super) fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        budget: usize,
        too_long: Fault,
    ) -> Result<Option<&'a [u8]>, Fault> {
        let most = self.start.saturating_add(budget);
        let window = bytes.len().min(most);
        let unsearched = bytes.get(self.searched..window).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.searched.max(window);
            return if bytes.len() < most { Ok(None) } else { Err(too_long) };
        };
        let feed = self.searched + found;
        let line = bytes.get(self.start..feed).unwrap_or_default();
        let [content @ .., b'\r'] = line else { return Err(Fault::BareLf) };
        self.start = feed + 1;
        self.searched = feed + 1;
        Ok(Some(content))
    }
}

/// The fault of a line, given what is wrong at first sight: a carriage return inside it is the
/// better reason, since it may have been meant as a line end.
#[cold]
pub(super) fn sharpen(line: &[u8], fault: Fault) -> Fault {
    if memchr::memchr(b'\r', line).is_some() { Fault::BareCr } else { fault }
}
