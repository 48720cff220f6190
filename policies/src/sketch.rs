//! Latency as counts in fixed buckets whose edges are exact, so that replicas merge by adding.
//!
//! The buckets are those of DDSketch at a relative accuracy of 1 %: bucket `i` of the paper holds
//! `(gamma^(i-1), gamma^i]` with `gamma = 1.01 / 0.99`. From 100 µs to one hour that is
//! [`BUCKETS`] counters in a dense array. A count *at an edge* is a plain sum and therefore exact;
//! a quantile is rounded up to the edge above it, by a factor of at most `gamma`.
//!
//! The table of edges *is* the definition: a value is placed by comparing it with the edges, never
//! by a logarithm, whose last digit differs between machines.
//!
//! Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
//! relative-error guarantees", PVLDB 12(12), 2019.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The ratio between neighbouring edges.
pub const GAMMA: f64 = 1.01 / 0.99;

/// The paper's index of dense bucket 0, the one that holds 100 µs.
pub const INDEX_OFFSET: i32 = -460;

/// The number of buckets: the paper's `-460..=410`, the last of which holds one hour.
pub const BUCKETS: usize = 871;

const LAST: usize = BUCKETS - 1;

/// `GAMMA` to the power of the paper's index, by multiplication alone: the same on every machine.
static EDGES: [f64; BUCKETS] = edges();

const fn edges() -> [f64; BUCKETS] {
    let mut edges = [1.0; BUCKETS];
    // The bucket whose upper edge is gamma^0, one second.
    let one = INDEX_OFFSET.unsigned_abs() as usize;
    let mut up = one + 1;
    while up < BUCKETS {
        edges[up] = edges[up - 1] * GAMMA;
        up += 1;
    }
    let mut down = one;
    while down > 0 {
        down -= 1;
        edges[down] = edges[down + 1] / GAMMA;
    }
    edges
}

// A *slot* is what the exponent and the first six bits of the fraction of an f64 select. It spans
// a factor of at most 65/64, less than gamma, so that at most one edge lies in it: a table lookup
// and one comparison place a value exactly.
const SLOT_SHIFT: u32 = 52 - 6;
const FIRST_SLOT: u64 = EDGES_AT_COMPILE_TIME[0].to_bits() >> SLOT_SHIFT;
#[expect(clippy::cast_possible_truncation, reason = "64 slots for each doubling of the range")]
const SLOTS: usize =
    ((EDGES_AT_COMPILE_TIME[LAST].to_bits() >> SLOT_SHIFT) - FIRST_SLOT + 1) as usize;
const EDGES_AT_COMPILE_TIME: [f64; BUCKETS] = edges();

/// For each slot, the bucket of the slot's smallest value.
static BUCKET_OF_SLOT: [u16; SLOTS] = bucket_of_slot();

const fn bucket_of_slot() -> [u16; SLOTS] {
    let mut buckets = [0; SLOTS];
    let mut slot = 0;
    let mut bucket: u16 = 0;
    while slot < SLOTS {
        let smallest = f64::from_bits((FIRST_SLOT + slot as u64) << SLOT_SHIFT);
        while smallest > EDGES_AT_COMPILE_TIME[bucket as usize] {
            bucket += 1;
        }
        buckets[slot] = bucket;
        slot += 1;
    }
    buckets
}

/// The dense bucket of a duration, in `0..BUCKETS`: the first whose [`edge`] is not below it.
///
/// What is shorter than the range (negative, too) goes to the first bucket; what is longer goes to
/// the last, as does NaN, so that a broken measurement never looks fast.
pub fn bucket_of(seconds: f64) -> usize {
    if seconds <= EDGES[0] {
        return 0;
    }
    if seconds <= EDGES[LAST] {
        let slot = (seconds.to_bits() >> SLOT_SHIFT) - FIRST_SLOT;
        #[expect(clippy::cast_possible_truncation, reason = "below SLOTS: within the edges")]
        let bucket = usize::from(BUCKET_OF_SLOT[slot as usize]);
        return bucket + usize::from(seconds > EDGES[bucket]);
    }
    LAST
}

/// [`bucket_of`] for whole microseconds.
pub fn bucket_of_micros(micros: u64) -> usize {
    bucket_of(micros as f64 / 1e6)
}

/// [`bucket_of`] for whole nanoseconds.
pub fn bucket_of_nanos(nanos: u64) -> usize {
    bucket_of(nanos as f64 / 1e9)
}

/// The upper edge of a bucket in seconds; it belongs to the bucket.
///
/// A bucket outside the range is taken for the last. The last bucket also holds everything longer
/// than its edge: there, and only there, the edge does not bound the values.
pub fn edge(bucket: usize) -> f64 {
    EDGES[bucket.min(LAST)]
}

/// The lower edge of a bucket in seconds; it does not belong to the bucket. 0 for the first.
pub fn lower_edge(bucket: usize) -> f64 {
    match bucket.min(LAST) {
        0 => 0.0,
        inner => EDGES[inner - 1],
    }
}

/// The paper's index of a dense bucket: `i` with `edge(bucket) = GAMMA^i`.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most LAST")]
pub fn paper_index(bucket: usize) -> i32 {
    INDEX_OFFSET + bucket.min(LAST) as i32
}

/// Counts of durations, one per bucket. Two sketches merge by addition, in any order.
///
/// Counts stop at `u64::MAX` instead of wrapping, which keeps the laws of merging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Always [`BUCKETS`] long.
    counts: Box<[u64]>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new()
    }
}

impl Sketch {
    /// No counts yet.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into() }
    }

    /// Counts one duration.
    pub fn add(&mut self, seconds: f64) {
        self.add_count(bucket_of(seconds), 1);
    }

    /// Counts `count` durations in a bucket; a bucket outside the range is taken for the last.
    pub fn add_count(&mut self, bucket: usize, count: u64) {
        let counted = &mut self.counts[bucket.min(LAST)];
        *counted = counted.saturating_add(count);
    }

    /// Adds everything the other sketch has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// What was counted since an earlier state of the same sketch.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        for (mine, theirs) in later.counts.iter_mut().zip(&earlier.counts) {
            *mine = mine.saturating_sub(*theirs);
        }
        later
    }

    /// The counts by dense bucket, [`BUCKETS`] of them.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        sum(&self.counts)
    }

    /// How many durations lie at or below `edge(bucket)`. Exact below the last bucket, which
    /// counts everything.
    pub fn count_at_or_below(&self, bucket: usize) -> u64 {
        sum(&self.counts[..=bucket.min(LAST)])
    }

    /// The bucket of the duration with this rank, the smallest having rank 1.
    ///
    /// `None` for rank 0 and for ranks above [`Sketch::total`].
    pub fn rank_bucket(&self, rank: u64) -> Option<usize> {
        if rank == 0 {
            return None;
        }
        let mut below: u64 = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            below = below.saturating_add(count);
            if below >= rank {
                return Some(bucket);
            }
        }
        None
    }

    /// The upper edge, in seconds, of the bucket that holds rank `ceil(q * total)`, at least 1.
    ///
    /// `None` without counts, or with `q` outside `0.0..=1.0`.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.quantile_bucket(q).map(edge)
    }

    /// The bucket whose [`edge`] is [`Sketch::quantile`].
    #[expect(clippy::cast_possible_truncation, reason = "a float above u64::MAX becomes it")]
    pub fn quantile_bucket(&self, q: f64) -> Option<usize> {
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let total = self.total();
        // Above 2^53 the product may round past the total, which must not lose the answer.
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        self.rank_bucket(rank)
    }

    /// The sketch in few bytes: a version, the number of filled buckets, and for each of them the
    /// empty buckets skipped before it and its count, all as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let filled = self.counts.iter().filter(|count| **count > 0).count();
        let mut bytes = Vec::with_capacity(3 + 3 * filled);
        bytes.push(VERSION);
        write_varint(&mut bytes, filled as u64);
        let mut skipped = 0;
        for &count in &self.counts {
            if count == 0 {
                skipped += 1;
            } else {
                write_varint(&mut bytes, skipped);
                write_varint(&mut bytes, count);
                skipped = 0;
            }
        }
        bytes
    }

    /// Reads what [`Sketch::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// Everything `to_bytes` does not write is a [`SketchFault`], so that equal sketches and equal
    /// bytes are the same thing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchFault> {
        let (&version, mut rest) = bytes.split_first().ok_or(SketchFault::Truncated)?;
        if version != VERSION {
            return Err(SketchFault::Version(version));
        }
        let filled = read_varint(&mut rest)?;
        if filled > BUCKETS as u64 {
            return Err(SketchFault::OutOfRange);
        }
        let mut sketch = Self::new();
        let mut empty = sketch.counts.iter_mut();
        for _ in 0..filled {
            let skipped =
                usize::try_from(read_varint(&mut rest)?).map_err(|_| SketchFault::OutOfRange)?;
            let count = read_varint(&mut rest)?;
            if count == 0 {
                return Err(SketchFault::NotCanonical);
            }
            *empty.nth(skipped).ok_or(SketchFault::OutOfRange)? = count;
        }
        if rest.is_empty() { Ok(sketch) } else { Err(SketchFault::Trailing(rest.len())) }
    }
}

/// As a list of `[bucket, count]`, filled buckets only.
impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.counts.iter().enumerate().filter(|(_, count)| **count > 0))
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut sketch = Self::new();
        for (bucket, count) in Vec::<(usize, u64)>::deserialize(from)? {
            sketch.add_count(bucket, count);
        }
        Ok(sketch)
    }
}

/// Why bytes are not a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchFault {
    /// Written by a release with other buckets.
    #[error("the sketch has version {0}, this release reads version {VERSION}")]
    Version(u8),
    /// The bytes end in the middle.
    #[error("the sketch ends too early")]
    Truncated,
    /// A bucket, or a number, larger than there can be.
    #[error("the sketch names a bucket that does not exist")]
    OutOfRange,
    /// A number written longer than needed, or a filled bucket without a count.
    #[error("the sketch is not in its shortest form")]
    NotCanonical,
    /// So many bytes after the end.
    #[error("{0} bytes follow the sketch")]
    Trailing(usize),
}

/// Names the buckets as well as the layout: other edges need another version.
const VERSION: u8 = 1;

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
}

pub(crate) fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

pub(crate) fn read_varint(rest: &mut &[u8]) -> Result<u64, SketchFault> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(SketchFault::Truncated)?;
        *rest = after;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && low > 1 {
            return Err(SketchFault::OutOfRange);
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return if byte == 0 && shift > 0 { Err(SketchFault::NotCanonical) } else { Ok(value) };
        }
    }
    Err(SketchFault::OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn sketch_of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::new();
        for &value in values {
            sketch.add(value);
        }
        sketch
    }

    #[test]
    fn the_range_holds_a_tenth_of_a_millisecond_and_an_hour_in_its_outer_buckets() {
        assert_eq!(bucket_of(100e-6), 0);
        assert!(EDGES[0] / GAMMA < 100e-6 && 100e-6 <= EDGES[0]);
        assert_eq!(bucket_of(3600.0), LAST);
        assert!(lower_edge(LAST) < 3600.0 && 3600.0 <= edge(LAST));
        assert_eq!(bucket_of(1.0), paper_zero());
        assert_eq!(edge(paper_zero()), 1.0);
        assert_eq!(paper_index(0), -460);
        assert_eq!(paper_index(LAST), 410);
    }

    fn paper_zero() -> usize {
        (0..BUCKETS).find(|bucket| paper_index(*bucket) == 0).unwrap()
    }

    #[test]
    fn edges_are_the_powers_of_gamma() {
        for bucket in 0..BUCKETS {
            let power = GAMMA.powi(paper_index(bucket));
            assert!((edge(bucket) / power - 1.0).abs() < 1e-12, "bucket {bucket}");
        }
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it_to_the_last_digit() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(edge(bucket)), bucket);
            assert_eq!(bucket_of(edge(bucket).next_down()), bucket);
            assert_eq!(bucket_of(edge(bucket).next_up()), (bucket + 1).min(LAST));
        }
    }

    #[test]
    fn what_lies_outside_the_range_goes_to_the_nearest_end() {
        for short in [0.0, -0.0, -1.0, f64::MIN_POSITIVE, 1e-9, f64::NEG_INFINITY] {
            assert_eq!(bucket_of(short), 0, "{short}");
        }
        for long in [3700.0, 1e9, f64::MAX, f64::INFINITY, f64::NAN] {
            assert_eq!(bucket_of(long), LAST, "{long}");
        }
        assert_eq!(bucket_of_nanos(0), 0);
        assert_eq!(bucket_of_nanos(u64::MAX), LAST);
        assert_eq!(bucket_of_micros(u64::MAX), LAST);
        assert_eq!((edge(usize::MAX), lower_edge(0)), (edge(LAST), 0.0));
    }

    /// Law 8: at every edge the sum of counts is the count of raw values.
    #[test]
    fn a_million_values_are_counted_exactly_at_every_edge() {
        // Weyl sequence over the logarithm of 50 µs to 3600 s: no source of chance needed.
        let mut values: Vec<f64> = (1..=1_000_000_u32)
            .map(|n| {
                let unit = (f64::from(n) * 0.618_033_988_749_894_9).fract();
                (5e-5_f64.ln() + unit * (3600.0_f64 / 5e-5).ln()).exp()
            })
            .collect();
        for bucket in 0..BUCKETS {
            values.extend([edge(bucket), edge(bucket).next_down()]);
            if bucket < LAST {
                values.push(edge(bucket).next_up());
            }
        }
        let sketch = sketch_of(&values);
        values.sort_by(f64::total_cmp);
        for bucket in 0..BUCKETS {
            let raw = values.partition_point(|value| *value <= edge(bucket)) as u64;
            assert_eq!(sketch.count_at_or_below(bucket), raw, "bucket {bucket}");
        }
        assert_eq!(sketch.total(), values.len() as u64);
    }

    #[test]
    fn a_quantile_is_the_upper_edge_of_the_bucket_of_its_rank() {
        let sketch = sketch_of(&[0.010, 0.020, 0.030, 0.040]);
        let check = |q, value| assert_eq!(sketch.quantile(q), Some(edge(bucket_of(value))), "{q}");
        check(0.0, 0.010);
        check(0.25, 0.010);
        check(0.26, 0.020);
        check(0.5, 0.020);
        check(0.75, 0.030);
        check(1.0, 0.040);
        assert_eq!(sketch.quantile(1.01), None);
        assert_eq!(sketch.quantile(f64::NAN), None);
        assert_eq!(Sketch::new().quantile(0.5), None);
        assert_eq!(sketch.rank_bucket(0), None);
        assert_eq!(sketch.rank_bucket(4), Some(bucket_of(0.040)));
        assert_eq!(sketch.rank_bucket(5), None);
    }

    #[test]
    fn counts_stop_at_their_largest_instead_of_wrapping() {
        let mut sketch = Sketch::new();
        sketch.add_count(3, u64::MAX);
        sketch.add_count(3, 5);
        sketch.add_count(7, 5);
        assert_eq!(sketch.total(), u64::MAX);
        assert_eq!(sketch.quantile(1.0), Some(edge(3)));
    }

    #[test]
    fn bytes_that_no_sketch_writes_are_refused() {
        let check = |bytes: &[u8], fault| assert_eq!(Sketch::from_bytes(bytes), Err(fault));
        check(&[], SketchFault::Truncated);
        check(&[9, 0], SketchFault::Version(9));
        check(&[1], SketchFault::Truncated);
        check(&[1, 1, 0], SketchFault::Truncated);
        check(&[1, 1, 0, 0], SketchFault::NotCanonical);
        check(&[1, 1, 0x80, 0x00, 1], SketchFault::NotCanonical);
        check(&[1, 0, 7], SketchFault::Trailing(1));
        // Bucket 871, one too many; then more filled buckets than there are.
        check(&[1, 1, 0xe7, 0x06, 1], SketchFault::OutOfRange);
        check(&[1, 0xe8, 0x06], SketchFault::OutOfRange);
        check(&[1, 1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], SketchFault::OutOfRange);
    }

    fn sketch() -> impl Strategy<Value = Sketch> {
        vec((0..BUCKETS, prop_oneof![1..9_u64, any::<u64>()]), 0..40).prop_map(|counts| {
            let mut sketch = Sketch::new();
            for (bucket, count) in counts {
                sketch.add_count(bucket, count);
            }
            sketch
        })
    }

    fn merged(left: &Sketch, right: &Sketch) -> Sketch {
        let mut both = left.clone();
        both.merge(right);
        both
    }

    proptest! {
        #[test]
        fn merging_is_the_same_in_every_order_and_grouping(
            a in sketch(), b in sketch(), c in sketch()
        ) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &Sketch::new()), a);
        }

        #[test]
        fn splitting_values_over_replicas_changes_nothing(
            values in vec(0.0..5000.0_f64, 0..200), replicas in 1..5_usize
        ) {
            let mut all = Sketch::new();
            for part in values.chunks(values.len() / replicas + 1) {
                all.merge(&sketch_of(part));
            }
            prop_assert_eq!(all, sketch_of(&values));
        }

        #[test]
        fn a_value_lies_between_the_edges_of_its_bucket(bits in any::<u64>(), unit in 0.0..1.0_f64) {
            for value in [f64::from_bits(bits), 5e-5 * 1e8_f64.powf(unit)] {
                let bucket = bucket_of(value);
                prop_assert!(bucket == 0 || value.is_nan() || value > lower_edge(bucket));
                prop_assert!(bucket == LAST || value <= edge(bucket));
            }
        }

        #[test]
        fn whole_units_go_where_their_seconds_go(nanos in 0..4_000_000_000_000_u64) {
            prop_assert_eq!(bucket_of_nanos(nanos), bucket_of(nanos as f64 / 1e9));
            prop_assert_eq!(bucket_of_micros(nanos / 1000), bucket_of((nanos / 1000) as f64 / 1e6));
        }

        #[test]
        fn a_quantile_is_within_gamma_above_the_raw_one(
            mut values in vec(1e-3..3000.0_f64, 1..300), q in 0.0..=1.0_f64
        ) {
            let sketch = sketch_of(&values);
            values.sort_by(f64::total_cmp);
            let below = (1..values.len()).take_while(|rank| (*rank as f64) < q * values.len() as f64);
            let (raw, shown) = (values[below.count()], sketch.quantile(q).unwrap());
            prop_assert!(raw <= shown && shown < raw * GAMMA * (1.0 + 1e-12));
        }

        #[test]
        fn bytes_give_back_the_same_sketch(sketch in sketch()) {
            prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
        }

        #[test]
        fn equal_bytes_and_equal_sketches_are_the_same_thing(mut bytes in vec(any::<u8>(), 0..30)) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            if let Ok(sketch) = Sketch::from_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }
}
