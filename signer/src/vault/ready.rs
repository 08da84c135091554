//! Whether the vault may sign now: by the clock, and once what the last stop left open is finished.
//!
//! Nothing here sets a clock or believes a hint.

use super::{Vault, files};
use crate::{calendar::UnixTime, clock::Moment, durable::Lock, fault::Fault};

/// How far the clock may stand behind the last signature before the vault stops: what a time
/// server's small corrections need.
const CLOCK_TOLERANCE_S: i64 = 5;

/// How the sentence about a clock that cannot be used begins.
pub(super) const CLOCK_WARNING: &str = "the clock stands before the last signature";

impl Vault {
    /// Whether the clock can be used. While it cannot, as after a dead battery, the vault goes on
    /// taking time hints, so that the operator can set it; everything else waits. Once it can,
    /// what the last stop left open is finished first.
    pub(super) fn may_sign(&mut self, now: Moment) -> Result<bool, Fault> {
        match check_clock(now, self.floor) {
            Ok(()) if self.recovered => {}
            Ok(()) => {
                self.warnings.retain(|warning| !warning.starts_with(CLOCK_WARNING));
                self.recover(now)?;
                self.recovered = true;
            }
            Err(Fault::Clock { floor, .. }) => {
                // What is open when the clock is set back is finished when it is right again.
                self.recovered = false;
                let text = format!(
                    "{CLOCK_WARNING} at {floor}: nothing is signed until it is set as in \
                     hsm-docs/time-visit.md"
                );
                if !self.warnings.contains(&text) {
                    self.warn(text);
                }
                return Ok(false);
            }
            Err(fault) => return Err(fault),
        }
        Ok(true)
    }

    /// The time to sign with: the clock, but never before the last signature. Whether the clock can
    /// be used was asked at the turn's beginning; since then the turn may have waited for the
    /// console, which signed by the same clock.
    pub(super) fn signing_time(&mut self, now: Moment) -> Result<UnixTime, Fault> {
        self.floor = now.unix().max(self.ledger.time_floor()?);
        Ok(self.floor)
    }

    /// Finishes every open intent with the same serial and the same TBS, then brings the files
    /// to where the ledger is.
    fn recover(&mut self, now: Moment) -> Result<(), Fault> {
        // What was under way when the clock was set back.
        self.finish_signing(now)?;
        // First what was cut: a line must not be added behind half a line. What a person brought
        // back with its line is then under way no more.
        self.reconcile_new()?;
        // An intent of the console is open while it holds the lock, and none of ours to finish.
        let locks: Vec<Lock> =
            self.authorities.values().map(|one| files::lock(one)).collect::<Result<_, _>>()?;
        let intents = self.ledger.open_intents()?;
        drop(locks);
        if !intents.is_empty() {
            tracing::warn!(count = intents.len(), "finishing what was open at the last stop");
            self.start_signing(intents)?;
            self.finish_signing(now)?;
        }
        let time = self.signing_time(now)?;
        self.settle_old_openpgp(time)?;
        let intents = self.ledger.open_openpgp_intents()?;
        if !intents.is_empty() {
            tracing::warn!(count = intents.len(), "finishing OpenPGP signatures left open");
            self.start_signing_openpgp(intents)?;
            self.finish_signing(now)?;
        }
        self.follow_audit()
    }
}

/// Invariant I13: nothing is signed with a date before the last signature.
pub(super) fn check_clock(now: Moment, floor: UnixTime) -> Result<(), Fault> {
    if now.unix().0 + CLOCK_TOLERANCE_S < floor.0 {
        return Err(Fault::Clock { now: now.unix().to_string(), floor: floor.to_string() });
    }
    Ok(())
}
