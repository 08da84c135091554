//! When to ask for the audit log, what to take of it, and what to do when it is another log.
//!
//! One question at a time, on the lane that yields to all others. A piece is stored only if every
//! entry in it follows the one before it. A signer that does not have the remembered entry is asked
//! where the two logs part; from there on a second book is kept, beside the first.

use protocol::{
    message::{Digest, FetchLog, LogPiece},
    time::{Duration, Instant},
};
use rusqlite::Connection;

use super::{
    AUDIT, AUDIT_CHAIN, AUDIT_COPY,
    chain::{ChainError, End},
    copy::{Book, CopyError, ENTRY_MAX, Heard, LogCopy, Memory},
};
use crate::{
    clock::Now,
    store::{Alarms, Notes, StoreError},
};

/// The log that is being fetched.
#[derive(Debug)]
pub struct LogFetch {
    copy: LogCopy,
    /// What is remembered; none before it was read.
    memory: Option<Memory>,
    /// What has come of the entry behind the last.
    partial: Vec<u8>,
    asked: Option<Asked>,
    due: Instant,
    search: Option<Search>,
    progress: Progress,
}

#[derive(Debug)]
struct Asked {
    question: FetchLog,
    at: Instant,
}

/// Looks for the last entry that both logs have.
#[derive(Debug)]
struct Search {
    /// Both have this one.
    low: End,
    /// They differ here.
    high: u64,
    /// Where the signer's log ended when the search began.
    signer_last: u64,
    /// Whether the entry before `high` was tried: a log that was cut has it.
    began: bool,
}

/// How far the present connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was asked yet.
    Waiting,
    /// Asked since then.
    Fetching(Instant),
    /// Everything is here, or it cannot be had now.
    Done,
}

/// Why a piece was not stored.
enum TakeError {
    Chain(ChainError),
    Copy(CopyError),
}

impl LogFetch {
    /// Nothing is read before a signer is there.
    pub fn new(copy: LogCopy) -> Self {
        Self {
            copy,
            memory: None,
            partial: Vec::new(),
            asked: None,
            due: Instant::ZERO,
            search: None,
            progress: Progress::Waiting,
        }
    }

    /// A new connection.
    pub fn handle_up(&mut self, now: Instant) {
        self.asked = None;
        self.due = self.due.min(now);
        self.progress = Progress::Waiting;
    }

    /// The connection ended; what was stored stays.
    pub fn handle_down(&mut self) {
        self.asked = None;
    }

    /// The question could not be handed over.
    pub fn handle_unsent(&mut self, now: Instant) {
        self.asked = None;
        self.due = now + UNSENT_PAUSE;
    }

    /// Whether a program that ends when nothing is left to do should wait for the log: for a
    /// moment only, the rest comes another time.
    pub fn holds(&self, now: Instant) -> bool {
        match self.progress {
            Progress::Waiting => true,
            Progress::Fetching(since) => now.saturating_since(since) < HOLD_MAX,
            Progress::Done => false,
        }
    }

    /// When [`poll_ask`](Self::poll_ask) has something new at the latest.
    pub fn poll_timeout(&self, idle: bool) -> Instant {
        match (&self.asked, idle) {
            (Some(asked), _) => asked.at + ANSWER_PATIENCE,
            (None, true) => self.due,
            (None, false) => self.due + BUSY_PATIENCE,
        }
    }

    /// The next question, if one should be asked now.
    pub fn poll_ask(
        &mut self,
        now: Now,
        idle: bool,
        store: &Connection,
    ) -> Result<Option<FetchLog>, StoreError> {
        if now.instant < self.poll_timeout(idle) {
            return Ok(None);
        }
        self.asked = None;
        if self.memory.is_none() {
            self.open(now, store)?;
        }
        let Some(question) = self.next_question(now, store)? else { return Ok(None) };
        self.asked = Some(Asked { question, at: now.instant });
        if self.progress == Progress::Waiting {
            self.progress = Progress::Fetching(now.instant);
        }
        Ok(Some(question))
    }

    /// Takes a piece; says whether it was asked for.
    pub fn handle_piece(
        &mut self,
        now: Now,
        piece: &LogPiece,
        store: &Connection,
    ) -> Result<bool, StoreError> {
        let fits = |asked: &mut Asked| {
            let FetchLog { after, offset, .. } = asked.question;
            piece.first == after.saturating_add(1) && (piece.offset == offset || piece.offset == 0)
        };
        let Some(asked) = self.asked.take_if(fits) else { return Ok(false) };
        let Some(memory) = self.memory.as_mut() else { return Ok(false) };
        memory.heard = Some(Heard { last: piece.last, head: piece.head, at_us: now.unix_us });
        self.due = now.instant + PIECE_PAUSE;
        if let Some(search) = &mut self.search {
            let FetchLog { after, head, .. } = asked.question;
            search.low = End { last: after, head: head.unwrap_or(End::ORIGIN.head) };
            self.part_if_found(now, store)?;
            return Ok(true);
        }
        if piece.offset == 0 {
            self.partial.clear();
        }
        match take(&self.copy, memory, &mut self.partial, piece) {
            Ok(()) => {
                Notes(store).write(AUDIT, &*memory)?;
                Alarms(store).clear(AUDIT_CHAIN)?;
                Alarms(store).clear(AUDIT_COPY)?;
                if memory.book().last == piece.last {
                    self.pause(now.instant);
                }
            }
            Err(TakeError::Chain(error)) => {
                // A part may be what breaks the chain. If its file stays, that is found out again.
                self.partial.clear();
                let _ = self.copy.keep_partial(memory.books.len(), &[]);
                self.pause(now.instant);
                let text = format!(
                    "the signer's audit log came with a break in its chain: {error}; nothing of it \
                     was stored, run `signer store check` there"
                );
                tracing::error!(%error, "a piece of the audit log was rejected");
                Alarms(store).raise(AUDIT_CHAIN, &text, now.unix_us)?;
            }
            Err(TakeError::Copy(error)) => {
                // Its memory may be ahead of the disk: both are looked at anew.
                self.memory = None;
                self.tell_copy(now, &error, store)?;
            }
        }
        Ok(true)
    }

    /// The signer does not have the entry that was named; says whether that was asked.
    pub fn handle_differs(
        &mut self,
        now: Now,
        last: u64,
        head: Digest,
        store: &Connection,
    ) -> Result<bool, StoreError> {
        // Every log begins with nothing: no signer differs there.
        let Some(asked) = self.asked.take_if(|asked| asked.question.after > 0) else {
            return Ok(false);
        };
        let Some(memory) = self.memory.as_mut() else { return Ok(false) };
        memory.heard = Some(Heard { last, head, at_us: now.unix_us });
        self.due = now.instant + PIECE_PAUSE;
        let after = asked.question.after;
        match &mut self.search {
            Some(search) => search.high = search.high.min(after),
            None => {
                let text = differs(memory.book(), last);
                tracing::error!(
                    remembered = after,
                    signer = last,
                    "the signer's audit log is not the one that was remembered"
                );
                Alarms(store).raise(AUDIT, &text, now.unix_us)?;
                // Behind the signer's end there is nothing to compare.
                let high = after.min(last.saturating_add(1));
                let low = End::ORIGIN;
                self.search = Some(Search { low, high, signer_last: last, began: false });
                self.partial.clear();
            }
        }
        self.part_if_found(now, store)?;
        Ok(true)
    }

    /// Reads what is remembered, and what stands in the files.
    fn open(&mut self, now: Now, store: &Connection) -> Result<(), StoreError> {
        let note: Option<Memory> = Notes(store).read(AUDIT)?;
        let mut memory = note
            .filter(|memory| !memory.books.is_empty())
            .unwrap_or_else(|| Memory::new(now.unix_us));
        let (number, book) = memory.current();
        let noted = book.last;
        match self.copy.recover(number, book) {
            Ok(()) => {}
            Err(error @ CopyError::Io { .. }) => return self.tell_copy(now, &error, store),
            Err(error) => {
                let text = format!(
                    "the copy of the signer's audit log was damaged here: {error}; restore the \
                     file, or keep what is left, and take the alarm down with `frontend audit \
                     accept`"
                );
                tracing::error!(%error, "the copy of the audit log is damaged, a new book is begun");
                Alarms(store).raise(AUDIT, &text, now.unix_us)?;
                let base = book.end();
                memory.books.push(Book::new(base, now.unix_us, Some(error.to_string())));
                Notes(store).write(AUDIT, &memory)?;
            }
        }
        // After a kill the part may be of an entry that is whole by now.
        let number = memory.books.len();
        let partial = match memory.book().last == noted {
            true => self.copy.partial(number),
            false => self.copy.keep_partial(number, &[]).map(|()| Vec::new()),
        };
        match partial {
            Ok(partial) => self.partial = partial,
            Err(error) => return self.tell_copy(now, &error, store),
        }
        self.memory = Some(memory);
        Ok(())
    }

    /// What to ask: where the copy ends, or in the middle of where the logs may part.
    fn next_question(
        &mut self,
        now: Now,
        store: &Connection,
    ) -> Result<Option<FetchLog>, StoreError> {
        while let (Some(search), Some(memory)) = (&mut self.search, &self.memory) {
            let middle = match search.began {
                false => search.high - 1,
                true => search.low.last + (search.high - search.low.last) / 2,
            };
            search.began = true;
            if let Ok(Some(head)) = self.copy.hash_of(memory, middle) {
                return Ok(Some(FetchLog { after: middle, head: Some(head), offset: 0 }));
            }
            // What cannot be read cannot be compared: it counts as different, and is fetched again.
            search.high = middle;
            self.part_if_found(now, store)?;
        }
        let Some(memory) = &self.memory else { return Ok(None) };
        let End { last, head } = memory.book().end();
        let offset = self.partial.len() as u64;
        Ok(Some(FetchLog { after: last, head: (last > 0).then_some(head), offset }))
    }

    /// Begins a book where the logs part, once that is known.
    fn part_if_found(&mut self, now: Now, store: &Connection) -> Result<(), StoreError> {
        let (Some(search), Some(memory)) = (&self.search, &mut self.memory) else { return Ok(()) };
        if search.low.last + 1 < search.high {
            return Ok(());
        }
        let (low, signer_last) = (search.low, search.signer_last);
        self.search = None;
        if memory.books.len() >= BOOKS_MAX {
            self.pause(now.instant);
            return Ok(());
        }
        let ours = memory.book().last;
        let why = format!(
            "the signer's log ended at entry {signer_last} and had none of our entries {} to {ours}",
            low.last + 1
        );
        tracing::warn!(entry = low.last, "the logs part here, a new book is begun");
        memory.books.push(Book::new(low, now.unix_us, Some(why)));
        Notes(store).write(AUDIT, &*memory)
    }

    fn tell_copy(
        &mut self,
        now: Now,
        error: &CopyError,
        store: &Connection,
    ) -> Result<(), StoreError> {
        self.pause(now.instant);
        let text = format!(
            "the copy of the signer's audit log cannot be kept: {error}; it is tried again in a \
             minute"
        );
        tracing::error!(%error, "the copy of the audit log cannot be kept");
        Alarms(store).raise(AUDIT_COPY, &text, now.unix_us)
    }

    fn pause(&mut self, now: Instant) {
        self.due = now + PERIOD;
        self.progress = Progress::Done;
    }
}

/// Checks a piece against the end of the copy, and stores it.
fn take(
    copy: &LogCopy,
    memory: &mut Memory,
    partial: &mut Vec<u8>,
    piece: &LogPiece,
) -> Result<(), TakeError> {
    let (number, book) = memory.current();
    let mut end = book.end();
    let unreadable = |number: u64, why: &str| {
        TakeError::Chain(ChainError::Unreadable { number, why: why.to_owned() })
    };
    if piece.bytes.is_empty() && piece.last != end.last {
        return Err(unreadable(end.last + 1, "nothing came of it"));
    }
    let had_partial = !partial.is_empty();
    partial.extend_from_slice(&piece.bytes);
    let whole = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = partial.split_off(whole);
    let lines = std::mem::replace(partial, rest);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        end.follow(&line[..line.len() - 1]).map_err(TakeError::Chain)?;
    }
    // What the signer says of its end must be so.
    let lies = end.last > piece.last || end.last == piece.last && end.head != piece.head;
    if lies || partial.len() >= ENTRY_MAX || end.last == piece.last && !partial.is_empty() {
        return Err(TakeError::Chain(ChainError::Head { number: end.last }));
    }
    if !lines.is_empty() {
        copy.append(number, book, &lines, end).map_err(TakeError::Copy)?;
    }
    if had_partial || !partial.is_empty() {
        copy.keep_partial(number, partial).map_err(TakeError::Copy)?;
    }
    Ok(())
}

/// The sentence about a log that is not the remembered one.
fn differs(book: &Book, signer_last: u64) -> String {
    let ours = book.last;
    let what = match signer_last < ours {
        true => format!("it ends at entry {signer_last}"),
        false => format!("another entry {ours} stands in it"),
    };
    format!(
        "the signer's audit log is not the one that was remembered up to entry {ours}: {what}; it \
         was cut or changed, or the signer was restored from a backup; both logs are kept, do as \
         hsm-docs/audit.md says"
    )
}

/// A copy that is whole is compared and continued this often.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Between two pieces: the signer reads its disk for each.
const PIECE_PAUSE: Duration = Duration::from_millis(10);
/// While requests are under way the log waits for so long; then its lane carries what it can.
const BUSY_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A program that ends when nothing is left to do waits for the log for so long.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// The lane was full.
const UNSENT_PAUSE: Duration = Duration::from_secs(1);
/// Bulk yields to everything else, so a piece may take long; after this it is asked for again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
/// A signer whose log becomes another so often is not copied any more; the alarm stands.
const BOOKS_MAX: usize = 100;
