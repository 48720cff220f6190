//! Outcomes of schemas 2 to 8, which had an entry for each: moved to blocks when the store is brought up
//! to date.

use rusqlite::Transaction;

use super::block::{Known, Writer};
use super::packed::More;
use super::{Key, Slice};
use crate::store::sqlite::{Fault, count, damaged};

/// Rows of one block at most.
const MOST: u64 = 512;

/// Moves what `outcomes_2` holds to `outcomes` and drops it.
pub(in crate::store::sqlite) fn move_rows(transaction: &Transaction<'_>) -> Result<(), Fault> {
    {
        let mut old = transaction.prepare(
            "SELECT id_high, id_low, boot, seq, way, status, outcome, t_total, unit_hash, more
             FROM outcomes_2 ORDER BY id_high, id_low",
        )?;
        let mut rows = old.query([])?;
        let mut writer = Writer::default();
        let mut of: Option<(Slice, i64)> = None;
        while let Some(row) = rows.next()? {
            let key = Key::of(whole(row.get(0)?, row.get(1)?));
            let next = (key.slice(), row.get(2)?);
            if let Some((slice, boot)) = of
                && (of != Some(next) || writer.rows() == MOST)
            {
                writer.keep(transaction, slice, boot)?;
            }
            of = Some(next);
            let more = More::read(row.get_ref(9)?.as_blob()?);
            let more =
                more.ok_or_else(|| damaged(&"an outcome", &"what is packed cannot be read"))?;
            more.pack(&mut writer.more);
            writer.add(&Known {
                key,
                seq: count(row.get(3)?),
                way: row.get(4)?,
                status: row.get(5)?,
                outcome: row.get(6)?,
                t_total: row.get::<_, Option<i64>>(7)?.map(count),
                unit_hash: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
            });
        }
        if let Some((slice, boot)) = of {
            writer.keep(transaction, slice, boot)?;
        }
    }
    Ok(transaction.execute_batch("DROP TABLE outcomes_2")?)
}

/// A request id as schema 2 kept it: two numbers, signed.
pub(super) fn halves(id: [u8; 16]) -> (i64, i64) {
    let number = u128::from_be_bytes(id);
    let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0).cast_signed();
    (half(number >> 64), half(number))
}

fn whole(high: i64, low: i64) -> [u8; 16] {
    let number = u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned());
    number.to_be_bytes()
}
