//! The audit log: hash-chained entries about every request, refusal, signature and CRL.
//!
//! Entries are committed with the ledger transaction they speak about, so neither exists without
//! the other (invariant I5); `audit/NNNNNNNNNN.log` follows the ledger for people and their tools.
//! If an entry cannot be written, the transaction fails and signing stops (invariant I17). No
//! entry holds a secret.

use protocol::message::Digest;
use serde::Serialize;

use crate::calendar::UnixTime;

/// One thing that happened. // stored
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The store was made.
    StoreCreated,
    /// An authority was made.
    AuthorityCreated {
        /// Its name.
        authority: String,
        /// Its subject.
        subject: String,
        /// Its certificate's SHA-256.
        certificate: String,
    },
    /// An OpenPGP authority's key was made.
    OpenPgpCreated {
        /// The authority's name.
        authority: String,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// An OpenPGP authority's key was taken over from GnuPG.
    OpenPgpImported {
        /// The authority's name.
        authority: String,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// A certificate was signed.
    Issued {
        /// For which request; none at the console.
        request: Option<String>,
        /// By whom.
        authority: String,
        /// By which profile.
        profile: String,
        /// The serial number.
        serial: String,
        /// The subject.
        subject: String,
        /// The certificate's SHA-256.
        certificate: String,
    },
    /// An OpenPGP key was certified.
    Certified {
        /// For which request.
        request: String,
        /// By whom.
        authority: String,
        /// By which policy.
        policy: String,
        /// The key's fingerprint.
        fingerprint: String,
        /// The user IDs that are certified.
        user_ids: Vec<String>,
        /// The serial numbers of their certifications, in the same order.
        serials: Vec<String>,
        /// The SHA-256 of the answer.
        certificate: String,
    },
    /// A request was answered with what was certified for an earlier one; nothing was signed.
    CertifiedBefore {
        /// Which request.
        request: String,
        /// For which request it was certified.
        earlier: String,
    },
    /// Certifications of an OpenPGP key were taken back.
    CertificationRevoked {
        /// For which request.
        request: String,
        /// By whom.
        authority: String,
        /// The key's fingerprint.
        fingerprint: String,
        /// The user IDs whose certifications are taken back.
        user_ids: Vec<String>,
        /// Why.
        reason: String,
    },
    /// A certificate was revoked.
    Revoked {
        /// For which request.
        request: String,
        /// Who issued it.
        authority: String,
        /// The serial number.
        serial: String,
        /// Why.
        reason: String,
    },
    /// The rules said no.
    Refused {
        /// To which request.
        request: String,
        /// By which rule.
        code: String,
        /// In words.
        text: String,
    },
    /// A request was set aside.
    Quarantined {
        /// Which request.
        request: String,
        /// What happened.
        text: String,
    },
    /// A CRL was signed.
    CrlSigned {
        /// By whom.
        authority: String,
        /// For which certificates it speaks: `full`, `delta`, `shard-07`.
        scope: String,
        /// Its number.
        crl_number: u64,
        /// How many entries it has.
        entries: u64,
        /// Its SHA-256.
        crl: String,
    },
    /// A bundle of requests was taken from a medium, to be answered.
    BundleTaken {
        /// Its number.
        number: u64,
        /// The SHA-256 of what is in it.
        bundle: String,
        /// The number of the bundle that answers it.
        answer: u64,
    },
    /// A published list of weak keys was added to the store's.
    BlocklistImported {
        /// The files' names and SHA-256.
        sources: Vec<String>,
        /// How many keys are listed now.
        entries: u64,
    },
    /// The operator blocked a key.
    KeyBlocked {
        /// SHA-256 of its SubjectPublicKeyInfo.
        fingerprint: String,
        /// Why.
        reason: String,
    },
    /// The operator took a key from the table of blocked ones.
    KeyUnblocked {
        /// SHA-256 of its SubjectPublicKeyInfo.
        fingerprint: String,
    },
    /// A line that a person added to an index was taken into the ledger.
    Adopted {
        /// In whose index.
        authority: String,
        /// The serial number.
        serial: String,
    },
    /// An authority of `openssl ca` was taken over.
    AuthorityAdopted {
        /// Its name.
        authority: String,
        /// Its subject.
        subject: String,
        /// Its certificate's SHA-256.
        certificate: String,
        /// How many V lines.
        valid: u64,
        /// How many R lines.
        revoked: u64,
        /// How many E lines.
        expired: u64,
        /// How many certificates had a copy.
        copies: u64,
        /// The old index's SHA-256.
        index: String,
    },
    /// The frontend remembers a higher serial than the ledger: an old backup was restored.
    SerialRaised {
        /// Whose.
        authority: String,
        /// The counter in the ledger.
        from: u64,
        /// The counter that the frontend has seen.
        to: u64,
    },
}

/// The line of one entry and the hash that the next one builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number of the entry, from 1.
    pub number: u64,
    /// JSON with `n`, `at`, the event, and `previous`.
    pub line: String,
    /// SHA-256 of the line.
    pub hash: Digest,
}

/// The hash before the first entry.
pub const ORIGIN: Digest = Digest::from_bytes([0; 32]);

impl Link {
    /// Chains `event` to the entry before.
    pub fn new(number: u64, previous: Digest, at: UnixTime, event: &Event) -> Self {
        #[derive(Serialize)]
        struct Line<'a> {
            n: u64,
            at: String,
            #[serde(flatten)]
            event: &'a Event,
            previous: String,
        }
        let at = at.to_string();
        let line = Line { n: number, at, event, previous: previous.to_string() };
        let line = serde_json::to_string(&line).expect("text keys and plain values make JSON");
        let hash = Digest::of(line.as_bytes());
        Self { number, line, hash }
    }
}

/// Checks that `line` is entry `number` and builds on `previous`; returns its own hash.
pub fn verify(line: &str, number: u64, previous: Digest) -> Result<Digest, String> {
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| format!("entry {number} is no JSON: {error}"))?;
    if value["n"].as_u64() != Some(number) {
        return Err(format!("entry {number} has the number {}", value["n"]));
    }
    if value["previous"].as_str() != Some(&previous.to_string()) {
        return Err(format!("entry {number} does not build on the entry before it"));
    }
    Ok(Digest::of(line.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_removed_or_reordered_entry_breaks_the_chain() {
        let mut previous = ORIGIN;
        let mut lines = Vec::new();
        for number in 1..=4 {
            let event = Event::Quarantined { request: number.to_string(), text: "t".into() };
            let link = Link::new(number, previous, UnixTime(1_800_000_000), &event);
            previous = link.hash;
            lines.push(link.line);
        }
        let check = |lines: &[String]| {
            let mut previous = ORIGIN;
            for (line, number) in lines.iter().zip(1..) {
                previous = verify(line, number, previous)?;
            }
            Ok::<_, String>(previous)
        };
        assert_eq!(check(&lines), Ok(previous));

        let mut changed = lines.clone();
        changed[1] = changed[1].replace("\"t\"", "\"u\"");
        assert!(check(&changed).unwrap_err().contains("entry 3"));
        let mut removed = lines.clone();
        removed.remove(1);
        assert!(check(&removed).is_err());
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert!(check(&swapped).is_err());
    }
}
