//! Stores of older versions are taken over as they are, all at once or not at all.

use std::{collections::BTreeMap, path::PathBuf};

use protocol::message::Serial;
use rusqlite::types::Value;

use super::*;
use crate::durable::crash;

/// The tables and rows of version 1, as its program made them. Never edited.
const VERSION_1: &str = include_str!("tests/version_1.sql");
const VERSION_1_ROWS: &str = include_str!("tests/version_1_rows.sql");

/// The same of version 2.
const VERSION_2: &str = include_str!("tests/version_2.sql");
const VERSION_2_ROWS: &str = include_str!("tests/version_2_rows.sql");

fn version_1() -> (tempfile::TempDir, PathBuf) {
    old_store(VERSION_1, VERSION_1_ROWS)
}

fn version_2() -> (tempfile::TempDir, PathBuf) {
    old_store(VERSION_2, VERSION_2_ROWS)
}

fn old_store(tables: &str, rows: &str) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ledger.sqlite");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(tables).unwrap();
    old.execute_batch(rows).unwrap();
    (scratch, path)
}

fn version(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Every row of every table, by the names of the columns.
fn all_rows(path: &Path) -> BTreeMap<String, Vec<BTreeMap<String, Value>>> {
    let connection = Connection::open(path).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(tables).unwrap();
    let tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows_of = |table: &String| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let names: Vec<String> = statement.column_names().map(Into::into).collect();
        let rows = statement.query_map([], |row| {
            names.iter().enumerate().map(|(at, name)| Ok((name.clone(), row.get(at)?))).collect()
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    tables.iter().map(|table| (table.clone(), rows_of(table))).collect()
}

/// Tables with their columns, types and defaults, and indexes: what a program relies on.
fn shape(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT t.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' '
                 || COALESCE(c.dflt_value, '-') || ' ' || c.pk
               FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'
               UNION ALL
               SELECT i.name || ' on ' || i.tbl_name || ' ' || x.seqno || ' ' || x.name
               FROM sqlite_schema i, pragma_index_info(i.name) x WHERE i.type = 'index'
               ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn assert_every_old_row_is_there(
    before: &BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    path: &Path,
) {
    let after = all_rows(path);
    for (table, rows) in before {
        assert!(!rows.is_empty(), "{table} has rows in the fixture");
        assert_eq!(after[table].len(), rows.len(), "{table}");
        for (old, new) in rows.iter().zip(&after[table]) {
            for (column, value) in old {
                assert_eq!(&new[column], value, "{table}.{column}");
            }
        }
    }
}

#[test]
fn store_of_version_1_opens_with_every_row_and_has_the_tables_of_a_new_one() {
    opens_with_every_row(version_1());
}

#[test]
fn store_of_version_2_opens_with_every_row_and_has_the_tables_of_a_new_one() {
    opens_with_every_row(version_2());
}

fn opens_with_every_row((scratch, path): (tempfile::TempDir, PathBuf)) {
    let before = all_rows(&path);
    let ledger = Ledger::open(&path).unwrap();
    assert_every_old_row_is_there(&before, &path);
    assert_eq!(version(&path), SCHEMA_VERSION);
    let new = scratch.path().join("new.sqlite");
    drop(Ledger::create(&new).unwrap());
    assert_eq!(shape(&path), shape(&new));

    // And it is read by what reads a new one.
    let issuing = ledger.authority(&"issuing".parse().unwrap()).unwrap().unwrap();
    let mut serials = Vec::new();
    ledger
        .for_each_certificate(issuing, 0, |row| {
            assert_eq!(row.line, None);
            serials.push(row.serial.to_string());
            Ok(())
        })
        .unwrap();
    assert_eq!(serials.len(), 3);
    assert_eq!(ledger.newest_crl(issuing).unwrap().unwrap().number, 7);
    assert_eq!(ledger.open_intents().unwrap().len(), 1);
    let adopted: Serial = "0A1B".parse().unwrap();
    assert_eq!(ledger.index_row(issuing, &adopted).unwrap().unwrap().status, Status::Expired);
    assert_eq!(ledger.packed_at(issuing).unwrap(), 0);
    // The one key that it had gets a name, what it certified is its own, and what was left open
    // is nothing that a later program may sign.
    let (people, fingerprint) =
        ledger.openpgp_authority(&"openpgp".parse().unwrap()).unwrap().unwrap();
    assert_eq!(fingerprint, "");
    assert_eq!(ledger.openpgp_without_parts().unwrap(), [(1, vec![0x99])]);
    let mut listed = Vec::new();
    ledger
        .for_each_certification(Some(people), |row| {
            listed.push((row.authority, row.fingerprint, row.serial));
            Ok(())
        })
        .unwrap();
    assert_eq!(listed, [("openpgp".into(), "ABCD".into(), None)]);
    assert_eq!(ledger.open_openpgp_intents().unwrap().len(), 0);
    let left = RequestId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(ledger.outdated_openpgp_intents().unwrap(), [left]);
    drop(ledger);
    drop(Ledger::open(&path).unwrap()); // nothing is done twice
    assert_every_old_row_is_there(&before, &path);
}

#[test]
fn power_cut_at_every_point_of_a_migration_leaves_version_1_or_the_new_one() {
    cut_at_every_point(1, version_1);
}

#[test]
fn power_cut_at_every_point_of_a_migration_leaves_version_2_or_the_new_one() {
    cut_at_every_point(2, version_2);
}

fn cut_at_every_point(from: i64, make: fn() -> (tempfile::TempDir, PathBuf)) {
    let (mut old, mut new) = (0, 0);
    for point in 0.. {
        let (_scratch, path) = make();
        let before = all_rows(&path);
        crash::after(Some(point));
        let opened = Ledger::open(&path).map(drop);
        crash::after(None);
        match version(&path) {
            version if version == from => {
                assert_eq!(all_rows(&path), before, "at point {point}");
                old += 1;
            }
            version => {
                assert_eq!(version, SCHEMA_VERSION);
                assert_every_old_row_is_there(&before, &path);
                new += 1;
            }
        }
        drop(Ledger::open(&path).unwrap());
        assert_every_old_row_is_there(&before, &path);
        if opened.is_ok() {
            break;
        }
    }
    assert!(old >= 2 && new >= 2, "{old} points before the commit, {new} after it");
}

#[test]
fn store_of_a_later_version_is_left_alone_and_told_of() {
    for strange in [0, SCHEMA_VERSION + 1, SCHEMA_VERSION + 100, -1] {
        let (_scratch, path) = version_1();
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", strange).unwrap();
        drop(connection);
        let before = all_rows(&path);
        let fault = Ledger::open(&path).unwrap_err();
        let text = fault.to_string();
        assert!(fault.is_configuration(), "{text}");
        assert!(text.contains(&format!("schema version {strange}")), "{text}");
        assert!(text.contains("use the program that wrote it"), "{text}");
        assert_eq!(all_rows(&path), before);
        assert_eq!(version(&path), strange);
    }
}

#[test]
fn a_statement_is_prepared_once_also_for_the_first_authority() {
    let scratch = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(&scratch.path().join("ledger.db")).unwrap();
    let sql = "SELECT seq FROM openpgp_certification WHERE authority = ?1 AND fingerprint = ?2";
    for round in 0..3 {
        // The cache forgets what was bound, so that 1 is bound anew each time.
        let mut statement = ledger.connection.prepare_cached(sql).unwrap();
        assert!(!statement.exists(rusqlite::params![1, "00"]).unwrap());
        let again = statement.get_status(rusqlite::StatementStatus::RePrepare);
        assert_eq!(again, 0, "in round {round}");
    }
}
