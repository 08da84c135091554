//! What the frontend may know: authorities, profiles, health.
//!
//! The frontend's memory of serial numbers comes in here too: a signer that was restored from an
//! old backup goes on above what the other side has seen.

use protocol::{
    bounded::{List, Text},
    message::{Answer, AuthorityEntry, Catalogue, CatalogueQuery, SerialHigh, SignerStatus},
};

use super::{SERIAL_JUMP_MAX, Vault, too_long};
use crate::{audit::Event, clock::Moment, fault::Fault};

impl Vault {
    /// The catalogue, unless the frontend has it already.
    pub(super) fn catalogue(
        &mut self,
        now: Moment,
        query: &CatalogueQuery,
    ) -> Result<Answer, Fault> {
        for high in query.serial_high.iter() {
            self.raise_serial(high)?;
        }
        let entries = self.authorities.values().map(|authority| authority.entry(now.unix()));
        let entries: Vec<AuthorityEntry> = entries.collect::<Result<_, _>>()?;
        let openpgp = self.openpgp.values().map(|authority| authority.entry());
        let openpgp: Vec<_> = openpgp.collect::<Result<_, _>>()?;
        let openpgp = List::try_from(openpgp).map_err(too_long)?;
        let catalogue =
            Catalogue { authorities: List::try_from(entries).map_err(too_long)?, openpgp };
        if query.have == Some(catalogue.digest()?) {
            return Ok(Answer::CatalogueUnchanged);
        }
        Ok(Answer::Catalogue(catalogue))
    }

    fn raise_serial(&mut self, high: &SerialHigh) -> Result<(), Fault> {
        let Some(authority) = self.authorities.get(&high.authority) else { return Ok(()) };
        let (counter, _) = self.ledger.counters(authority.id())?;
        if high.counter <= counter {
            return Ok(());
        }
        let name = &high.authority;
        if high.counter - counter > SERIAL_JUMP_MAX {
            self.warn(format!(
                "the frontend says that {name} has used serial counter {}, ours is {counter}; so \
                 far a jump is not believed: compare with the frontend's inventory",
                high.counter
            ));
            return Ok(());
        }
        let id = authority.id();
        let mut tx = self.ledger.begin(self.ledger.time_floor()?)?;
        tx.raise_serial_counter(id, high.counter)?;
        tx.audit(&Event::SerialRaised {
            authority: name.to_string(),
            from: counter,
            to: high.counter,
        })?;
        tx.commit()?;
        // `openssl ca` counts up from the file, and must not take what the frontend has seen.
        let lock = super::lock(&self.authorities[name])?;
        self.write_serial(name)?;
        drop(lock);
        self.warn(format!(
            "{name}: serial counter raised from {counter} to {}: this ledger is older than what \
             the frontend has seen; was a backup restored?",
            high.counter
        ));
        Ok(())
    }

    /// The signer's health.
    pub(super) fn status(&self, now: Moment) -> Result<SignerStatus, Fault> {
        let uptime_us = now.boot_us.saturating_sub(self.started.boot_us);
        let warnings = self.warnings.iter().map(|text| Text::truncated(text)).collect::<Vec<_>>();
        Ok(SignerStatus {
            version: Text::truncated(env!("CARGO_PKG_VERSION")),
            uptime_s: uptime_us.unsigned_abs() / 1_000_000,
            issued: self.ledger.issued()?,
            held: 0, // true of this version: no rule of it makes a request wait for a person
            warnings: List::try_from(warnings).map_err(too_long)?,
        })
    }
}
