//! A member that is read from an object.

/// Not met yet, met as something else than expected, or met.
///
/// Parsers disagree about which of two members of one name counts, so an object that has one of
/// those we read twice is not read at all. Therefore a member of another type than expected is as
/// good as absent, but was met.
#[derive(Debug)]
pub(super) struct Member<T>(Option<Option<T>>);

impl<T> Default for Member<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Member<T> {
    /// Notes the value, `None` if it was of another type; whether the member had been met before.
    #[inline]
    #[must_use]
    pub(super) fn meet(&mut self, value: Option<T>) -> bool {
        self.0.replace(value).is_some()
    }

    /// The value, if there was one of the expected type.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref()?.as_ref()
    }
}
