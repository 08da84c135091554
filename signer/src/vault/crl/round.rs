//! One round of signing: the full CRL, the delta CRL and the shards that changed or are due, all
//! with one number and one time.
//!
//! The encoded entries stay in memory between rounds; a round merges what the ledger says has
//! changed. What may leave a CRL is decided here, by the profile's rule (invariant I8).

use protocol::message::{CrlScope, Digest};

use super::{files, refresh_s};
use crate::{
    authority::{
        Authority,
        crl::{self, Entries, Kind, Mark, Replacement},
    },
    calendar::{DAY_S, UnixTime},
    fault::Fault,
    ledger::{Change, CrlRow, Ledger},
    vault::lock,
};

/// More changes than this are not merged one by one: everything is read again, in one go.
const CHANGES_MAX: u64 = 20_000;

/// The encoded entries of one authority, and up to which change they are right.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: Option<Entries>,
    covers: i64,
}

/// The newest CRL of each scope before this round.
struct Before {
    full: Option<CrlRow>,
    delta: Option<CrlRow>,
    shards: Vec<Option<CrlRow>>,
}

impl Before {
    fn read(authority: &Authority, ledger: &Ledger) -> Result<Self, Fault> {
        let newest = |scope| ledger.newest_crl_of(authority.id(), scope);
        let shards = 0..authority.config().crl.shards;
        Ok(Self {
            full: newest(CrlScope::Full)?,
            delta: newest(CrlScope::Delta)?,
            shards: shards.map(|shard| newest(CrlScope::Shard(shard))).collect::<Result<_, _>>()?,
        })
    }

    fn of_shard(&self, shard: u16) -> Option<&CrlRow> {
        self.shards.get(usize::from(shard)).and_then(Option::as_ref)
    }

    /// Up to which change the CRLs of every scope are right.
    fn covered_by_all(&self) -> i64 {
        let shards = self.shards.iter().flatten();
        shards.chain(&self.full).map(|row| row.last_revocation).min().unwrap_or(0)
    }

    /// Whether an entry may still be listed by the full CRL or by its shard. Once it may not, it
    /// never may again: times and numbers only rise.
    fn may_list(&self, mark: &Mark) -> bool {
        let shard = mark.shard().filter(|shard| usize::from(*shard) < self.shards.len());
        is_listed(mark, self.full.as_ref())
            || shard.is_some_and(|shard| is_listed(mark, self.of_shard(shard)))
    }
}

/// Whether an entry is in the CRL that follows `before` in its scope: until one that was signed
/// after it may go has listed it.
fn is_listed(mark: &Mark, before: Option<&CrlRow>) -> bool {
    before.is_none_or(|before| {
        mark.stays_until >= before.this_update || i64::from(mark.seq) > before.last_revocation
    })
}

impl Cache {
    /// Brings the entries to where the ledger is.
    fn update(
        &mut self,
        authority: &Authority,
        ledger: &Ledger,
        before: &Before,
        upto: i64,
    ) -> Result<(), Fault> {
        let id = authority.id();
        let from = if self.entries.is_some() { self.covers } else { before.covered_by_all() };
        if ledger.changes_after(id, from)? > CHANGES_MAX {
            // All count as new: what should have left is listed once more, and nothing is lost.
            self.entries = None;
            self.entries = Some(read_all(authority, ledger, upto, |_| true)?);
        } else {
            let mut entries = match self.entries.take() {
                Some(entries) => entries,
                None => read_all(authority, ledger, 0, |mark| before.may_list(mark))?,
            };
            let changes = ledger.changes(id, from, upto)?;
            let replacements: Vec<_> =
                changes.into_iter().map(|change| replacement(authority, change)).collect();
            entries.merge(&replacements, |mark| before.may_list(mark));
            self.entries = Some(entries);
        }
        self.covers = upto;
        Ok(())
    }
}

/// Everything that is revoked and `kept`, encoded; `seq` stands for the change that brought it.
fn read_all(
    authority: &Authority,
    ledger: &Ledger,
    seq: i64,
    kept: impl Fn(&Mark) -> bool,
) -> Result<Entries, Fault> {
    let mut entries = Entries::default();
    ledger.for_each_revoked(authority.id(), |revocation| {
        let stays_until = authority.stays_until(&revocation);
        let (entry, mark) = crl::encoded(&revocation, stays_until, seq);
        if kept(&mark) {
            entries.push_encoded(&entry, mark);
        }
        Ok(())
    })?;
    Ok(entries)
}

fn replacement(authority: &Authority, change: Change) -> Replacement {
    let entry = change.revocation.map(|revocation| {
        crl::encoded(&revocation, authority.stays_until(&revocation), change.seq)
    });
    Replacement { serial: change.serial, entry }
}

/// Signs the CRLs that take in every change that the ledger has, stores them, makes them the
/// newest; the full one comes first.
pub(crate) fn sign(
    authority: &Authority,
    ledger: &mut Ledger,
    cache: &mut Cache,
    time: UnixTime,
) -> Result<Vec<CrlRow>, Fault> {
    // One at a time: the console may sign beside the vault.
    let _lock = lock(authority)?;
    let number = spend_number(authority, ledger, time)?;
    let covers = ledger.last_revocation(authority.id())?;
    let before = Before::read(authority, ledger)?;
    cache.update(authority, ledger, &before, covers)?;
    let entries = cache.entries.as_ref();
    let entries = entries.ok_or_else(|| Fault::Internal("a CRL without its entries".into()))?;
    let round = Round { authority, ledger, before: &before, entries, number, covers, time };
    let mut rows = vec![round.full()?];
    let base = if authority.config().crl.delta { round.base()? } else { None };
    if let Some(base) = &base {
        rows.push(round.delta(base)?);
    }
    for shard in round.due_shards()? {
        rows.push(round.shard(shard)?);
    }

    let mut tx = ledger.begin(time)?;
    for row in &rows {
        tx.store_crl(authority.id(), row)?;
    }
    tx.commit()?;
    for row in &rows {
        files::show(authority, row)?;
    }
    files::write_number(authority, number)?;
    files::remove_old(authority, ledger, number, base.map(|base| base.number))?;
    Ok(rows)
}

/// Takes the next number, on disk before anything is signed with it.
fn spend_number(authority: &Authority, ledger: &mut Ledger, time: UnixTime) -> Result<u64, Fault> {
    let (_, ours) = ledger.counters(authority.id())?;
    let theirs = files::foreign_number(authority, ours);
    let tx = ledger.begin(time)?;
    tx.raise_crl_number(authority.id(), theirs.map_or(0, |next| next.saturating_sub(1)))?;
    let number = tx.next_crl_number(authority.id())?;
    tx.commit()?;
    Ok(number)
}

struct Round<'a> {
    authority: &'a Authority,
    ledger: &'a Ledger,
    before: &'a Before,
    entries: &'a Entries,
    number: u64,
    covers: i64,
    time: UnixTime,
}

impl Round<'_> {
    fn full(&self) -> Result<CrlRow, Fault> {
        let kind = Kind::Full { fresh: &self.authority.config().crl.delta_urls };
        self.make(CrlScope::Full, &kind, self.entries, |mark| self.in_full(mark), None)
    }

    fn in_full(&self, mark: &Mark) -> bool {
        is_listed(mark, self.before.full.as_ref())
    }

    /// The full CRL that a delta CRL of this round changes: the last scheduled refresh, which is
    /// the first full CRL that was signed a refresh interval after the base before it.
    fn base(&self) -> Result<Option<CrlRow>, Fault> {
        let (id, newest) = (self.authority.id(), self.before.full.clone());
        let used = match self.before.delta.as_ref().and_then(|delta| delta.base) {
            Some(number) => self.ledger.full_crl(id, number)?,
            None => None,
        };
        Ok(match (used, newest) {
            (Some(used), Some(newest))
                if newest.this_update.0 - used.this_update.0 < refresh_s(self.authority) =>
            {
                Some(used)
            }
            (_, newest) => newest,
        })
    }

    fn delta(&self, base: &CrlRow) -> Result<CrlRow, Fault> {
        let mut entries = Entries::default();
        let id = self.authority.id();
        for change in self.ledger.changes(id, base.last_revocation, self.covers)? {
            let seq = change.seq;
            match change.revocation {
                Some(revocation) => {
                    let stays_until = self.authority.stays_until(&revocation);
                    let (entry, mark) = crl::encoded(&revocation, stays_until, seq);
                    // What left the full CRL has expired, and was in one past its expiry.
                    if self.in_full(&mark) {
                        entries.push_encoded(&entry, mark);
                    }
                }
                None => {
                    let (entry, mark) = crl::removal(&change.serial, self.time);
                    entries.push_encoded(&entry, mark);
                }
            }
        }
        let kind = Kind::Delta { base: base.number };
        self.make(CrlScope::Delta, &kind, &entries, |_| true, Some(base.number))
    }

    /// The shards without a CRL, with a change, or older than half the refresh interval: so they
    /// are refreshed together with the full CRL, and none becomes older than the interval.
    fn due_shards(&self) -> Result<Vec<u16>, Fault> {
        let count = self.authority.config().crl.shards;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut due: Vec<bool> = (0..count)
            .map(|shard| match self.before.of_shard(shard) {
                Some(row) => (self.time.0 - row.this_update.0) * 2 >= refresh_s(self.authority),
                None => true,
            })
            .collect();
        let covered = self.before.shards.iter().flatten().map(|row| row.last_revocation).min();
        let id = self.authority.id();
        for change in self.ledger.changes(id, covered.unwrap_or(self.covers), self.covers)? {
            let Some(shard) = change.shard else { continue };
            let unseen =
                self.before.of_shard(shard).is_none_or(|row| change.seq > row.last_revocation);
            if let Some(due) = due.get_mut(usize::from(shard)) {
                *due |= unseen;
            }
        }
        Ok((0..count).zip(due).filter(|(_, due)| *due).map(|(shard, _)| shard).collect())
    }

    fn shard(&self, shard: u16) -> Result<CrlRow, Fault> {
        let urls = self.authority.shard_urls(shard);
        let before = self.before.of_shard(shard);
        let listed = |mark: &Mark| mark.shard() == Some(shard) && is_listed(mark, before);
        let kind = Kind::Shard { urls: &urls };
        self.make(CrlScope::Shard(shard), &kind, self.entries, listed, None)
    }

    /// Signs and stores one CRL. Its bytes are gone from memory when this returns.
    fn make(
        &self,
        scope: CrlScope,
        kind: &Kind<'_>,
        entries: &Entries,
        listed: impl Fn(&Mark) -> bool,
        base: Option<u64>,
    ) -> Result<CrlRow, Fault> {
        let days = i64::from(self.authority.config().crl.next_update_days);
        let times = (self.time, UnixTime(self.time.0 + days * DAY_S));
        let issuer = self.authority.issuer();
        let unsigned = crl::certificate_list(issuer, self.number, times, kind, entries, listed);
        let count = unsigned.entries();
        let der = self.authority.sign_crl(unsigned)?;
        let row = CrlRow {
            scope,
            number: self.number,
            this_update: times.0,
            next_update: times.1,
            entries: count,
            last_revocation: self.covers,
            digest: Digest::of(&der),
            length: der.len() as u64,
            base,
        };
        files::store(self.authority, &row, &der)?;
        Ok(row)
    }
}

/// The entries of the next full CRL and those that it leaves out, without signing anything.
pub(super) fn preview(
    authority: &Authority,
    ledger: &Ledger,
) -> Result<(Entries, impl Fn(&Mark) -> bool), Fault> {
    let covers = ledger.last_revocation(authority.id())?;
    let before = Before::read(authority, ledger)?;
    let mut cache = Cache::default();
    cache.update(authority, ledger, &before, covers)?;
    let entries = cache.entries.unwrap_or_default();
    Ok((entries, move |mark: &Mark| is_listed(mark, before.full.as_ref())))
}
