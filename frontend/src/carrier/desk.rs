//! What each answer does to the store, inside the transaction of its batch.
//!
//! An answer reaches only the request that is under way under its id and of its kind (invariant
//! I11); everything else is dropped and counted.

use std::collections::BTreeSet;

use protocol::message::{Answer, CrlScope, Message, Name, RefusalCode, Request, RequestId};
use rusqlite::Transaction;

use super::{CarrierError, Counters, HEALTH, Health, TIME, connection::Connection, hints::Hints};
use crate::{
    audit::fetch::LogFetch,
    catalogue::{Catalogues, Trusted},
    clock::Now,
    crl::{
        CrlName, all_of,
        fetch::{Fetches, Taken},
        listing,
        mirror::Mirror,
        promise,
    },
    inventory::Inventory,
    openpgp::{answer, register::Register},
    queue::{Kind, Outcome, Queue},
    store::{Alarms, Notes, StoreError},
    verify::{self, BadAnswer},
};

/// Where a batch of answers is worked off.
pub(crate) struct Desk<'d> {
    pub(crate) now: Now,
    pub(crate) store: &'d Transaction<'d>,
    pub(crate) mirror: &'d mut Mirror,
    pub(crate) trusted: &'d mut Trusted,
    pub(crate) hints: &'d mut Hints,
    pub(crate) fetches: &'d mut Fetches,
    pub(crate) revoked: &'d mut BTreeSet<CrlName>,
    pub(crate) log: &'d mut LogFetch,
    pub(crate) counters: &'d mut Counters,
    pub(crate) connection: &'d mut Connection,
}

impl Desk<'_> {
    pub(crate) fn take(&mut self, answer: Answer) -> Result<(), CarrierError> {
        let now = self.now.instant;
        let kind = answer.kind();
        let asked = match answer {
            Answer::TimeHintTaken { unix_us } => self.take_time(unix_us)?,
            Answer::Status(status) => {
                let health = Health::of(&status, self.now.unix_us);
                Notes(self.store).write(HEALTH, &health)?;
                true
            }
            Answer::CatalogueUnchanged => self.connection.handle_catalogue(),
            Answer::Catalogue(catalogue) => {
                let asked = self.connection.handle_catalogue();
                if asked {
                    self.take_catalogue(&catalogue)?;
                }
                asked
            }
            Answer::CrlUnchanged { authority, scope } => {
                self.take_unchanged(&CrlName { authority, scope })?
            }
            Answer::CrlUnknown { authority, scope } => {
                self.fetches.handle_nothing_new(&CrlName { authority, scope }, now)
            }
            Answer::CrlPiece(piece) => {
                let taken = self.fetches.handle_piece(now, &piece, self.mirror)?;
                if taken == Taken::Insane {
                    let name = CrlName::new(&piece.authority, piece.scope);
                    let text = format!(
                        "the signer announces a CRL of {} bytes for `{name}`; the old CRL stays, \
                         look at the signer's log",
                        piece.crl_length
                    );
                    Alarms(self.store).raise(&format!("crl/{name}"), &text, self.now.unix_us)?;
                }
                taken != Taken::Stray
            }
            Answer::LogPiece(piece) => self.log.handle_piece(self.now, &piece, self.store)?,
            Answer::LogDiffers { last, head } => {
                self.log.handle_differs(self.now, last, head, self.store)?
            }
            Answer::Issued { id, certificate } => {
                self.take_for(id, Kind::Issue, |desk| desk.take_certificate(id, &certificate))?
            }
            Answer::Certified { id, certificate } => {
                self.take_for(id, Kind::Certify, |desk| desk.take_certified(id, &certificate))?
            }
            Answer::Revoked { id, revoked_at } => {
                self.take_for(id, Kind::Revoke, |desk| desk.take_revoked(id, revoked_at))?
            }
            Answer::CertificationRevoked { id, revoked_at, certificate } => {
                self.take_for(id, Kind::Revoke, |desk| {
                    desk.take_uncertified(id, revoked_at, &certificate)
                })?
            }
            Answer::Refused { id, code, text } => self.take_for_any(id, |desk| {
                tracing::info!(%id, code = code.name(), text = &*text, "refused by the signer");
                desk.finish(id, &Outcome::Refused { code: code.name(), text: &text })
            })?,
            Answer::Quarantined { id, text } => self.take_for_any(id, |desk| {
                tracing::warn!(%id, text = &*text, "quarantined by the signer");
                desk.finish(id, &Outcome::Quarantined { text: &text })
            })?,
            Answer::Held { id, ticket } => self.take_for_any(id, |desk| {
                tracing::info!(%id, ticket, "held for a person at the console");
                desk.connection.hold(now, id);
                Queue(desk.store).hold(id, ticket)
            })?,
        };
        if !asked {
            self.counters.strays += 1;
            tracing::warn!(kind, "dropped an answer that nobody asked for");
        }
        Ok(())
    }

    fn take_time(&mut self, signer_us: i64) -> Result<bool, StoreError> {
        let Some(exchange) = self.hints.handle_taken(self.now, signer_us) else { return Ok(false) };
        Notes(self.store).write(TIME, &exchange)?;
        Ok(true)
    }

    fn take_catalogue(
        &mut self,
        catalogue: &protocol::message::Catalogue,
    ) -> Result<(), StoreError> {
        let catalogues = Catalogues(self.store);
        if let Some(alarm) = catalogues.receive(catalogue, self.now.unix_us)? {
            tracing::error!(alarm, "the signer's catalogue is not what is pinned");
        }
        *self.trusted = catalogues.trusted()?;
        // What was disbelieved for want of a pin may be right now.
        self.connection.retry_doubts(self.now.instant);
        let offered = self.trusted.authorities.values().filter(|authority| authority.offered);
        offered.flat_map(all_of).for_each(|name| self.fetches.want(&name, self.now.instant));
        Ok(())
    }

    /// The CRL in place is the newest. If it lacks what was acknowledged since, the signer is
    /// about to sign another.
    fn take_unchanged(&mut self, name: &CrlName) -> Result<bool, CarrierError> {
        let now = self.now.instant;
        if !self.fetches.handle_nothing_new(name, now) {
            return Ok(false);
        }
        Alarms(self.store).clear(&format!("crl/{name}"))?;
        if name.scope == CrlScope::Full {
            self.ask_again_for_awaited(&name.authority)?;
        }
        Ok(true)
    }

    fn ask_again_for_awaited(&mut self, name: &Name) -> Result<(), CarrierError> {
        let Some(authority) = self.trusted.authorities.get(name) else { return Ok(()) };
        let Some(held) = self.mirror.held(name)? else { return Ok(()) };
        let inventory = Inventory(self.store);
        if !inventory.was_revoked_since(name, held.this_update)? {
            return Ok(());
        }
        let Some(in_place) = self.mirror.read(name)? else { return Ok(()) };
        let mut awaited = BTreeSet::new();
        promise::awaited(&inventory, &name.into(), &in_place, |serial| {
            awaited.extend(listing(authority, serial));
        })?;
        awaited.iter().for_each(|name| self.fetches.want_soon(name, self.now.instant));
        Ok(())
    }

    /// Lets `action` take an answer if a request of this kind is under way under this id.
    fn take_for(
        &mut self,
        id: RequestId,
        kind: Kind,
        action: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if self.connection.kind_of(id) != Some(kind) {
            return Ok(false);
        }
        action(self).map(|()| true)
    }

    fn take_for_any(
        &mut self,
        id: RequestId,
        action: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        match self.connection.kind_of(id) {
            None => Ok(false),
            Some(kind) => self.take_for(id, kind, action),
        }
    }

    fn take_certificate(&mut self, id: RequestId, der: &[u8]) -> Result<(), StoreError> {
        let damaged = StoreError::Damaged { what: "request" };
        let Some(Request::Issue(request)) = Queue(self.store).body(id)? else {
            return Err(damaged);
        };
        let verified = match self.trusted.authorities.get(&request.authority) {
            Some(authority) => verify::issued(authority, &request, der),
            None => {
                // Made since the catalogue came: what pins it is one question away.
                self.connection.renew_catalogue();
                Err(BadAnswer::AuthorityUnknown(request.authority.to_string()))
            }
        };
        let added = match verified {
            Err(bad) => Err(bad),
            Ok(certificate) => Inventory(self.store)
                .add(&request.authority, id, &certificate)?
                .map(|()| certificate.serial().clone()),
        };
        match added {
            Err(bad) => self.doubt(id, &bad),
            Ok(serial) => {
                tracing::info!(%id, authority = %request.authority, %serial, "certificate stored");
                self.finish(id, &Outcome::Done(Some(&serial)))
            }
        }
    }

    fn take_certified(&mut self, id: RequestId, key: &[u8]) -> Result<(), StoreError> {
        let damaged = StoreError::Damaged { what: "request" };
        let Some(Request::Certify(request)) = Queue(self.store).body(id)? else {
            return Err(damaged);
        };
        let register = Register(self.store);
        let verified = match self.trusted.openpgp.get(&request.authority) {
            Some(authority) => answer::certified(authority, &request, key),
            None => Err(self.unpinned(&request.authority)),
        };
        match verified {
            Err(bad) => self.doubt(id, &bad),
            Ok(certification) => {
                let fingerprint = certification.fingerprint();
                Inventory(self.store).add_certification(id, fingerprint, certification.bytes())?;
                register.add(&request.authority, id, &certification)?;
                tracing::info!(%id, authority = %request.authority, fingerprint, "certified key stored");
                self.finish(id, &Outcome::Done(None))
            }
        }
    }

    fn take_uncertified(
        &mut self,
        id: RequestId,
        revoked_at: i64,
        key: &[u8],
    ) -> Result<(), StoreError> {
        let request = match Queue(self.store).body(id)? {
            Some(Request::RevokeOpenPgp(request)) => request,
            Some(_) => return self.doubt(id, &BadAnswer::OtherKind),
            None => return Err(StoreError::Damaged { what: "request" }),
        };
        let register = Register(self.store);
        let verified = match self.trusted.openpgp.get(&request.authority) {
            Some(authority) => {
                let certified =
                    register.certified(&request.authority, &request.fingerprint, revoked_at)?;
                answer::revoked(authority, &request, revoked_at, key, &certified)
            }
            None => Err(self.unpinned(&request.authority)),
        };
        match verified {
            Err(bad) => self.doubt(id, &bad),
            Ok(revocation) => {
                let fingerprint = revocation.fingerprint();
                let queue = Queue(self.store);
                if !revocation.missing().is_empty()
                    && queue.takes_back_before(id, &request.authority, fingerprint)?
                {
                    // What it lacks may be in that one's answer, which was overtaken.
                    tracing::info!(%id, fingerprint, "looked at after the request before it");
                    self.connection.doubt(self.now.instant, id);
                    return Ok(());
                }
                Inventory(self.store).add_certification(id, fingerprint, revocation.bytes())?;
                register.revoke(&request.authority, &revocation, request.reason)?;
                tracing::info!(%id, authority = %request.authority, fingerprint, "revocation stored");
                if revocation.missing().is_empty() {
                    return self.finish(id, &Outcome::Done(None));
                }
                // What was taken back is; but whoever wanted all must not believe that it is done.
                let missing = revocation.missing().join("`, `");
                let text = format!(
                    "the rest of key {fingerprint} is taken back, but the signer has no \
                     certification of `{missing}`; if `frontend openpgp list` shows it as valid, \
                     the signer was restored from a backup: certify it with --renew, then take it \
                     back again"
                );
                let code = RefusalCode::OpenPgpNothingCertified.name();
                self.finish(id, &Outcome::Refused { code, text: &text })
            }
        }
    }

    /// An OpenPGP authority made since the catalogue came: what pins it is one question away.
    fn unpinned(&mut self, name: &Name) -> BadAnswer {
        self.connection.renew_catalogue();
        BadAnswer::AuthorityUnknown(name.to_string())
    }

    fn take_revoked(&mut self, id: RequestId, revoked_at: i64) -> Result<(), StoreError> {
        let request = match Queue(self.store).body(id)? {
            Some(Request::Revoke(request)) => request,
            Some(_) => return self.doubt(id, &BadAnswer::OtherKind),
            None => return Err(StoreError::Damaged { what: "request" }),
        };
        let (authority, serial) = (&request.authority, &request.serial);
        Inventory(self.store).revoke(authority, serial, revoked_at, request.reason.name())?;
        tracing::info!(%id, %authority, %serial, "revocation stored");
        match self.trusted.authorities.get(authority) {
            Some(authority) => self.revoked.extend(listing(authority, serial)),
            None => drop(self.revoked.insert(authority.into())),
        }
        self.finish(id, &Outcome::Done(None))
    }

    fn finish(&mut self, id: RequestId, outcome: &Outcome<'_>) -> Result<(), StoreError> {
        Queue(self.store).finish(id, outcome, self.now.unix_us)?;
        Alarms(self.store).clear(&format!("request/{id}"))?;
        self.connection.settle(self.now.instant, id);
        Ok(())
    }

    /// The answer is not stored and the request stays open; a person is told.
    fn doubt(&mut self, id: RequestId, bad: &BadAnswer) -> Result<(), StoreError> {
        tracing::error!(%id, reason = %bad, "the signer's answer failed a check and was not stored");
        self.counters.disbelieved += 1;
        self.connection.doubt(self.now.instant, id);
        let text = format!(
            "the signer's answer failed a check: {bad}; nothing was stored, it is asked for \
             again, look at the signer's log and at `frontend status`"
        );
        Alarms(self.store).raise(&format!("request/{id}"), &text, self.now.unix_us)
    }
}
