//! Stories of the audit log: a scripted signer with a log, and a frontend that keeps a copy of it.

use std::fs;

use super::*;
use crate::audit::{
    AUDIT, AUDIT_CHAIN,
    chain::{End, tests::lines},
    copy::Memory,
    fetch::PERIOD,
};

/// What a signer answers about its log.
#[derive(Debug)]
pub(super) struct SignerLog {
    lines: Vec<String>,
    /// Bytes of one piece.
    piece: usize,
    /// Pieces that still go out before the line breaks.
    pieces: u64,
    /// What happens to a piece on its way.
    alter: fn(&mut Vec<u8>),
}

impl Default for SignerLog {
    fn default() -> Self {
        Self { lines: Vec::new(), piece: 1000, pieces: u64::MAX, alter: |_| () }
    }
}

impl SignerLog {
    fn end(&self) -> End {
        let mut end = End::ORIGIN;
        self.lines.iter().for_each(|line| end.follow(line.as_bytes()).unwrap());
        end
    }

    fn grow(&mut self, count: u64, what: &str) {
        self.lines.extend(lines(self.end(), count, what).0);
    }

    fn hash_of(&self, number: u64) -> Option<Digest> {
        match number {
            0 => Some(End::ORIGIN.head),
            number => self.lines.get(number as usize - 1).map(|line| Digest::of(line.as_bytes())),
        }
    }

    /// As the vault does; nothing once the line broke.
    pub(super) fn answer(&mut self, question: &FetchLog) -> Option<Answer> {
        self.pieces = self.pieces.checked_sub(1)?;
        let End { last, head } = self.end();
        let FetchLog { after, offset, .. } = *question;
        if self.hash_of(after) != Some(question.head.unwrap_or(End::ORIGIN.head)) {
            return Some(Answer::LogDiffers { last, head });
        }
        let mut bytes = Vec::new();
        for line in &self.lines[after as usize..] {
            let line = format!("{line}\n").into_bytes();
            if bytes.is_empty() {
                let start = offset as usize;
                bytes.extend_from_slice(&line[start..line.len().min(start + self.piece)]);
            } else if bytes.len() + line.len() <= self.piece {
                bytes.extend_from_slice(&line);
            } else {
                break;
            }
            if bytes.len() >= self.piece {
                break;
            }
        }
        (self.alter)(&mut bytes);
        let bytes = bytes.try_into().unwrap();
        let piece = protocol::message::LogPiece { first: after + 1, offset, bytes, last, head };
        Some(Answer::LogPiece(piece))
    }
}

impl Rig {
    /// Lets the log come until nothing more is asked for.
    fn copy_log(&mut self) {
        loop {
            let asked = self.log_questions.len();
            self.wait(Duration::from_millis(10));
            self.drain();
            if self.log_questions.len() == asked {
                return;
            }
        }
    }

    /// A minute later.
    fn copy_log_again(&mut self) {
        self.wait(PERIOD);
        self.copy_log();
    }

    fn memory(&self) -> Memory {
        Notes(self.carrier.store().connection()).read(AUDIT).unwrap().unwrap()
    }

    fn book(&self, number: usize) -> String {
        let directory = LogCopy::new(&self.home).book_dir(number);
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
        names.sort();
        names.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// The signer's entries from `first` to `last` as they stand in a file.
    fn entries(&self, first: usize, last: usize) -> String {
        self.log.lines[first - 1..last].iter().map(|line| format!("{line}\n")).collect()
    }
}

#[test]
fn the_log_is_copied_byte_for_byte_and_looked_at_every_minute() {
    let mut rig = Rig::new();
    rig.log.grow(40, "x");
    rig.up();
    assert_eq!(rig.carrier.work(rig.now()), Work::Busy, "the copy is not whole yet");
    rig.copy_log();
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle);
    assert_eq!(rig.book(1), rig.entries(1, 40));
    assert_eq!(rig.memory().book().end(), rig.log.end());
    let asked = rig.log_questions.len();
    assert!(asked > 5, "{asked} pieces");

    rig.log.grow(2, "y");
    rig.wait(PERIOD - Duration::from_secs(1));
    rig.copy_log();
    assert_eq!(rig.log_questions.len(), asked, "not yet");
    rig.wait(Duration::from_secs(1));
    rig.copy_log();
    assert_eq!(rig.book(1), rig.entries(1, 42));
    assert_eq!(rig.log_questions.len(), asked + 1);
    assert_eq!(rig.alarm(AUDIT), None);
}

#[test]
fn after_a_cut_or_a_restart_nothing_that_arrived_is_asked_for_again() {
    for restart in [false, true] {
        let mut rig = Rig::new();
        rig.log.grow(40, "x");
        rig.log.pieces = 3;
        rig.up();
        rig.copy_log();
        let arrived = rig.memory().book().last;
        assert!((3..40).contains(&arrived), "{arrived} entries before the cut");
        rig.carrier.handle_down();
        if restart {
            rig.restart();
        }
        rig.log.pieces = u64::MAX;
        rig.log_questions.clear();
        rig.up();
        rig.copy_log();
        assert_eq!(rig.log_questions[0].after, arrived, "restart: {restart}");
        assert_eq!(rig.book(1), rig.entries(1, 40));
    }
}

#[test]
fn an_entry_longer_than_a_piece_comes_in_parts_and_goes_on_after_a_restart() {
    let mut rig = Rig::new();
    rig.log.grow(1, "x");
    rig.log.grow(1, &"long".repeat(1000));
    rig.log.grow(1, "x");
    rig.log.pieces = 3;
    rig.up();
    rig.copy_log();
    assert_eq!(rig.memory().book().last, 1);
    rig.carrier.handle_down();
    rig.restart();
    rig.log.pieces = u64::MAX;
    rig.log_questions.clear();
    rig.up();
    rig.copy_log();
    let first = rig.log_questions[0];
    assert_eq!((first.after, first.offset), (1, 2000), "two of its parts are here");
    assert_eq!(rig.book(1), rig.entries(1, 3));
}

#[test]
fn a_piece_with_a_broken_chain_is_not_stored_and_the_alarm_goes_when_it_is_mended() {
    let alterations: [fn(&mut Vec<u8>); 5] = [
        // Another text in the entry before the last and in the last, another hash, a line left out,
        // and no bytes at all.
        |bytes| bytes[61] = b'z',
        |bytes| *bytes.iter_mut().rfind(|byte| **byte == b'y').unwrap() = b'z',
        |bytes| bytes[90] ^= 1,
        |bytes| drop(bytes.drain(..=bytes.iter().position(|byte| *byte == b'\n').unwrap())),
        |bytes| bytes.clear(),
    ];
    for alter in alterations {
        let mut rig = Rig::connected();
        rig.log.grow(3, "x");
        rig.copy_log_again();
        let before = rig.memory();
        rig.log.grow(2, "y");
        rig.log.alter = alter;
        rig.copy_log_again();
        assert_eq!(rig.book(1), rig.entries(1, 3), "nothing of it is stored");
        assert_eq!(rig.memory().books, before.books);
        let alarm = rig.alarm(AUDIT_CHAIN).unwrap();
        assert!(alarm.contains("signer store check"), "{alarm}");

        rig.log.alter = |_| ();
        rig.copy_log_again();
        assert_eq!(rig.book(1), rig.entries(1, 5));
        assert_eq!(rig.alarm(AUDIT_CHAIN), None);
    }
}

/// Invariant I12: truncation shows against the remembered head.
#[test]
fn a_log_that_was_cut_raises_an_alarm_that_stays_and_both_logs_are_kept() {
    let mut rig = Rig::connected();
    rig.log.grow(30, "x");
    rig.copy_log_again();
    let remembered = rig.book(1);
    rig.log.lines.truncate(20);
    rig.copy_log_again();
    let alarm = rig.alarm(AUDIT).unwrap();
    assert!(alarm.contains("up to entry 30") && alarm.contains("ends at entry 20"), "{alarm}");
    assert_eq!(rig.book(1), remembered);
    assert_eq!(rig.memory().books.len(), 2);
    assert_eq!((rig.memory().book().base, rig.memory().book().last), (20, 20));

    // It goes on, is copied on, and the alarm stays, whatever is started again.
    rig.log.grow(15, "other");
    rig.copy_log_again();
    rig.carrier.handle_down();
    rig.restart();
    rig.up();
    rig.copy_log_again();
    assert_eq!(rig.book(1), remembered);
    assert_eq!(rig.book(2), rig.entries(21, 35));
    assert_eq!(rig.alarm(AUDIT).unwrap(), alarm);
}

#[test]
fn a_restored_backup_is_noticed_though_its_log_has_grown_past_what_is_remembered() {
    for (kept, remembered, grown) in
        [(12, 40, 60), (0, 7, 90), (39, 40, 41), (1, 2, 3), (20, 40, 40), (20, 40, 25)]
    {
        let mut rig = Rig::connected();
        rig.log.grow(remembered, "x");
        rig.copy_log_again();
        let before = rig.book(1);
        rig.log.lines.truncate(kept as usize);
        rig.log.grow(grown - kept, "other");
        rig.copy_log_again();
        let case = format!("{kept} of {remembered}, then {grown}");
        assert!(rig.alarm(AUDIT).is_some(), "{case}");
        assert_eq!(rig.book(1), before, "{case}");
        assert_eq!(rig.book(2), rig.entries(kept as usize + 1, grown as usize), "{case}");
        let books = rig.memory().books;
        assert_eq!((books.len(), books[1].base), (2, kept), "{case}");
        // The parting is found by halving.
        assert!(rig.log_questions.len() < 40, "{case}: {}", rig.log_questions.len());
    }
}

#[test]
fn a_second_backup_parts_the_second_book() {
    let mut rig = Rig::connected();
    rig.log.grow(30, "x");
    rig.copy_log_again();
    for (kept, what) in [(20, "second"), (10, "third")] {
        rig.log.lines.truncate(kept);
        rig.log.grow(25, what);
        rig.copy_log_again();
    }
    let books = rig.memory().books;
    assert_eq!(
        books.iter().map(|book| (book.base, book.last)).collect::<Vec<_>>(),
        [(0, 30), (20, 45), (10, 35)]
    );
    assert_eq!(rig.book(3), rig.entries(11, 35));
}

#[test]
fn entries_written_before_a_kill_are_remembered_and_half_a_line_is_cut() {
    for behind in ["", "{\"n\":9,\"at"] {
        let mut rig = Rig::connected();
        rig.log.grow(3, "x");
        rig.copy_log_again();
        rig.carrier.handle_down();
        // The kill came after the file was written and before the store was.
        rig.log.grow(5, "y");
        let path = LogCopy::new(&rig.home).book_dir(1).join("0000000001.log");
        fs::write(&path, rig.entries(1, 8) + behind).unwrap();
        rig.restart();
        rig.log_questions.clear();
        rig.up();
        rig.copy_log();
        assert_eq!(rig.log_questions[0].after, 8);
        assert_eq!(rig.book(1), rig.entries(1, 8));
        assert_eq!(rig.alarm(AUDIT), None);
    }
}

#[test]
fn a_copy_that_was_cut_here_is_told_and_goes_on_in_a_new_book() {
    let mut rig = Rig::connected();
    rig.log.grow(5, "x");
    rig.copy_log_again();
    rig.carrier.handle_down();
    let path = LogCopy::new(&rig.home).book_dir(1).join("0000000001.log");
    let left = rig.entries(1, 2);
    fs::write(&path, &left).unwrap();
    rig.restart();
    rig.log.grow(2, "y");
    rig.up();
    rig.copy_log();
    let alarm = rig.alarm(AUDIT).unwrap();
    assert!(alarm.contains("damaged here") && alarm.contains("0000000001.log"), "{alarm}");
    assert_eq!(rig.book(1), left);
    assert_eq!(rig.book(2), rig.entries(6, 7));
}

#[test]
fn nobody_can_hand_in_entries_that_were_not_asked_for() {
    let mut rig = Rig::connected();
    rig.log.grow(3, "x");
    rig.copy_log_again();
    let before = rig.memory();
    rig.log.grow(3, "y");
    let End { last, head } = rig.log.end();
    let unasked = rig.log.answer(&FetchLog { after: 3, head: rig.log.hash_of(3), offset: 0 });
    rig.answer([unasked.unwrap(), Answer::LogDiffers { last, head }]);
    assert_eq!(rig.carrier.counters().strays, 2);
    assert_eq!(rig.memory().books, before.books);
    assert_eq!(rig.alarm(AUDIT), None);
}

#[test]
fn requests_go_first_and_a_silent_log_holds_up_nobody_for_long() {
    let mut rig = Rig::connected();
    rig.log.pieces = 0;
    rig.log.grow(3, "x");
    rig.wait(PERIOD);
    rig.log_questions.clear();
    let id = rig.insert_issue();
    assert_eq!(rig.ids(), [id]);
    assert_eq!(rig.log_questions, [], "a certificate is under way");
    let answer = rig.issued(id, 7);
    rig.answer([answer]);
    rig.drain();
    assert_eq!(rig.log_questions.len(), 1);

    // A new connection waits for the log, but not for ever.
    rig.carrier.handle_down();
    rig.up();
    rig.drain();
    assert_eq!(rig.carrier.work(rig.now()), Work::Busy);
    rig.wait(Duration::from_secs(5));
    rig.drain();
    assert_eq!(rig.carrier.work(rig.now()), Work::Idle);
}

#[test]
fn a_part_that_outlived_a_kill_is_not_taken_for_the_next_entry() {
    let mut rig = Rig::new();
    rig.log.grow(1, &"long".repeat(1000));
    rig.log.grow(1, "x");
    rig.log.pieces = 2;
    rig.up();
    rig.copy_log();
    rig.carrier.handle_down();
    // The kill came after the whole entry was written and before its part was taken away.
    let directory = LogCopy::new(&rig.home).book_dir(1);
    assert!(directory.join("partial").exists());
    fs::write(directory.join("0000000001.log"), rig.entries(1, 1)).unwrap();
    rig.restart();
    rig.log.pieces = u64::MAX;
    rig.log_questions.clear();
    rig.up();
    rig.copy_log();
    let first = rig.log_questions[0];
    assert_eq!((first.after, first.offset), (1, 0));
    assert_eq!(rig.book(1), rig.entries(1, 2));
    assert_eq!(rig.alarm(AUDIT_CHAIN), None);
}

#[test]
fn a_part_of_an_entry_that_was_damaged_here_is_asked_for_anew() {
    let mut rig = Rig::new();
    rig.log.grow(1, &"long".repeat(1000));
    rig.log.pieces = 2;
    rig.up();
    rig.copy_log();
    rig.carrier.handle_down();
    let partial = LogCopy::new(&rig.home).book_dir(1).join("partial");
    let mut bytes = fs::read(&partial).unwrap();
    assert_eq!(bytes.len(), 2000);
    bytes[1500] ^= 1;
    fs::write(&partial, &bytes).unwrap();
    rig.restart();
    rig.log.pieces = u64::MAX;
    rig.up();
    rig.copy_log();
    assert!(rig.alarm(AUDIT_CHAIN).is_some() && !partial.exists());
    rig.copy_log_again();
    assert_eq!(rig.book(1), rig.entries(1, 1));
    assert_eq!(rig.alarm(AUDIT_CHAIN), None);
}
