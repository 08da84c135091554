//! Lines and rows become each other, and a comparison reads no more than it must.

use std::{collections::BTreeSet, path::PathBuf};

use super::*;

fn row(status: Status) -> CertificateRow {
    CertificateRow {
        seq: 0,
        serial: "0A1B".parse().unwrap(),
        not_after: UnixTime::from_civil(2051, 1, 2, 3, 4, 5),
        subject: "/CN=tab\there/O=Gr\\xC3\\xB6\\xC3\\x9Fe".into(),
        der: Vec::new(),
        status,
        file: "unknown".into(),
        profile: String::new(),
        line: None,
    }
}

#[test]
fn line_comes_back_as_the_same_row() {
    let at = UnixTime::from_civil(2026, 11, 22, 0, 0, 0);
    let reason = Some("keyCompromise".into());
    for status in [
        Status::Valid,
        Status::Expired,
        Status::Revoked { at, reason },
        Status::Revoked { at, reason: None },
    ] {
        let row = row(status);
        let text = line(&row);
        assert_eq!(parse(text.strip_suffix('\n').unwrap()), Ok(row), "{text}");
    }
}

#[test]
fn line_cut_anywhere_is_never_read_as_another_row() {
    let row = row(Status::Valid);
    let text = line(&row);
    let whole = text.trim_end_matches('\n');
    for cut in 0..whole.len() {
        let read = parse(&whole[..cut]);
        // A cut inside the last field leaves a shorter subject: the missing line end tells.
        let in_subject = whole[..cut].matches('\t').count() >= 5;
        assert!(read.is_err() || in_subject, "cut at {cut}: {read:?}");
    }
}

#[test]
fn damaged_lines_say_what_is_wrong() {
    for (text, why) in [
        ("V\t", "fields"),
        ("X\t510102030405Z\t\t01\tunknown\t/CN=a", "status"),
        ("V\tsoon\t\t01\tunknown\t/CN=a", "expiry"),
        ("R\t510102030405Z\tthen\t01\tunknown\t/CN=a", "revocation date"),
        ("R\t510102030405Z\t250102030405Z,key\\\tTime\t01\tunknown\t/CN=a", "tab"),
        ("V\t510102030405Z\t\tzz\tunknown\t/CN=a", "serial"),
        ("V\t510102030405Z\t\t01\tunknown\t/CN=a\r", "CR LF"),
    ] {
        assert!(parse(text).unwrap_err().contains(why), "{text}");
    }
}

/// Lines as others have written them, which we would spell differently.
const FOREIGN: [&str; 6] = [
    "V\t20261122010203Z\t\t01\tunknown\t/CN=long date",
    "R\t261122010203Z\t20250101000000Z,keyCompromise\t02\tunknown\t/CN=long revocation date",
    "V\t261122010203Z\t\t3\tunknown\t/CN=one digit",
    "V\t261122010203Z\t\t000a1b\tunknown\t/CN=zeros and small letters",
    "V\t261122010203Z\tleft over\t04\tcerts/04.pem\t/CN=words where none belong",
    "E\t261122010203Z\t250101000000Z\t05\tunknown\t/CN=expired with a date",
];

#[test]
fn line_of_another_program_keeps_its_words_until_its_status_changes() {
    let at = UnixTime::from_civil(2026, 5, 6, 7, 8, 9);
    for text in FOREIGN {
        let row = parse(text).unwrap();
        assert_eq!(row.line.as_deref(), Some(text));
        assert_eq!(line(&row), format!("{text}\n"));
        let status = Status::Revoked { at, reason: Some("superseded".into()) };
        let revoked = CertificateRow { status: status.clone(), ..row.clone() };
        let (was, now): (Vec<&str>, String) = (text.split('\t').collect(), line(&revoked));
        let now: Vec<&str> = now.trim_end().split('\t').collect();
        assert_eq!((now[0], now[2]), ("R", "260506070809Z,superseded"), "{text}");
        assert_eq!((now[1], &now[3..]), (was[1], &was[3..]), "{text}");
        // And so it comes back.
        assert_eq!(parse(&now.join("\t")).unwrap().status, status);
        let valid = CertificateRow { status: Status::Valid, ..row };
        let now = line(&valid);
        assert!(now.starts_with("V\t") && parse(now.trim_end()).is_ok(), "{now}");
    }
    let ours = "V\t261122010203Z\t\t0A1B\tunknown\t/CN=a\\\tb";
    assert_eq!(parse(ours).unwrap().line, None, "what we would write is not kept twice");
}

/// An authority's directory and ledger rows, without certificates.
struct Shelf {
    _scratch: tempfile::TempDir,
    store: PathBuf,
    layout: Layout,
    ledger: Ledger,
    id: AuthorityId,
}

impl Shelf {
    /// So many rows, each tenth revoked, and their index.
    fn with(rows: u64) -> (Self, Left) {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().to_owned();
        let name = "issuing".parse().unwrap();
        let layout = Layout::new(&store, &name);
        std::fs::create_dir_all(layout.file("newcerts")).unwrap();
        let mut ledger = Ledger::create(&Ledger::path(&store)).unwrap();
        let tx = ledger.begin(UnixTime(1_790_000_000)).unwrap();
        let id = tx.add_authority(&name).unwrap();
        tx.commit().unwrap();
        let filler = rusqlite::Connection::open(Ledger::path(&store)).unwrap();
        filler
            .execute_batch(&format!(
                "INSERT INTO certificate
                   (authority, serial, profile, not_after, subject, der, status, revoked_at)
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 SELECT 1, CAST('A' || printf('%07d', i) AS BLOB), 'server', 2000000000,
                   '/CN=host' || i || '.example.org', x'', iif(i % 10, 'V', 'R'),
                   iif(i % 10, NULL, 1790000000 + i) FROM n;
                 INSERT INTO revocation (authority, serial, at)
                   SELECT 1, serial, revoked_at FROM certificate WHERE status = 'R';"
            ))
            .unwrap();
        let left = rewrite(&layout, id, &ledger).unwrap();
        (Self { _scratch: scratch, store, layout, ledger, id }, left)
    }

    fn path(&self) -> PathBuf {
        self.layout.file("index.txt")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn compare(&self, left: Option<&Left>) -> Differences {
        compare(&self.layout, self.id, &self.ledger, left).unwrap()
    }

    /// Adds a row behind the index's back.
    fn record(&self, subject: &str) {
        let vandal = rusqlite::Connection::open(Ledger::path(&self.store)).unwrap();
        let sql = "INSERT INTO certificate (authority, serial, profile, not_after, subject, der)
                   VALUES (1, CAST(?1 AS BLOB), '', 2000000000, ?1, x'')";
        vandal.execute(sql, [subject]).unwrap();
    }
}

const BY_HAND: &str = "V\t301122010203Z\t\t0A1B\tunknown\t/CN=by.hand\n";

#[test]
fn lines_added_behind_what_we_left_are_read_alone() {
    let (shelf, left) = Shelf::with(100_000);
    let unchanged = shelf.compare(Some(&left));
    assert_eq!((unchanged.compared, unchanged.behind), (0, false));
    assert_eq!(unchanged.stamp, left.stamp);

    // Only the time differs, as after a copy back from a backup: one read, nothing compared.
    shelf.write(&shelf.text());
    let touched = shelf.compare(Some(&left));
    assert_eq!((touched.compared, touched.behind, touched.foreign.len()), (0, false, 0));
    assert!(!left.stamp.is_of(&metadata(&shelf.layout).unwrap().unwrap()));
    assert!(touched.stamp.is_of(&metadata(&shelf.layout).unwrap().unwrap()));

    shelf.write(&format!("{}{BY_HAND}", shelf.text()));
    let added = shelf.compare(Some(&left));
    assert_eq!((added.compared, added.behind), (1, false));
    assert_eq!(added.foreign[0].subject, "/CN=by.hand");
    // Without knowing how it was left, lines that are the ledger's are still not parsed.
    let all = shelf.compare(None);
    assert_eq!((all.compared, all.behind, all.foreign.len()), (1, false, 1));
    assert_eq!(all.stamp, added.stamp);
}

#[test]
fn line_changed_in_the_middle_is_found_among_a_hundred_thousand() {
    let (shelf, left) = Shelf::with(100_000);
    let revoked =
        shelf.text().replacen("V\t330518033320Z\t\t", "R\t330518033320Z\t261122010203Z\t", 1);
    assert_ne!(revoked, shelf.text());
    shelf.write(&revoked);
    let found = shelf.compare(Some(&left));
    assert_eq!((found.compared, found.behind, found.foreign.len()), (1, false, 1));
    assert!(matches!(found.foreign[0].status, Status::Revoked { reason: None, .. }));
}

#[test]
fn every_kind_of_disorder_is_told_from_every_other() {
    let (shelf, left) = Shelf::with(40);
    let whole = shelf.text();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let judge = |text: &str| {
        shelf.write(text);
        let one = shelf.compare(Some(&left));
        let other = shelf.compare(None);
        assert_eq!((one.behind, &one.foreign), (other.behind, &other.foreign), "{text}");
        (one.behind, one.foreign.len())
    };
    assert_eq!(judge(&whole), (false, 0));
    for at in [0, 1, 20, 39] {
        assert_eq!(judge(&without(at)), (true, 0), "line {at} is missing");
        assert_eq!(judge(&format!("{}{}", without(at), lines[at])), (false, 0), "{at} is last");
        assert_eq!(judge(&format!("{whole}{}", lines[at])), (true, 0), "{at} is there twice");
        let doubled = format!("{}{}", without(at), lines[(at + 1) % 40]);
        assert_eq!(judge(&doubled), (true, 0), "{at} is missing and another is there twice");
    }
    let reversed: String = lines.iter().rev().copied().collect();
    assert_eq!(judge(&reversed), (false, 0), "an order of one's own is nobody's loss");
    assert_eq!(judge(&format!("{BY_HAND}{whole}")), (false, 1));
    assert_eq!(judge(&format!("{whole}{BY_HAND}{BY_HAND}")), (true, 1));
    let unrevoked = whole.replacen("R\t330518033320Z\t260921141330Z", "V\t330518033320Z\t", 1);
    assert_ne!(unrevoked, whole);
    assert_eq!(judge(&unrevoked), (true, 0), "what is revoked stays revoked");
    let expired = whole.replacen("V\t", "E\t", 3);
    assert_eq!(judge(&expired), (false, 3), "as `openssl ca -updatedb` writes it");
    assert_eq!(judge(""), (true, 0));
    for cut in 0..whole.len() {
        assert_eq!(judge(&whole[..cut]), (true, 0), "cut at {cut}");
    }
    shelf.record("/CN=late");
    assert_eq!(judge(&whole), (true, 0), "a row without its line");
}

#[test]
fn line_that_cannot_be_understood_is_named_with_its_number() {
    let (shelf, left) = Shelf::with(3);
    let whole = shelf.text();
    for (text, number, why) in [
        (format!("{whole}V\t1\n"), 4, "it has 2 fields where 6 belong"),
        (whole.replacen("\tunknown", "", 1), 1, "it has 5 fields where 6 belong"),
        (whole.replace('\n', "\r\n"), 1, "CR LF"),
        (format!("{whole}{BY_HAND}{}", BY_HAND.replace("hand", "foot")), 5, "other words"),
        (format!("{whole}{}\n", "x".repeat(1 << 17)), 4, "more than 65536"),
    ] {
        shelf.write(&text);
        for left in [None, Some(&left)] {
            let fault = compare(&shelf.layout, shelf.id, &shelf.ledger, left).unwrap_err();
            let fault = fault.to_string();
            assert!(fault.contains(&format!("index.txt line {number} ")), "{fault}");
            assert!(fault.contains(why), "{fault}");
        }
    }
    shelf.write(&whole);
    std::fs::write(shelf.path(), [whole.as_bytes(), b"V\xff\n"].concat()).unwrap();
    let fault = compare(&shelf.layout, shelf.id, &shelf.ledger, None).unwrap_err().to_string();
    assert!(fault.contains("line 4") && fault.contains("UTF-8"), "{fault}");
}

#[test]
fn copy_of_a_foreign_line_must_be_its_certificate() {
    let (shelf, left) = Shelf::with(3);
    shelf.write(&format!("{}{BY_HAND}", shelf.text()));
    std::fs::write(shelf.layout.file("newcerts/0A1B.pem"), b"no certificate").unwrap();
    let fault = compare(&shelf.layout, shelf.id, &shelf.ledger, Some(&left)).unwrap_err();
    assert!(fault.to_string().contains("0A1B.pem is damaged: it holds no"), "{fault}");
}

#[test]
fn append_beside_another_writer_is_noticed() {
    let (shelf, left) = Shelf::with(3);
    let new = [CertificateRow { serial: "77".parse().unwrap(), ..row(Status::Valid) }];
    let stamp = append(&shelf.layout, &new, &left.stamp).unwrap();
    assert!(stamp.is_of(&metadata(&shelf.layout).unwrap().unwrap()));
    assert_eq!(stamp, shelf.compare(None).stamp);

    let mut by_hand = shelf.text();
    by_hand.push_str(BY_HAND);
    shelf.write(&by_hand);
    let again = append(&shelf.layout, &new, &stamp).unwrap();
    assert!(!again.is_of(&metadata(&shelf.layout).unwrap().unwrap()));
}

#[test]
fn every_fault_of_the_serial_file_is_told() {
    let (shelf, _) = Shelf::with(1);
    let fault = || serial_fault(&shelf.layout, 1 << 62);
    let write = |text: &str| std::fs::write(shelf.layout.file("serial"), text).unwrap();
    let mut seen = BTreeSet::new();
    seen.insert(fault().unwrap());
    for text in ["", "\n", "zz\n", "01\n", "40000000000000000000000000000000\n"] {
        write(text);
        seen.insert(fault().unwrap());
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    write_serial(&shelf.layout, 1 << 62, [7; 8]).unwrap();
    assert_eq!(fault(), None);
}
