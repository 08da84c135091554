//! When to ask for which CRL, and the pieces of the one that is coming.
//!
//! One CRL at a time, a few pieces asked ahead so that the cable is never idle. A cut costs no
//! more than the pieces under way: what arrived stays in the mirror's unfinished transfer. No
//! I/O but the mirror's files, no clock.

use std::collections::BTreeMap;

use protocol::{
    message::{CrlPiece, Digest, FetchCrl},
    patch,
    time::{Duration, Instant},
};

use crate::{
    catalogue::Authority,
    crl::{
        CRL_MAX, CrlName, all_of,
        list::{self, CrlError, Expected, Facts, VerifiedCrl},
        mirror::{Mirror, MirrorError, Transfer},
        promise,
    },
    inventory::Inventory,
    store::StoreError,
};

/// The CRLs to be fetched.
#[derive(Debug, Default)]
pub struct Fetches {
    due: BTreeMap<CrlName, Instant>,
    failures: BTreeMap<CrlName, u32>,
    current: Option<Fetch>,
}

/// The one that is coming.
#[derive(Debug)]
struct Fetch {
    name: CrlName,
    have: Option<Digest>,
    transfer: Option<Transfer>,
    received: u64,
    next_ask: u64,
    /// How long the signer's pieces are, once one has come in this connection.
    stride: Option<u64>,
    /// Questions without an answer yet.
    asked: usize,
    heard_at: Instant,
}

/// What a piece was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It belongs to a transfer that was asked for.
    Used,
    /// Nobody asked for it.
    Stray,
    /// It is empty or announces a length that no CRL has; the transfer is given up for a while.
    Insane,
}

/// What became of a finished transfer.
#[derive(Debug)]
pub enum Outcome {
    /// The CRL is in place.
    Installed(Facts),
    /// The patch did not fit what is here; the whole CRL is asked for now.
    AskedInFull,
    /// It failed a check and stays out.
    Bad(CrlError),
    /// The bytes that came are not the ones that were announced, even in full.
    Unusable,
}

impl Fetches {
    /// A new connection: every CRL is looked at.
    pub fn handle_up(&mut self, now: Instant, names: impl Iterator<Item = CrlName>) {
        self.current = None;
        self.due = names.map(|name| (name, now)).collect();
    }

    /// The connection ended; what arrived is kept on disk.
    pub fn handle_down(&mut self) {
        self.current = None;
    }

    /// Asks for the CRL of `name` as soon as possible.
    pub fn want(&mut self, name: &CrlName, now: Instant) {
        self.due.insert(name.clone(), now);
    }

    /// Asks for the CRL of `name` again in a moment: the signer has not yet signed what it
    /// acknowledged.
    pub fn want_soon(&mut self, name: &CrlName, now: Instant) {
        let soon = now + SOON;
        let due = self.due.entry(name.clone()).or_insert(soon);
        *due = soon.min(*due);
    }

    /// Pieces of the CRL of `name` come without a question: they are in a bundle.
    pub fn expect(
        &mut self,
        name: &CrlName,
        now: Instant,
        mirror: &mut Mirror,
    ) -> Result<(), MirrorError> {
        if self.current.as_ref().is_none_or(|fetch| fetch.name != *name) {
            self.current = Some(Fetch::start(name.clone(), now, mirror)?);
        }
        Ok(())
    }

    /// Whether nothing is under way or due.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.current.is_none() && self.due.values().all(|at| *at > now)
    }

    /// Whether one is coming.
    pub fn is_fetching(&self) -> bool {
        self.current.is_some()
    }

    /// Whether the last attempt for some CRL failed.
    pub fn is_failing(&self) -> bool {
        !self.failures.is_empty()
    }

    /// When [`poll_ask`](Self::poll_ask) has something new at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.current {
            Some(fetch) => Some(fetch.heard_at + ANSWER_PATIENCE),
            None => self.due.values().min().copied(),
        }
    }

    /// The next question, if one should be asked now.
    pub fn poll_ask(
        &mut self,
        now: Instant,
        mirror: &mut Mirror,
    ) -> Result<Option<FetchCrl>, MirrorError> {
        if self.current.is_none() {
            let due = self.due.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at);
            let Some(name) = due.map(|(name, _)| name.clone()) else { return Ok(None) };
            self.due.remove(&name);
            self.current = Some(Fetch::start(name, now, mirror)?);
        }
        Ok(self.current.as_mut().and_then(|fetch| fetch.next_question(now)))
    }

    /// The question could not be handed over; it is asked again later.
    pub fn handle_unasked(&mut self, question: &FetchCrl) {
        let Some(fetch) = self.current.as_mut() else { return };
        if fetch.name == CrlName::new(&question.authority, question.scope) {
            fetch.asked = fetch.asked.saturating_sub(1);
            if let Some((_, offset)) = question.resume {
                fetch.next_ask = offset;
            }
        }
    }

    /// The CRL in place is the newest, or there is none. Says whether that was asked.
    pub fn handle_nothing_new(&mut self, name: &CrlName, now: Instant) -> bool {
        if self.current.as_ref().is_none_or(|fetch| fetch.name != *name) {
            return false;
        }
        self.current = None;
        self.succeed(name, now);
        true
    }

    /// Takes a piece.
    pub fn handle_piece(
        &mut self,
        now: Instant,
        piece: &CrlPiece,
        mirror: &Mirror,
    ) -> Result<Taken, MirrorError> {
        let name = &CrlName::new(&piece.authority, piece.scope);
        let Some(fetch) = self.current.as_mut().filter(|fetch| fetch.name == *name) else {
            return Ok(Taken::Stray);
        };
        let sane = (1..=CRL_MAX).contains(&piece.packed_length) && piece.crl_length <= CRL_MAX;
        if !sane || piece.bytes.is_empty() {
            self.current = None;
            self.fail(name, now);
            return Ok(Taken::Insane);
        }
        fetch.heard_at = now;
        fetch.take(piece, mirror)?;
        Ok(Taken::Used)
    }

    /// The CRL that has arrived in whole, if one has.
    pub fn complete(&self) -> Option<&CrlName> {
        let fetch = self.current.as_ref()?;
        let transfer = fetch.transfer.as_ref()?;
        (fetch.received == transfer.packed_length).then_some(&fetch.name)
    }

    /// Unpacks, checks and publishes what [`complete`](Self::complete) named.
    pub fn finish(
        &mut self,
        now: Instant,
        authority: &Authority,
        inventory: &Inventory<'_>,
        mirror: &mut Mirror,
    ) -> Result<Option<Outcome>, FetchError> {
        let Some(Fetch { name, transfer: Some(transfer), .. }) = self.current.take() else {
            return Ok(None);
        };
        let unpacked = unpack(&name, &transfer, mirror)?;
        mirror.discard(&name)?;
        let Some(bytes) = unpacked else {
            if transfer.have.is_some() {
                let mut fetch = Fetch::start(name, now, mirror)?;
                fetch.have = None;
                self.current = Some(fetch);
                return Ok(Some(Outcome::AskedInFull));
            }
            self.fail(&name, now);
            return Ok(Some(Outcome::Unusable));
        };
        match check(bytes, &name, &transfer, authority, inventory, mirror)? {
            Ok(crl) => {
                mirror.install(&name, &crl)?;
                self.succeed(&name, now);
                Ok(Some(Outcome::Installed(crl.facts().clone())))
            }
            Err(error) => {
                self.fail(&name, now);
                Ok(Some(Outcome::Bad(error)))
            }
        }
    }

    fn succeed(&mut self, name: &CrlName, now: Instant) {
        self.failures.remove(name);
        // A wish that came in the meantime is earlier and stays.
        self.due.entry(name.clone()).or_insert(now + PERIOD);
    }

    fn fail(&mut self, name: &CrlName, now: Instant) {
        let failures = self.failures.entry(name.clone()).or_insert(0);
        let pause = (RETRY_FIRST * 2u32.saturating_pow(*failures)).min(PERIOD);
        *failures = failures.saturating_add(1).min(16);
        self.due.entry(name.clone()).or_insert(now + pause);
    }
}

/// Why a finished transfer could not be worked off.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The CRL files failed.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a CRL against its authority, the one in place, and what was promised.
fn check(
    bytes: Vec<u8>,
    name: &CrlName,
    transfer: &Transfer,
    authority: &Authority,
    inventory: &Inventory<'_>,
    mirror: &mut Mirror,
) -> Result<Result<VerifiedCrl, CrlError>, FetchError> {
    let held = mirror.held(name)?;
    let mut taken = Vec::new();
    for other in all_of(authority).filter(|other| other != name) {
        taken.extend(mirror.held(&other)?.into_iter().flat_map(|facts| facts.points));
    }
    let announced = transfer.crl_number;
    let expected = Expected { scope: name.scope, announced, held: held.as_ref(), taken: &taken };
    let signed = match list::verify(bytes, authority, &expected) {
        Ok(signed) => signed,
        Err(error) => return Ok(Err(error)),
    };
    let in_place = mirror.read(name)?;
    let missing = promise::missing(inventory, name, in_place.as_deref(), &signed)?;
    Ok(signed.keeping(missing))
}

/// The CRL in the transfer, if its bytes and their patch are right; `None` if the whole CRL has
/// to be asked for.
fn unpack(
    name: &CrlName,
    transfer: &Transfer,
    mirror: &Mirror,
) -> Result<Option<Vec<u8>>, MirrorError> {
    let packed = mirror.packed(name)?;
    if Digest::of(&packed) != transfer.packed_digest {
        return Ok(None);
    }
    let held = mirror.read(name)?;
    let resolve = |wanted| held.as_deref().filter(|held| patch::ReferenceName::of(held) == wanted);
    let length_max = usize::try_from(transfer.crl_length.min(CRL_MAX)).unwrap_or(usize::MAX);
    let unpacked = patch::unpack(&packed, resolve, length_max).ok();
    Ok(unpacked.filter(|bytes| Digest::of(bytes) == transfer.crl_digest))
}

impl Fetch {
    fn start(name: CrlName, now: Instant, mirror: &mut Mirror) -> Result<Self, MirrorError> {
        let have = mirror.held(&name)?.map(|held| held.digest);
        let unfinished = mirror.unfinished(&name)?;
        // A transfer against a CRL that is no longer in place could not be unpacked.
        let unfinished =
            unfinished.filter(|(transfer, _)| transfer.have.is_none() || transfer.have == have);
        let (transfer, received) = match unfinished {
            Some((transfer, received)) => (Some(transfer), received),
            None => (None, 0),
        };
        let have = transfer.as_ref().map_or(have, |transfer| transfer.have);
        Ok(Self {
            name,
            have,
            transfer,
            received,
            next_ask: received,
            stride: None,
            asked: 0,
            heard_at: now,
        })
    }

    fn next_question(&mut self, now: Instant) -> Option<FetchCrl> {
        if self.asked > 0 && now.saturating_since(self.heard_at) >= ANSWER_PATIENCE {
            // The answers are lost somewhere behind the cable; pieces that come twice do no harm.
            self.asked = 0;
            self.next_ask = self.received;
        }
        // Where the piece after the next begins is known when one has come.
        let ahead = if self.stride.is_some() { AHEAD } else { 1 };
        let resume = match &self.transfer {
            None if self.asked == 0 => None,
            Some(transfer) if self.asked < ahead && self.next_ask < transfer.packed_length => {
                Some((transfer.packed_digest, self.next_ask))
            }
            _ => return None,
        };
        if self.asked == 0 {
            self.heard_at = now;
        }
        self.asked += 1;
        if resume.is_some() {
            self.next_ask += self.stride.unwrap_or(0);
        }
        let CrlName { authority, scope } = self.name.clone();
        Some(FetchCrl { authority, scope, have: self.have, resume })
    }

    fn take(&mut self, piece: &CrlPiece, mirror: &Mirror) -> Result<(), MirrorError> {
        self.asked = self.asked.saturating_sub(1);
        let same = |transfer: &Transfer| transfer.packed_digest == piece.packed_digest;
        if piece.offset == 0 && !self.transfer.as_ref().is_some_and(same) {
            self.switch(piece, mirror)?;
        }
        // An answer to a question about the transfer before this one is of no use any more.
        let transfer = self.transfer.as_ref().filter(|transfer| same(transfer));
        let length = piece.bytes.len() as u64;
        let room = transfer.map_or(0, |transfer| transfer.packed_length - self.received);
        if piece.offset == self.received && length <= room {
            mirror.append(&self.name, &piece.bytes)?;
            self.received += length;
            if length < room {
                self.stride = Some(length);
            }
            self.next_ask = self.next_ask.max(self.received);
        } else if self.asked == 0 {
            // Nothing under way fits on; go on from what is here.
            self.next_ask = self.received;
        }
        Ok(())
    }

    /// The signer sends a newer CRL, from its beginning.
    fn switch(&mut self, piece: &CrlPiece, mirror: &Mirror) -> Result<(), MirrorError> {
        (self.received, self.next_ask) = (0, 0);
        let transfer = Transfer {
            crl_number: piece.crl_number,
            crl_digest: piece.crl_digest,
            crl_length: piece.crl_length,
            packed_digest: piece.packed_digest,
            packed_length: piece.packed_length,
            have: self.have,
        };
        mirror.begin(&self.name, &transfer)?;
        self.transfer = Some(transfer);
        Ok(())
    }
}

/// Pieces asked for before the one before has come: one on the wire, one in the signer.
const AHEAD: usize = 2;
/// Every CRL is looked at this often even if nobody revokes anything.
const PERIOD: Duration = Duration::from_secs(3600);
/// A signer with a large CRL does not sign one for each revocation; it is asked again after this.
const SOON: Duration = Duration::from_secs(5);
/// The first pause after a CRL that failed; doubled up to [`PERIOD`].
const RETRY_FIRST: Duration = Duration::from_secs(60);
/// Bulk yields to everything else, so a piece may take long; after this it is asked for again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
