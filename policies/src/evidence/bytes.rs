//! Evidence as it travels and as it is stored.
//!
//! ```text
//! u8           the version of this form
//! everything else in the order in which it is written below: whole numbers as LEB128, others as
//! eight bytes, little-endian; lists behind their length, what may be missing behind 0 or 1
//! ```

use std::collections::BTreeMap;

use super::slow::{MOST_FORGIVEN, MOST_REPLACED, Marks, SlowTally, Slowness, Timing};
use super::tally::{EpochTally, Latencies, MeanTally, VariantTally};
use super::units::{Place, Units};
use super::{Event, Evidence, MOST_AFFECTED, MOST_EPOCHS, MOST_METRICS, MOST_SAMPLED, UnitKind};
use crate::sketch::{Sketch, read_varint, write_varint};
use crate::statistics::moments::{GROUPS, Groups, Moments};

const VERSION: u8 = 2;
/// The first form knew no marks that were replaced.
const WITHOUT_EARLIER: u8 = 1;

/// Why bytes are not evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceFault {
    /// Written by a release that knows more, or not evidence at all.
    #[error("evidence in form {0} cannot be read; this release knows form {VERSION}")]
    Version(u8),
    /// Cut short, too long, or with a number that cannot be.
    #[error("the evidence contradicts itself")]
    Broken,
}

type Read<T> = Result<T, EvidenceFault>;

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Read<u64> {
        read_varint(&mut self.0).map_err(|_| EvidenceFault::Broken)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Read<T> {
        T::try_from(self.number()?).map_err(|_| EvidenceFault::Broken)
    }

    /// A length; at most `most`, so that a broken one reserves nothing.
    fn length(&mut self, most: usize) -> Read<usize> {
        let length = self.small()?;
        if length <= most { Ok(length) } else { Err(EvidenceFault::Broken) }
    }

    fn flag(&mut self) -> Read<bool> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EvidenceFault::Broken),
        }
    }

    fn bytes(&mut self, length: usize) -> Read<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EvidenceFault::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    fn real(&mut self) -> Read<f64> {
        let (taken, rest) = self.0.split_first_chunk::<8>().ok_or(EvidenceFault::Broken)?;
        self.0 = rest;
        let value = f64::from_le_bytes(*taken);
        if value.is_finite() { Ok(value) } else { Err(EvidenceFault::Broken) }
    }

    fn text(&mut self) -> Read<Box<str>> {
        let length = self.small()?;
        let text = std::str::from_utf8(self.bytes(length)?);
        text.map(Box::from).map_err(|_| EvidenceFault::Broken)
    }

    fn list<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let length = self.length(most)?;
        (0..length).map(|_| one(self)).collect()
    }

    fn map<K: Ord, V>(
        &mut self,
        most: usize,
        one: impl FnMut(&mut Self) -> Read<(K, V)>,
    ) -> Read<BTreeMap<K, V>> {
        Ok(self.list(most, one)?.into_iter().collect())
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { one(self).map(Some) } else { Ok(None) }
    }
}

/// What is written so far.
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: impl Into<u64>) {
        write_varint(&mut self.0, number.into());
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn real(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }

    fn maybe<T>(&mut self, value: Option<T>, one: impl FnOnce(&mut Self, T)) {
        self.number(value.is_some());
        if let Some(value) = value {
            one(self, value);
        }
    }

    fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut one: impl FnMut(&mut Self, T),
    ) {
        self.length(values.len());
        values.for_each(|value| one(self, value));
    }
}

impl Evidence {
    /// The compact form for the store and for other replicas.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        let rate = match self.unit {
            UnitKind::Request => None,
            UnitKind::Sticky { rate } => Some(rate),
        };
        out.maybe(rate, Writer::real);
        out.number(self.sequence);
        out.list(self.epochs.iter(), |out, (revision, epoch)| {
            out.number(*revision);
            write_epoch(out, epoch);
        });
        out.list(self.older.iter(), |out, (variant, latencies)| {
            out.number(*variant);
            write_latencies(out, latencies);
        });
        for units in &self.affected {
            write_units(&mut out, units);
        }
        write_units(&mut out, &self.sampled);
        out.list(self.caps.iter(), |out, (metric, cap)| {
            out.text(metric);
            out.real(*cap);
        });
        out.0
    }

    /// Reads what [`Evidence::to_bytes`] wrote, and believes none of it unchecked.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceFault> {
        let (version, rest) = bytes.split_first().ok_or(EvidenceFault::Broken)?;
        if ![WITHOUT_EARLIER, VERSION].contains(version) {
            return Err(EvidenceFault::Version(*version));
        }
        let mut from = Reader(rest);
        let unit = match from.maybe(Reader::real)? {
            None => UnitKind::Request,
            Some(rate) if rate > 0.0 && rate <= 1.0 => UnitKind::Sticky { rate },
            Some(_) => return Err(EvidenceFault::Broken),
        };
        let mut evidence = Self::new(unit);
        evidence.sequence = from.number()?;
        let read_epoch = |from: &mut Reader<'_>| Ok((from.number()?, read_epoch(from, *version)?));
        evidence.epochs = from.map(MOST_EPOCHS, read_epoch)?;
        evidence.older = from.map(256, |from| Ok((from.small()?, read_latencies(from)?)))?;
        for event in Event::ALL {
            evidence.affected[event.index()] = read_units(&mut from, MOST_AFFECTED)?;
        }
        evidence.sampled = read_units(&mut from, MOST_SAMPLED)?;
        evidence.caps = from.map(MOST_METRICS * 64, |from| Ok((from.text()?, from.real()?)))?;
        if from.0.is_empty() { Ok(evidence) } else { Err(EvidenceFault::Broken) }
    }
}

fn write_epoch(out: &mut Writer, epoch: &EpochTally) {
    out.maybe(epoch.shares.as_ref(), |out, shares| {
        out.list(shares.iter(), |out, share| out.number(*share));
    });
    for marks in &epoch.marks {
        out.maybe(marks.as_ref(), write_marks);
    }
    out.list(epoch.variants.iter(), |out, (variant, tally)| {
        out.number(*variant);
        write_tally(out, tally);
    });
    out.list(epoch.earlier.iter(), |out, ((slowness, marks), counts)| {
        out.length(slowness.index());
        write_marks(out, marks);
        out.list(counts.iter(), |out, (variant, slow)| {
            out.number(*variant);
            write_slow(out, slow);
        });
    });
}

fn write_marks(out: &mut Writer, marks: &Marks) {
    let (bucket, shifts) = marks.parts();
    out.number(bucket);
    out.list(shifts.iter(), |out, shift| out.number(*shift));
}

fn read_marks(from: &mut Reader<'_>) -> Read<Marks> {
    let bucket = from.small()?;
    let shifts = from.list(MOST_FORGIVEN, Reader::small)?;
    Marks::of_parts(bucket, shifts).ok_or(EvidenceFault::Broken)
}

fn read_epoch(from: &mut Reader<'_>, version: u8) -> Read<EpochTally> {
    let mut epoch = EpochTally {
        shares: from.maybe(|from| from.list(256, Reader::small))?,
        ..EpochTally::default()
    };
    for marks in &mut epoch.marks {
        *marks = from.maybe(read_marks)?;
    }
    epoch.variants = from.map(256, |from| Ok((from.small()?, read_tally(from)?)))?;
    if version > WITHOUT_EARLIER {
        // As many as many replicas may bring.
        epoch.earlier = from.map(64 * MOST_REPLACED * Slowness::ALL.len(), |from| {
            let at: usize = from.small()?;
            let slowness = Slowness::ALL.get(at).copied().ok_or(EvidenceFault::Broken)?;
            let marks = read_marks(from)?;
            let counts = from.map(256, |from| Ok((from.small()?, read_slow(from)?)))?;
            Ok(((slowness, marks), counts))
        })?;
    }
    Ok(epoch)
}

fn write_tally(out: &mut Writer, tally: &VariantTally) {
    let counts = tally.outcomes.iter().chain(&tally.statuses);
    counts.chain([&tally.begun, &tally.rescued]).for_each(|count| out.number(*count));
    for slow in &tally.slow {
        write_slow(out, slow);
    }
    write_mean(out, &tally.input_tokens);
    write_mean(out, &tally.output_tokens);
    out.list(tally.feedback.iter(), |out, (metric, mean)| {
        out.text(metric);
        write_mean(out, mean);
    });
    out.maybe(tally.latencies.as_deref(), write_latencies);
}

fn read_tally(from: &mut Reader<'_>) -> Read<VariantTally> {
    let mut tally = VariantTally::default();
    let counts = tally.outcomes.iter_mut().chain(&mut tally.statuses);
    for count in counts.chain([&mut tally.begun, &mut tally.rescued]) {
        *count = from.number()?;
    }
    for slow in &mut tally.slow {
        *slow = read_slow(from)?;
    }
    tally.input_tokens = read_mean(from)?;
    tally.output_tokens = read_mean(from)?;
    tally.feedback = from.map(MOST_METRICS * 4, |from| Ok((from.text()?, read_mean(from)?)))?;
    tally.latencies = from.maybe(read_latencies)?.map(Box::new);
    Ok(tally)
}

fn write_slow(out: &mut Writer, slow: &SlowTally) {
    out.number(slow.n);
    out.number(slow.above_control);
    out.list(slow.above.iter(), |out, count| out.number(*count));
    out.list(slow.groups.iter(), |out, count| out.number(*count));
}

fn read_slow(from: &mut Reader<'_>) -> Read<SlowTally> {
    let slow = SlowTally {
        n: from.number()?,
        above_control: from.number()?,
        above: from.list(MOST_FORGIVEN, Reader::number)?,
        groups: from.list(GROUPS * (2 + MOST_FORGIVEN), Reader::small)?,
    };
    let whole = GROUPS * (2 + slow.above.len());
    let fits = slow.groups.is_empty() || slow.groups.len() == whole;
    if fits { Ok(slow) } else { Err(EvidenceFault::Broken) }
}

fn write_mean(out: &mut Writer, mean: &MeanTally) {
    out.number(mean.moments.n);
    out.number(mean.moments.nonzero);
    out.number(mean.capped);
    out.number(mean.fractional);
    if mean.moments.n > 0 {
        out.real(mean.moments.mean);
        out.real(mean.moments.m2);
    }
    out.maybe(mean.groups.as_ref(), |out, groups| {
        for (n, sum) in groups.parts() {
            out.number(*n);
            if *n > 0 {
                out.real(*sum);
            }
        }
    });
}

fn read_mean(from: &mut Reader<'_>) -> Read<MeanTally> {
    let mut moments = Moments { n: from.number()?, nonzero: from.number()?, ..Moments::default() };
    let (capped, fractional) = (from.number()?, from.number()?);
    if moments.n > 0 {
        moments.mean = from.real()?;
        moments.m2 = from.real()?;
    }
    let groups = from.maybe(|from| {
        let mut parts = [(0, 0.0); GROUPS];
        for part in &mut parts {
            part.0 = from.number()?;
            part.1 = if part.0 > 0 { from.real()? } else { 0.0 };
        }
        Ok(Groups::of_parts(parts))
    })?;
    Ok(MeanTally { moments, groups, capped, fractional })
}

fn write_latencies(out: &mut Writer, latencies: &Latencies) {
    for timing in Timing::ALL {
        out.maybe(latencies.of(timing), |out, sketch| {
            let bytes = sketch.to_bytes();
            out.length(bytes.len());
            out.0.extend(bytes);
        });
    }
}

fn read_latencies(from: &mut Reader<'_>) -> Read<Latencies> {
    let mut latencies = Latencies::default();
    for timing in Timing::ALL {
        let sketch = from.maybe(|from| {
            let length = from.small()?;
            Sketch::from_bytes(from.bytes(length)?).map_err(|_| EvidenceFault::Broken)
        })?;
        if let Some(sketch) = sketch {
            *latencies.of_mut(timing) = sketch;
        }
    }
    Ok(latencies)
}

fn write_units(out: &mut Writer, units: &Units) {
    let (closed, parts) = units.parts();
    out.number(closed);
    // Ascending: differences are shorter than the numbers.
    let mut before = 0;
    out.list(parts, |out, (mixed, place, flags)| {
        out.number(mixed - before);
        before = mixed;
        out.number(place.revision);
        out.number(place.variant);
        out.number(flags);
    });
}

fn read_units(from: &mut Reader<'_>, bound: usize) -> Read<Units> {
    let closed = from.flag()?;
    let mut mixed: u64 = 0;
    let parts = from.list(bound * 4, |from| {
        mixed = mixed.checked_add(from.number()?).ok_or(EvidenceFault::Broken)?;
        let place = Place { revision: from.number()?, variant: from.small()? };
        Ok((mixed, place, from.small()?))
    })?;
    Ok(Units::of_parts(bound, closed, parts))
}

// Marks are read by place: a slowness more is a new version.
const _: () = assert!(Slowness::ALL.len() == 5);
