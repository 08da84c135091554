//! Invariant I8 at the frontend: what the signer acknowledged as revoked is in every later CRL,
//! until it has expired.
//!
//! What the CRL in place lists may leave only by expiry; what was acknowledged since must be
//! there. So a signer that forgot, whether restored from a backup or by an enemy's hand, cannot
//! bring a revoked certificate back to life. Nothing here changes anything.

use protocol::message::{CrlScope, Serial};

use super::{
    CrlName,
    list::{self, CrlError, SignedCrl},
};
use crate::{inventory::Inventory, store::StoreError};

/// The first serial that the CRL lacks though it was acknowledged as revoked.
pub fn missing(
    inventory: &Inventory<'_>,
    name: &CrlName,
    held: Option<&[u8]>,
    crl: &SignedCrl,
) -> Result<Option<Serial>, StoreError> {
    // A delta CRL lists changes only; the full one beside it shows what is missing.
    if name.scope == CrlScope::Delta {
        return Ok(None);
    }
    let Ok(listed) = list::serials(crl.bytes()) else { return Ok(None) };
    let this_update = crl.facts().this_update;
    let mut since = i64::MIN;
    // One in place that cannot be read counts as none.
    if let Some((held, facts)) = held.and_then(|held| Some((held, list::inspect(held).ok()?))) {
        since = facts.this_update;
        for octets in list::serials(held).iter().flatten().filter(|one| !listed.contains(*one)) {
            let Ok(serial) = Serial::from_magnitude(octets) else { continue };
            let stored = inventory.find(name.authority.as_str(), &serial)?;
            let promised = |stored: &crate::inventory::Stored| {
                stored.revoked_at.is_some() && stored.not_after >= this_update
            };
            if stored.as_ref().is_some_and(promised) {
                return Ok(Some(serial));
            }
        }
    }
    // In the second of its signing a revocation may have come a moment later.
    inventory.find_revoked(&name.authority, (since, this_update), this_update, |octets, der| {
        let concerned = name.scope == CrlScope::Full || names_one(der, &crl.facts().points);
        let lacks = concerned && !listed.contains(octets);
        lacks.then(|| Serial::from_magnitude(octets).ok()).flatten()
    })
}

/// Whether a certificate names one of these distribution points.
fn names_one(certificate: &[u8], points: &[String]) -> bool {
    // The URI stands there as it is; what looks like one elsewhere only makes the check stricter.
    let has = |point: &String| {
        let length = u8::try_from(point.len()).ok().filter(|length| *length < 0x80);
        let tagged = length.map(|length| [&[0x86, length], point.as_bytes()].concat());
        let sought = tagged.as_deref().unwrap_or(point.as_bytes());
        certificate.windows(sought.len().max(1)).any(|window| window == sought)
    };
    points.iter().any(has)
}

/// Whether a revocation was acknowledged that the CRL in place does not have yet; `visit` gets
/// the serials.
pub fn awaited(
    inventory: &Inventory<'_>,
    name: &CrlName,
    held: &[u8],
    mut visit: impl FnMut(&Serial),
) -> Result<(), StoreError> {
    let Ok(facts) = list::inspect(held) else { return Ok(()) };
    let this_update = facts.this_update;
    let mut listed: Option<Result<_, CrlError>> = None;
    let mut left = AWAITED_MAX;
    inventory.find_revoked(
        &name.authority,
        (this_update, i64::MAX),
        this_update,
        |octets, _| {
            let listed = listed.get_or_insert_with(|| list::serials(held));
            let there = listed.as_ref().is_ok_and(|listed| listed.contains(octets));
            if let (false, Ok(serial)) = (there, Serial::from_magnitude(octets)) {
                visit(&serial);
                left -= 1;
            }
            (left == 0).then_some(())
        },
    )?;
    Ok(())
}

/// So many are enough to know which CRLs to ask for again.
const AWAITED_MAX: usize = 4096;
