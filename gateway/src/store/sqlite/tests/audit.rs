//! The audit log: append-only and chained.

use super::*;

#[test]
fn the_audit_log_is_listed_newest_first() {
    let Opened { folder: _folder, mut store } = open();
    for number in 1..=5 {
        let row = AuditRow { at: number, ..audit_row("key.create") };
        store.add_audit(&row).unwrap();
    }
    let listed = store.audit(Some(5), 2).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(listed[0].row, AuditRow { at: 4, ..audit_row("key.create") });
    assert_eq!(listed[0].hash.len(), 64);
    assert_eq!(store.audit(None, 100).unwrap().len(), 5);
}

#[test]
fn the_audit_log_cannot_be_changed_through_sql() {
    let Opened { folder: _folder, mut store } = open();
    for _ in 0..3 {
        store.add_audit(&audit_row("key.create")).unwrap();
    }
    for sql in [
        "UPDATE audit SET entry = '{}' WHERE id = 2",
        "DELETE FROM audit WHERE id = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit VALUES (2, '{}', zeroblob(32))",
        "INSERT INTO audit VALUES (9, '{}', zeroblob(32))",
    ] {
        assert!(store.connection.execute(sql, []).is_err(), "{sql}");
    }
    assert_eq!(store.verify_audit().unwrap(), Ok(3));
}

#[test]
fn whatever_is_changed_in_the_audit_log_breaks_its_chain() {
    let Opened { folder: _folder, mut store } = open();
    for number in 1..=5 {
        store.add_audit(&AuditRow { at: number, ..audit_row("key.create") }).unwrap();
    }
    store
        .connection
        .execute_batch(
            "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_deleted;
             DROP TRIGGER audit_has_no_gaps;",
        )
        .unwrap();
    let (entry, hash): (String, [u8; 32]) = store
        .connection
        .query_row("SELECT entry, hash FROM audit WHERE id = 3", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let put = |store: &Sqlite, entry: &str, hash: &[u8]| {
        let sql = "UPDATE audit SET entry = ?1, hash = ?2 WHERE id = 3";
        store.connection.execute(sql, params![entry, hash]).unwrap();
    };
    // Every byte of an entry, one after the other.
    for at in 0..entry.len() {
        let mut changed = entry.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        put(&store, std::str::from_utf8(&changed).unwrap(), &hash);
        assert_eq!(store.verify_audit().unwrap(), Err(3), "byte {at}");
    }
    let mut other = hash;
    other[31] ^= 1;
    put(&store, &entry, &other);
    assert_eq!(store.verify_audit().unwrap(), Err(3));
    put(&store, &entry, &hash);
    assert_eq!(store.verify_audit().unwrap(), Ok(5));

    store.connection.execute("DELETE FROM audit WHERE id = 4", []).unwrap();
    assert_eq!(store.verify_audit().unwrap(), Err(4));
    store.connection.execute("UPDATE audit SET id = 4 WHERE id = 5", []).unwrap();
    assert_eq!(store.verify_audit().unwrap(), Err(4));
}
