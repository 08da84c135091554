//! Answers that come on a medium: taken as on the cable, but nobody asked for them in this run.
//!
//! What was asked is in the queue: an answer is awaited if its request is open there, as on the
//! cable it is if its request is under way (invariant I11). Everything behind that is the same:
//! every check, one transaction for a batch, every alarm.

use protocol::message::{Answer, CrlPiece, CrlScope, Message, Name};

use super::{Carrier, CarrierError};
use crate::{clock::Now, crl::CrlName, queue::Queue};

/// What became of a piece of a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlNews {
    /// More pieces follow.
    Coming,
    /// The CRL is in place.
    Published,
    /// It was in place before.
    InPlace,
    /// It was not published: an alarm says why, or it is a patch of one that is no longer here.
    NotPublished,
}

impl Carrier {
    /// Takes answers of a bundle, in this order, pieces of CRLs aside. What needs an
    /// acknowledgement gets it in a later bundle.
    pub fn handle_bundled(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), CarrierError> {
        if self.connection.is_none() {
            self.handle_up(now)?;
        }
        let mut awaited = Vec::new();
        let queue = Queue(self.store.connection());
        for id in answers.iter().filter_map(Answer::request_id) {
            if let Some(entry) = queue.find(id)?.filter(|entry| !entry.state.is_final()) {
                awaited.push((id, entry.kind));
            }
        }
        for answer in &answers {
            if let Answer::CrlUnchanged { authority, scope }
            | Answer::CrlUnknown { authority, scope } = answer
            {
                self.expect_crl(now, authority, *scope)?;
            }
        }
        if let Some(connection) = &mut self.connection {
            awaited.into_iter().for_each(|(id, kind)| connection.expect(now.instant, id, kind));
            connection.expect_catalogue(now.instant);
        }
        self.handle_answers(now, answers)
    }

    /// Takes a piece of a CRL; they come in their order.
    pub fn handle_bundled_piece(
        &mut self,
        now: Now,
        piece: CrlPiece,
    ) -> Result<CrlNews, CarrierError> {
        let name = CrlName::new(&piece.authority, piece.scope);
        let digest = piece.crl_digest;
        let end = piece.offset.saturating_add(piece.bytes.len() as u64);
        let is_last = end >= piece.packed_length;
        let in_place = self.mirror.held(&name)?.is_some_and(|held| held.digest == digest);
        if in_place {
            return Ok(if is_last { CrlNews::InPlace } else { CrlNews::Coming });
        }
        if self.connection.is_none() {
            self.handle_up(now)?;
        }
        self.expect_crl(now, &piece.authority, piece.scope)?;
        self.handle_answers(now, vec![Answer::CrlPiece(piece)])?;
        let in_place = self.mirror.held(&name)?.is_some_and(|held| held.digest == digest);
        Ok(match (in_place, is_last) {
            (true, _) => CrlNews::Published,
            (false, true) => CrlNews::NotPublished,
            (false, false) => CrlNews::Coming,
        })
    }

    fn expect_crl(&mut self, now: Now, name: &Name, scope: CrlScope) -> Result<(), CarrierError> {
        let name = CrlName::new(name, scope);
        Ok(self.fetches.expect(&name, now.instant, &mut self.mirror)?)
    }
}
