//! Old copies move into packs and are found there; the plug is pulled at every point of it.

use std::collections::BTreeMap;

use super::*;
use crate::{
    authority::{Layout, newcerts::Copies},
    calendar::{DAY_S, UnixTime},
    durable::crash,
    ledger::AuthorityId,
};

const DUMP: &[u8] = b"Certificate:\n    Data:\n        Version: 3 (0x2)\n";

impl Story {
    fn layout(&self) -> Layout {
        Layout::new(&self.store(), &name("issuing"))
    }

    fn ledger(&self) -> (Ledger, AuthorityId) {
        let ledger = Ledger::open(&Ledger::path(&self.store())).unwrap();
        let id = ledger.authority(&name("issuing")).unwrap().unwrap();
        (ledger, id)
    }

    /// Issues so many and has them synced; the last copy gets openssl's text in front.
    fn stocked(&mut self, count: usize) {
        let issued: Vec<X509> =
            (0..count).map(|at| self.issued(&format!("{at}.example.org"))).collect();
        let path = self.layout().newcert(&serial_of(issued.last().unwrap()));
        let with_text = [DUMP, &fs::read(&path).unwrap()].concat();
        fs::write(&path, with_text).unwrap();
        let now = self.now;
        self.vault().tick(now).unwrap();
    }

    fn cutoff(&self, days: i64) -> UnixTime {
        UnixTime(self.now.unix().0 - days * DAY_S)
    }

    fn pack(&self, days: i64) -> Result<PackReport, Fault> {
        let (mut ledger, id) = self.ledger();
        pack(&self.layout(), id, &mut ledger, self.cutoff(days), &mut |_| {})
    }

    /// The bytes of every copy by serial, wherever it is.
    fn copies(&self) -> BTreeMap<String, Vec<u8>> {
        let (ledger, id) = self.ledger();
        let mut copies = Copies::open(&self.layout()).unwrap();
        let mut all = BTreeMap::new();
        ledger
            .for_each_index_row(id, 0, |row| {
                if let Some((_, bytes)) = copies.find(&row.serial)? {
                    all.insert(row.serial.to_string(), bytes);
                }
                Ok(())
            })
            .unwrap();
        all
    }

    /// How many copies are files.
    fn loose(&self) -> usize {
        let files = fs::read_dir(self.file("newcerts")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().is_file()).count()
    }

    fn rebuilt(&self) -> Result<u64, Fault> {
        let authorities = load_all(&self.store(), None).unwrap();
        let issuing = authorities.iter().find(|a| a.name().as_str() == "issuing").unwrap();
        rebuild(&self.store(), issuing, [0; 8])
    }
}

#[test]
fn old_copies_are_packed_beside_a_running_vault_and_young_ones_stay_files() {
    let mut story = Story::new();
    story.stocked(5);
    assert_eq!(story.pack(30).unwrap(), PackReport::default());
    assert_eq!(story.loose(), 5);
    story.later(31 * DAY_S);
    story.stocked(3);
    let before = story.copies();
    assert_eq!(before.len(), 8);

    let report = story.pack(30).unwrap();
    assert_eq!(report, PackReport { packed: 5, packs: 1, kept: 0 });
    assert_eq!(story.loose(), 3);
    assert_eq!(story.copies(), before, "byte for byte, openssl's text too");
    assert_eq!(story.findings(), Vec::<String>::new());
    assert_eq!(story.pack(30).unwrap(), PackReport::default(), "nothing is left to do");

    // The vault goes on, also after a start; the rest is packed when it is old.
    story.issued("running.example.org");
    story.start();
    story.issued("started.example.org");
    let now = story.now;
    story.vault().tick(now).unwrap();
    story.later(31 * DAY_S);
    let before = story.copies();
    assert_eq!(story.pack(30).unwrap(), PackReport { packed: 5, packs: 1, kept: 0 });
    assert_eq!((story.loose(), story.copies()), (0, before));
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn copy_that_is_not_synced_yet_is_not_packed() {
    let mut story = Story::new();
    story.stocked(2);
    story.issued("late.example.org"); // no tick: a pulled plug could still take its file
    assert_eq!(story.pack(-1).unwrap().packed, 2);
    assert_eq!(story.loose(), 1);
}

#[test]
fn certificate_from_the_future_keeps_no_other_from_being_packed() {
    let mut story = Story::new();
    story.stocked(1);
    let (mut ledger, id) = story.ledger();
    story.later(60 * DAY_S);
    story.stocked(1);
    story.later(-60 * DAY_S);
    let vandal = rusqlite::Connection::open(Ledger::path(&story.store())).unwrap();
    // As if the first had been made last: rows are in no order of time.
    vandal
        .execute_batch(
            "UPDATE certificate SET seq = seq + 100
               WHERE seq = (SELECT MIN(seq) FROM certificate WHERE authority = 2);
             UPDATE authority SET files_at = 1000;",
        )
        .unwrap();
    let mut done =
        || pack(&story.layout(), id, &mut ledger, story.cutoff(-1), &mut |_| {}).unwrap().packed;
    assert_eq!((done(), done()), (1, 0));
    assert_eq!(story.loose(), 1);
}

#[test]
fn power_cut_at_every_point_of_packing_loses_no_byte_and_the_next_run_goes_on() {
    let mut story = Story::new();
    for point in 0.. {
        assert!(point < 1_000, "the packing ends");
        story.stocked(3);
        let before = story.copies();
        crash::after(Some(point));
        let packed = story.pack(-1);
        crash::after(None);
        assert_eq!(story.copies(), before, "at point {point}");
        assert_eq!(story.findings(), Vec::<String>::new(), "at point {point}");
        // The plug is pulled again while the next run goes on.
        crash::after(packed.is_err().then_some(point % 7));
        let _ = story.pack(-1);
        crash::after(None);
        assert_eq!(story.copies(), before, "again after point {point}");
        story.pack(-1).unwrap();
        assert_eq!((story.loose(), story.copies()), (0, before), "after point {point}");
        assert_eq!(story.findings(), Vec::<String>::new(), "after point {point}");
        if packed.is_ok() {
            assert!(point > 8, "the points were passed");
            return;
        }
    }
}

#[test]
fn power_cut_at_every_point_of_an_export_leaves_nothing_half_and_no_trace_in_the_store() {
    let mut story = Story::new();
    story.stocked(3);
    story.pack(-1).unwrap();
    story.stocked(2);
    let before = story.copies();
    let target = story.scratch.path().join("export");
    for point in 0.. {
        assert!(point < 1_000, "the export ends");
        let (mut ledger, id) = story.ledger();
        let mut write = || {
            let issuing = name("issuing");
            let layout = story.layout();
            export(&layout, (&issuing, id), &mut ledger, &target, false, &mut |_| {})
        };
        crash::after(Some(point));
        let written = write();
        crash::after(None);
        let place = target.join("issuing");
        if written.is_err() {
            let whole = place.exists(); // only the last wait for the disk was cut off
            assert!(!whole || write().unwrap_err().is_configuration(), "at point {point}");
            if !whole {
                assert_eq!(write().unwrap(), 5, "after point {point}");
            }
        }
        for (serial, bytes) in &before {
            let copy = fs::read(place.join(format!("newcerts/{serial}.pem"))).unwrap();
            assert_eq!(copy, *bytes, "at point {point}");
        }
        for file in ["index.txt", "serial", "crlnumber", "ca.crt", "openssl.cnf"] {
            let ours = fs::read(story.file(file)).unwrap();
            assert_eq!(fs::read(place.join(file)).unwrap(), ours, "{file} at point {point}");
        }
        assert!(!place.join("private/ca.key").exists());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "at point {point}");
        assert_eq!(story.findings(), Vec::<String>::new(), "at point {point}");
        if written.is_ok() {
            assert!(point > 20, "the points were passed");
            return;
        }
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn rebuild_takes_what_is_left_of_a_rotten_pack_and_the_rest_from_the_ledger() {
    let mut story = Story::new();
    story.stocked(4);
    story.pack(-1).unwrap();
    let before = story.copies();
    let path = story.layout().pack(1);
    let good = fs::read(&path).unwrap();
    let (ledger, id) = story.ledger();
    let packed_at = ledger.packed_at(id).unwrap();
    drop(ledger);
    for (at, salvaged) in [(40, false), (good.len() - 40, false), (good.len() - 150, true)] {
        let mut rotten = good.clone();
        rotten[at] ^= 4;
        for point in 0.. {
            fs::write(&path, &rotten).unwrap();
            let (mut ledger, id) = story.ledger();
            ledger.set_packed_at(id, packed_at).unwrap();
            drop(ledger);
            let findings = story.findings();
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].contains("000001.pack is damaged"), "{findings:?}");
            assert!(findings[0].contains("run `signer store rebuild`"), "{findings:?}");
            story.vault = None;
            crash::after(Some(point));
            let cut = story.rebuilt();
            crash::after(None);
            if cut.is_err() {
                story.rebuilt().unwrap();
            }
            let after = story.copies();
            assert_eq!(after.len(), 4);
            // One entry is broken, its block is not: openssl's text is still there.
            let with_text = after.values().filter(|copy| copy.starts_with(DUMP)).count();
            assert_eq!(with_text, usize::from(salvaged), "{at}, point {point}");
            story.start();
            assert_eq!(story.findings(), Vec::<String>::new(), "{at}, point {point}");
            assert!(story.file("newcerts/packs/000001.pack.damaged").exists());
            // As it was, for the next point.
            fs::remove_file(story.file("newcerts/packs/000001.pack.damaged")).unwrap();
            for serial in before.keys() {
                let _ = fs::remove_file(story.file(&format!("newcerts/{serial}.pem")));
            }
            if cut.is_ok() {
                break;
            }
        }
    }
    // Rebuilt copies are packed again.
    fs::write(&path, &good).unwrap();
    assert_eq!(story.findings(), Vec::<String>::new());
    assert_eq!(story.copies(), before);
}

#[test]
fn packs_that_are_gone_come_back_as_files_and_can_be_packed_again() {
    let mut story = Story::new();
    story.stocked(4);
    story.pack(-1).unwrap();
    fs::remove_dir_all(story.layout().packs()).unwrap();
    assert_eq!(story.findings().len(), 4);
    story.vault = None;
    assert_eq!(story.rebuilt().unwrap(), 4);
    assert_eq!(story.findings(), Vec::<String>::new());
    assert_eq!(story.pack(-1).unwrap().packed, 4);
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn copy_that_is_rotten_is_not_packed_and_nothing_is_changed() {
    let mut story = Story::new();
    let rotten = serial_of(&story.issued("a.example.org"));
    story.stocked(2);
    let path = story.layout().newcert(&rotten);
    let good = fs::read(&path).unwrap();
    fs::write(&path, [&good[..100], b"x", &good[101..]].concat()).unwrap();
    let fault = story.pack(-1).unwrap_err().to_string();
    assert!(fault.contains(&format!("{rotten}.pem is damaged")), "{fault}");
    assert_eq!(story.loose(), 3);
    assert_eq!(fs::read_dir(story.layout().packs()).unwrap().count(), 0);
    fs::write(&path, good).unwrap();
    assert_eq!(story.pack(-1).unwrap().packed, 3);
}

#[test]
fn file_that_a_person_changed_while_it_was_packed_is_kept() {
    let mut story = Story::new();
    story.stocked(2);
    let before = story.copies();
    story.pack(-1).unwrap();
    // As after a crash before the first removal: pack and files are both there.
    for (serial, bytes) in &before {
        fs::write(story.file(&format!("newcerts/{serial}.pem")), bytes).unwrap();
    }
    let serial = before.keys().next().unwrap().clone();
    let path = story.file(&format!("newcerts/{serial}.pem"));
    let theirs = [b"seen by an auditor\n".as_slice(), &fs::read(&path).unwrap()].concat();
    fs::write(&path, &theirs).unwrap();
    assert_eq!(story.pack(-1).unwrap(), PackReport { packed: 1, packs: 0, kept: 1 });
    assert_eq!(story.copies()[&serial], theirs);
    assert_eq!(story.findings(), Vec::<String>::new());
}

#[test]
fn two_runs_of_packing_do_not_meet() {
    let mut story = Story::new();
    story.stocked(1);
    let _held = Lock::try_take(&story.file("packs.lock")).unwrap();
    let fault = story.pack(-1).unwrap_err();
    assert!(fault.is_configuration() && fault.to_string().contains("wait for its end"), "{fault}");
    assert!(story.rebuilt().unwrap_err().is_configuration());
}
