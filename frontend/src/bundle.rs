//! Bundles: the queue travels as a file, for a signer without a cable.
//!
//! [`export`] writes everything that has no answer yet; [`import`] takes the answers in as the
//! cable would. Numbers rise for good and are on disk before a file has them, so a bundle that was
//! lost costs nothing: what was in it is in the next one too. Nothing here believes an answer
//! before the carrier's checks have.

use std::{
    collections::VecDeque,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use protocol::{
    bounded::List,
    bundle::{BadBundle, BundleError, Head, Reader, Writer},
    message::{
        ACKNOWLEDGE_MAX, Answer, CatalogueQuery, Digest, FetchCrl, Message, Request, RequestId,
        TimeHint,
    },
    secure::Entropy,
    session::Side,
};
use serde::{Deserialize, Serialize};

use crate::{
    audit::copy::LogCopy,
    carrier::{Carrier, CrlNews},
    catalogue::Catalogues,
    clock::{Now, Utc},
    crl::{all_of, mirror::Mirror},
    durable::{self, NotWritten, Unfinished},
    error::Failure,
    home::Home,
    inventory::Inventory,
    queue::{OpenRequest, Queue, State},
    store::{Notes, Store, StoreError},
};

/// Which bundles were written and taken in. // stored
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundles {
    /// The number of the last one that was written.
    pub written: u64,
    /// The last ones that were written, oldest first.
    pub exports: VecDeque<Export>,
    /// The number of the last bundle of answers that was taken in.
    pub taken_in: u64,
    /// What was in it.
    pub taken_in_digest: Option<Digest>,
    /// When that was, microseconds since 1970-01-01 UTC.
    pub taken_in_us: i64,
}

/// A bundle that was written. // stored
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its number.
    pub number: u64,
    /// When, microseconds since 1970-01-01 UTC.
    pub unix_us: i64,
}

/// The note with the [`Bundles`].
pub const BUNDLES: &str = "bundles";
/// More bundles than are on their way at once.
const EXPORTS_KEPT: usize = 64;
/// Requests read from the queue at once.
const PAGE: usize = 256;
/// Held requests asked about in one bundle.
const HELD_MAX: usize = 16 * 1024;
/// Acknowledgements in one bundle; more wait for the next.
const ACKNOWLEDGED_MAX: usize = 64 * 1024;
/// Answers stored in one transaction, as from the cable.
const BATCH_MAX: usize = 64;
/// So far may two good clocks be apart.
const CLOCK_TOLERANCE_US: i64 = 60_000_000;

//------------ Export --------------------------------------------------------

/// What is in a bundle that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Its number.
    pub number: u64,
    /// Requests for certificates and certifications.
    pub requests: u64,
    /// Revocations.
    pub revocations: u64,
    /// Answers that are acknowledged.
    pub acknowledged: u64,
    /// CRLs that are asked for.
    pub crls: u64,
    /// Requests that did not fit.
    pub left: u64,
    /// The length of the file.
    pub length: u64,
}

/// Writes a bundle of everything that has no answer, under a number above `after`.
pub fn export(
    home: &Home,
    path: &Path,
    after: u64,
    now: Now,
    entropy: &Entropy,
) -> Result<Exported, Failure> {
    let _lock = home.lock()?;
    let pairing = home.link_keys().pairing()?;
    let mut store = home.store()?;
    let output = Output::create(path)?;
    let (number, answers) = take_number(&mut store, after, now)?;
    let head = Head { from: Side::Frontend, number, answers };
    let file = output.new.file().try_clone().map_err(|error| away(path, &error))?;
    let writer = Writer::begin(file, &head, &pairing, entropy);
    let writer = writer.map_err(|error| output.refused(&error))?;
    let counts = Exported { number, ..Exported::default() };
    let mut packing = Packing { output: &output, writer, counts, sent: Vec::new() };
    packing.put_state(&store, home, now)?;
    packing.put_requests(&store)?;
    let Packing { writer, mut counts, sent, .. } = packing;
    let (file, written) = writer.finish().map_err(|error| output.refused(&error))?;
    file.sync_all().map_err(|error| away(path, &error))?;
    counts.length = written.length;
    output.keep()?;
    // A request that left is sent, as on the cable; if the file gets lost, the next one has it.
    let transaction = store.transaction()?;
    Queue(&transaction).mark_sent(&sent, now.unix_us)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(counts)
}

/// The next number, durable before any file has it; and the last answers that were taken in.
fn take_number(store: &mut Store, after: u64, now: Now) -> Result<(u64, u64), Failure> {
    let transaction = store.transaction()?;
    let mut bundles: Bundles = Notes(&transaction).read(BUNDLES)?.unwrap_or_default();
    let number = bundles.written.max(after).saturating_add(1);
    bundles.written = number;
    bundles.exports.push_back(Export { number, unix_us: now.unix_us });
    while bundles.exports.len() > EXPORTS_KEPT {
        bundles.exports.pop_front();
    }
    Notes(&transaction).write(BUNDLES, &bundles)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok((number, bundles.taken_in))
}

/// A bundle that is being filled.
struct Packing<'o> {
    output: &'o Output,
    writer: Writer<File>,
    counts: Exported,
    /// Requests that leave for the first time.
    sent: Vec<RequestId>,
}

impl Packing<'_> {
    /// What the signer should know and what is wished, all of it small: it always fits.
    fn put_state(&mut self, store: &Store, home: &Home, now: Now) -> Result<(), Failure> {
        let trusted = Catalogues(store.connection()).trusted()?;
        let marks = Inventory(store.connection()).serial_high()?;
        // The list is bounded by the authorities of one signer.
        let serial_high = marks.try_into().unwrap_or(List::empty());
        self.put(&Request::Catalogue(CatalogueQuery { have: trusted.catalogue, serial_high }))?;
        let (unix_us, synchronised) = (now.unix_us, now.synchronised);
        self.put(&Request::TimeHint(TimeHint { unix_us, round_trip_us: None, synchronised }))?;
        self.put(&Request::Status)?;
        let mut mirror = Mirror::new(home);
        for name in trusted.authorities.values().filter(|one| one.offered).flat_map(all_of) {
            let have = mirror.held(&name)?.map(|held| held.digest);
            let (authority, scope) = (name.authority, name.scope);
            self.put(&Request::FetchCrl(FetchCrl { authority, scope, have, resume: None }))?;
            self.counts.crls += 1;
        }
        let ids = Queue(store.connection()).unacknowledged(ACKNOWLEDGED_MAX)?;
        for some in ids.chunks(ACKNOWLEDGE_MAX) {
            let some = some.to_vec().try_into().unwrap_or(List::empty()); // cut to fit, above
            self.put(&Request::Acknowledge(some))?;
        }
        self.counts.acknowledged = ids.len() as u64;
        Ok(())
    }

    /// Revocations first, then the oldest; and those that wait for a person are asked about again.
    fn put_requests(&mut self, store: &Store) -> Result<(), Failure> {
        let queue = Queue(store.connection());
        for revocations in [true, false] {
            let mut after = 0;
            loop {
                let page = queue.open_after(revocations, after, PAGE)?;
                for OpenRequest { seq, state, request } in &page {
                    after = *seq;
                    if !self.put(request)? {
                        self.counts.left += 1;
                        continue;
                    }
                    let count = match revocations {
                        true => &mut self.counts.revocations,
                        false => &mut self.counts.requests,
                    };
                    *count += 1;
                    let first = request.request_id().filter(|_| *state == State::Queued);
                    self.sent.extend(first);
                }
                if page.len() < PAGE {
                    break;
                }
            }
        }
        for id in queue.held(HELD_MAX)? {
            if let Some(request) = queue.body(id)? {
                let fits = self.put(&request)?;
                self.counts.requests += u64::from(fits);
                self.counts.left += u64::from(!fits);
            }
        }
        Ok(())
    }

    /// Whether it fitted.
    fn put(&mut self, request: &Request) -> Result<bool, Failure> {
        let bytes = request.to_bytes().map_err(|_| StoreError::Damaged { what: "request" })?;
        match self.writer.add(&bytes) {
            Ok(()) => Ok(true),
            Err(BundleError::Full) => Ok(false),
            Err(error) => Err(self.output.refused(&error)),
        }
    }
}

/// The file of a bundle, whose place was free.
struct Output {
    path: PathBuf,
    new: Unfinished,
}

impl Output {
    fn create(path: &Path) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::Usage(format!(
                "`{}` is there already, and nothing is written over; name another file",
                path.display()
            )));
        }
        // It is sealed; at the signer another user opens it.
        let new = Unfinished::create(path, "unfinished", durable::PUBLIC).map_err(not_written)?;
        Ok(Self { path: path.to_owned(), new })
    }

    fn keep(self) -> Result<(), Failure> {
        self.new.put_in_place().map_err(not_written)?;
        durable::sync_directory(&self.path).map_err(not_written)
    }

    fn refused(&self, error: &BundleError) -> Failure {
        Failure::Away(format!("`{}`: {error}", self.path.display()))
    }
}

fn not_written(error: NotWritten) -> Failure {
    away(&error.path, &error.source)
}

fn away(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Away(format!(
        "cannot write `{}`: {error}; mount a medium with room, then run it again",
        path.display()
    ))
}

//------------ Import --------------------------------------------------------

/// What a bundle of answers brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Its number.
    pub number: u64,
    /// The bundle that it answers.
    pub answers: u64,
    /// Requests that got their outcome: done, refused, quarantined.
    pub done: u64,
    /// Refused by a rule.
    pub refused: u64,
    /// Set aside by the signer.
    pub quarantined: u64,
    /// Requests that wait for a person at the signer.
    pub held: u64,
    /// CRLs that were published.
    pub crls: u64,
    /// Requests that still have no answer.
    pub waiting: u64,
    /// Sentences for the operator.
    pub notes: Vec<String>,
    /// Whether something in it failed a check.
    pub doubtful: bool,
}

/// Takes a bundle of answers in.
pub fn import(home: &Home, path: &Path, now: Now) -> Result<Imported, Failure> {
    let _lock = home.lock()?;
    let pairing = home.link_keys().pairing()?;
    let refused = |bad: BadBundle| bad_file(path, bad);
    let file = File::open(path).map_err(|error| refused(error.into()))?;
    let reader = Reader::open(BufReader::new(file), &pairing, Side::Frontend).map_err(refused)?;
    let store = home.store()?;
    let bundles: Bundles = Notes(store.connection()).read(BUNDLES)?.unwrap_or_default();
    let (head, digest) = (reader.head(), reader.digest());
    check_number(path, &bundles, head, digest)?;
    let before = counts(&store)?;
    let carrier = Carrier::new(store, Mirror::new(home), LogCopy::new(home))?;
    let written = bundles.exports.iter().find(|export| export.number == head.answers);
    let mut intake = Intake {
        now,
        written_us: written.map(|export| export.unix_us),
        carrier,
        batch: Vec::new(),
        imported: Imported { number: head.number, answers: head.answers, ..Imported::default() },
    };
    let mut reader = reader;
    while let Some(bytes) = reader.next_message().map_err(|bad| bad_file(path, bad))? {
        intake.take(&bytes)?;
    }
    let Intake { carrier, mut imported, .. } = intake.finish()?;
    let failed = carrier.counters().disbelieved;
    drop(carrier);
    let mut store = home.store()?;
    finish(&mut store, bundles, head, digest, now)?;
    let after = counts(&store)?;
    imported.done = after[0] - before[0];
    imported.refused = after[1] - before[1];
    imported.quarantined = after[2] - before[2];
    imported.held = after[3];
    imported.waiting = Queue(store.connection()).waiting()?;
    if failed > 0 {
        imported.doubtful = true;
        imported.notes.push(format!(
            "{failed} answers failed their checks and were not stored; `frontend status` says \
             which and why"
        ));
    }
    Ok(imported)
}

fn bad_file(path: &Path, bad: BadBundle) -> Failure {
    let text = format!("`{}`: {bad}", path.display());
    match bad {
        BadBundle::Io(_) => Failure::Away(text),
        _ => Failure::BadFile(text),
    }
}

/// Refuses what was taken in before and what is older.
fn check_number(path: &Path, bundles: &Bundles, head: Head, digest: Digest) -> Result<(), Failure> {
    let Head { number, .. } = head;
    let (last, at) = (bundles.taken_in, Utc(bundles.taken_in_us));
    let name = path.display();
    if number > last {
        return Ok(());
    }
    let text = match number == last && bundles.taken_in_digest == Some(digest) {
        true => format!("`{name}`: answers number {number} were taken in at {at}; nothing to do"),
        false => format!(
            "`{name}`: answers number {number} are old: number {last} was taken in at {at}; what \
             is still open is in the next bundle, write it with `frontend bundle export`"
        ),
    };
    Err(Failure::BadFile(text))
}

/// Notes that the bundle was taken in, and that the signer has the acknowledgements of the bundle
/// that it answers.
fn finish(
    store: &mut Store,
    mut bundles: Bundles,
    head: Head,
    digest: Digest,
    now: Now,
) -> Result<(), Failure> {
    let transaction = store.transaction()?;
    if let Some(export) = bundles.exports.iter().find(|export| export.number == head.answers) {
        Queue(&transaction).mark_acknowledged_until(export.unix_us, ACKNOWLEDGED_MAX)?;
    }
    bundles.exports.retain(|export| export.number >= head.answers);
    // A store from a backup may have forgotten that it wrote that one.
    bundles.written = bundles.written.max(head.answers);
    bundles.taken_in = head.number;
    bundles.taken_in_digest = Some(digest);
    bundles.taken_in_us = now.unix_us;
    Notes(&transaction).write(BUNDLES, &bundles)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(())
}

/// Requests done, refused, quarantined, held.
fn counts(store: &Store) -> Result<[u64; 4], Failure> {
    let counts = Queue(store.connection()).counts()?;
    let of = |state| counts.iter().find(|row| row.0 == state).map_or(0, |row| row.1);
    Ok([State::Done, State::Refused, State::Quarantined, State::Held].map(of))
}

/// The answers of a bundle on their way to the carrier.
struct Intake {
    now: Now,
    /// When the bundle was written that these answer.
    written_us: Option<i64>,
    carrier: Carrier,
    batch: Vec<Answer>,
    imported: Imported,
}

impl Intake {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match Answer::from_bytes(bytes) {
            Ok(Answer::TimeHintTaken { unix_us }) => self.look_at_clock(unix_us),
            Ok(Answer::CrlPiece(piece)) => {
                self.flush()?;
                let name = crate::crl::CrlName::new(&piece.authority, piece.scope);
                match self.carrier.handle_bundled_piece(self.now, piece)? {
                    CrlNews::Coming | CrlNews::InPlace => {}
                    CrlNews::Published => self.imported.crls += 1,
                    CrlNews::NotPublished => self.imported.notes.push(format!(
                        "the CRL `{name}` was not published; `frontend status` says why, or it \
                         comes whole with the next bundle"
                    )),
                }
            }
            Ok(answer) => {
                self.batch.push(answer);
                if self.batch.len() >= BATCH_MAX {
                    self.flush()?;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "dropped bytes that are no answer");
                self.imported.doubtful = true;
                let text = "some of it is no answer that this program knows; upgrade it";
                if !self.imported.notes.iter().any(|note| note == text) {
                    self.imported.notes.push(text.to_owned());
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.batch.is_empty() {
            self.carrier.handle_bundled(self.now, std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Self, Failure> {
        self.flush()?;
        self.carrier.handle_down();
        Ok(self)
    }

    /// The signer answered after the bundle was written and before this moment, or a clock is
    /// wrong.
    fn look_at_clock(&mut self, signer_us: i64) {
        let early = self.written_us.is_some_and(|at| signer_us < at - CLOCK_TOLERANCE_US);
        if early || signer_us > self.now.unix_us + CLOCK_TOLERANCE_US {
            self.imported.notes.push(format!(
                "the signer's clock said {} when it answered, which is not between the writing of \
                 the bundle and now by this clock: one of the two is wrong, have the signer's set \
                 as in hsm-docs/time-visit.md",
                Utc(signer_us)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Head {
        Head { from: Side::Signer, number, answers: 1 }
    }

    // MEDIA-5: answers are taken in once, and nothing older.
    #[test]
    fn answers_are_taken_in_once_and_nothing_older() {
        let digest = Digest::of(b"taken in");
        let taken_in_digest = Some(digest);
        let bundles = Bundles { taken_in: 5, taken_in_digest, ..Bundles::default() };
        let check = |number, digest| {
            let checked = check_number(Path::new("f"), &bundles, head(number), digest);
            checked.map_err(|failure| failure.to_string())
        };
        assert_eq!(check(6, digest), Ok(()));
        assert!(check(5, digest).unwrap_err().contains("were taken in at"));
        assert!(check(5, Digest::of(b"other")).unwrap_err().contains("are old"));
        assert!(check(4, digest).unwrap_err().contains("are old"));
        assert!(check(0, digest).unwrap_err().contains("are old"));
    }

    #[test]
    fn numbers_rise_also_when_no_file_came_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let mut store = home.store().unwrap();
        let now = Now { instant: protocol::time::Instant::ZERO, unix_us: 7, synchronised: true };
        assert_eq!(take_number(&mut store, 0, now).unwrap(), (1, 0));
        assert_eq!(take_number(&mut store, 0, now).unwrap(), (2, 0));
        assert_eq!(take_number(&mut store, 90, now).unwrap(), (91, 0));
        assert_eq!(take_number(&mut store, 90, now).unwrap(), (92, 0));
        for _ in 0..2 * EXPORTS_KEPT {
            take_number(&mut store, 0, now).unwrap();
        }
        let bundles: Bundles = Notes(store.connection()).read(BUNDLES).unwrap().unwrap();
        assert_eq!(bundles.exports.len(), EXPORTS_KEPT);
    }

    // A webdb from a backup that takes answers in goes on above the bundle that they answer.
    #[test]
    fn answers_to_a_forgotten_bundle_raise_the_number() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let mut store = home.store().unwrap();
        let now = Now { instant: protocol::time::Instant::ZERO, unix_us: 7, synchronised: true };
        let head = Head { answers: 40, ..head(3) };
        finish(&mut store, Bundles::default(), head, Digest::of(b"x"), now).unwrap();
        assert_eq!(take_number(&mut store, 0, now).unwrap(), (41, 3));
    }

    #[test]
    fn nothing_is_written_over_and_an_unfinished_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests");
        drop(Output::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        Output::create(&path).unwrap().keep().unwrap();
        let error = Output::create(&path).err().unwrap();
        assert_eq!(error.exit_code(), 4);
    }
}
