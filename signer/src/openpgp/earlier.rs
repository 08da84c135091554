//! What was signed before: whether it may stand for what is asked for now, and whether what the
//! ledger holds is still what was signed.
//!
//! It reads packets that this program has written. Nothing here signs.

use std::{ops::Range, time::UNIX_EPOCH};

use sequoia_openpgp::{
    Cert, Packet,
    packet::{
        Key, Signature, UserID,
        key::{PrimaryRole, PublicParts},
    },
    types::SignatureType,
};

use super::{
    Policy,
    statement::{SALT, hash_of},
};
use crate::{
    calendar::{DAY_S, UnixTime},
    intake::openpgp::{
        one_packet,
        packets::{self, tag},
    },
};

/// What a certification that was made before must say to stand for one that would be made now.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The policy as it is today.
    pub policy: &'a Policy,
    /// The days that the request names.
    pub days: Option<u32>,
    /// The present end of the certified key, or of ours if that is sooner.
    pub end: Option<UnixTime>,
}

impl Wanted<'_> {
    /// Whether a certification of this time may stand for one of now: it is no longer than what is
    /// asked for, as its reader counts it, and does not outlive the key, whose owner may have
    /// brought its end forward since.
    pub fn takes_time(&self, from: UnixTime, to: UnixTime) -> bool {
        let days = self.days.unwrap_or_else(|| self.policy.days_max());
        to.0.saturating_sub(from.0) <= i64::from(days) * DAY_S
            && self.end.is_none_or(|end| to <= end)
    }

    /// Whether a certification of ours may stand for one of now: it says what the policy says
    /// today, for such a time.
    pub fn takes(&self, packet: &[u8]) -> bool {
        let Some(Packet::Signature(signature)) = one_packet(packet) else { return false };
        let time = made_at(&signature).zip(ends_at(&signature));
        self.is_said_by(&signature) && time.is_some_and(|(from, to)| self.takes_time(from, to))
    }

    fn is_said_by(&self, signature: &Signature) -> bool {
        let policy = self.policy;
        let mut said: Vec<(&str, &[u8])> = signature
            .notation_data()
            .filter(|one| one.name() != SALT)
            .map(|one| (one.name(), one.value()))
            .collect();
        if let Some(serial) = policy.serial_notation() {
            match said.iter().position(|(name, _)| *name == serial) {
                Some(at) => drop(said.remove(at)),
                None => return false,
            }
        }
        let meant = policy.notations().map(|(name, value)| (name, value.as_bytes()));
        u8::from(signature.typ()) == policy.level().signature_type()
            && signature.hash_algo() == super::statement::hash_algorithm(policy.digest())
            && signature.policy_uri() == policy.policy_uri().map(str::as_bytes)
            && said.into_iter().eq(meant)
    }
}

fn made_at(signature: &Signature) -> Option<UnixTime> {
    let since = signature.signature_creation_time()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().map(UnixTime)
}

fn ends_at(signature: &Signature) -> Option<UnixTime> {
    let lasts = i64::try_from(signature.signature_validity_period()?.as_secs()).ok()?;
    made_at(signature)?.0.checked_add(lasts).map(UnixTime)
}

//------------ Checking what is stored ---------------------------------------

/// What one of our signatures in a stored certificate says.
#[derive(Debug, PartialEq, Eq)]
pub struct Ours {
    /// Of which user ID.
    pub user_id: String,
    /// Where in the certificate it begins and ends.
    pub place: Range<usize>,
    /// Whether it takes a certification back.
    pub takes_back: bool,
    /// When it was made.
    pub at: UnixTime,
    /// When it ends.
    pub expires: Option<UnixTime>,
}

/// The fingerprint of the key in `bytes`, and every signature by `authority` in it. Every signature
/// behind a user ID must be the owner's or the authority's and verify; what is wrong is a sentence.
pub fn read_stored(authority: &Cert, bytes: &[u8]) -> Result<(String, Vec<Ours>), String> {
    let packets = packets::split(bytes, PACKETS_MAX).map_err(|refusal| refusal.text)?;
    let first = packets.first().and_then(|raw| one_packet(raw.whole));
    let Some(Packet::PublicKey(primary)) = first else {
        return Err("it does not begin with a key".into());
    };
    let mut ours = Vec::new();
    let mut user_id: Option<(String, UserID)> = None;
    let mut end = 0;
    for raw in &packets {
        let place = end..end + raw.whole.len();
        end = place.end;
        match raw.tag {
            tag::USER_ID => {
                let text = String::from_utf8_lossy(raw.body).into_owned();
                user_id = Some((text, UserID::from(raw.body)));
            }
            tag::PUBLIC_SUBKEY => user_id = None,
            tag::SIGNATURE => {
                let Some((text, user_id)) = &user_id else { continue };
                let bad = || format!("a signature of user ID `{}` is bad", text.escape_debug());
                let Some(Packet::Signature(signature)) = one_packet(raw.whole) else {
                    return Err(bad());
                };
                let by = authority.primary_key().key();
                if signature.issuer_fingerprints().any(|one| *one == by.fingerprint()) {
                    if !verifies(by, &signature, &primary, user_id) {
                        return Err(bad());
                    }
                    let at = made_at(&signature).ok_or_else(bad)?;
                    ours.push(Ours {
                        user_id: text.clone(),
                        place,
                        takes_back: signature.typ() == SignatureType::CertificationRevocation,
                        at,
                        expires: ends_at(&signature),
                    });
                } else if !verifies(&primary, &signature, &primary, user_id) {
                    return Err(bad());
                }
            }
            _ => {}
        }
    }
    Ok((primary.fingerprint().to_hex(), ours))
}

/// More packets than a stored certificate has: it fits an answer.
const PACKETS_MAX: usize = 4096;

/// Whether `by` has signed this.
fn verifies(
    by: &Key<PublicParts, PrimaryRole>,
    signature: &Signature,
    primary: &Key<PublicParts, PrimaryRole>,
    user_id: &UserID,
) -> bool {
    let hash = hash_of(signature, primary, user_id);
    hash.is_ok_and(|value| by.verify(signature.mpis(), signature.hash_algo(), &value).is_ok())
}
