//! What CRLs must say: invariants I7 to I9, seen from outside.
//!
//! A revocation that was acknowledged is in every later CRL of its scope. It may leave for one
//! reason only: a CRL of that scope that was signed past the certificate's expiry has listed it
//! (RFC 5280 3.3; the swarm's profiles keep nothing for longer). Nothing here knows why a CRL was
//! signed, or what the programs remember.

use std::collections::{BTreeMap, BTreeSet};

use frontend::crl::list;
use protocol::message::{CrlScope, Digest};

use super::{Held, Violation};

/// The content octets of serial numbers.
pub(crate) type Serials = BTreeSet<Vec<u8>>;

/// What a certificate says that matters for CRLs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issued {
    /// The last second of its validity.
    pub(crate) not_after: i64,
    /// The shard that it names.
    pub(crate) shard: Option<u16>,
    /// Of all that was signed.
    pub(crate) tbs: Digest,
}

/// Every certificate that was ever released, by its serial.
pub(crate) type Certificates = BTreeMap<Vec<u8>, Issued>;

/// A CRL that the signer signed.
#[derive(Clone, Debug)]
pub(crate) struct Crl {
    pub(crate) scope: CrlScope,
    pub(crate) number: u64,
    pub(crate) digest: Digest,
    pub(crate) this_update: i64,
    /// Of a delta CRL: the number of the full one that it changes.
    base: Option<u64>,
    pub(crate) listed: Serials,
}

impl Crl {
    /// Takes a CRL apart.
    pub(crate) fn read(scope: CrlScope, bytes: &[u8]) -> Result<Self, Violation> {
        let broken = |error: list::CrlError| Violation::new(format!("I5: a CRL: {error}"));
        let facts = list::inspect(bytes).map_err(broken)?;
        let listed = list::serials(bytes).map_err(broken)?;
        Ok(Self {
            scope,
            number: facts.number,
            digest: facts.digest,
            this_update: facts.this_update,
            base: facts.base,
            listed: listed.into_iter().map(<[u8]>::to_vec).collect(),
        })
    }
}

/// What a signer's CRLs must go on from: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrlMemory {
    /// Serials whose revocation was acknowledged.
    acknowledged: Serials,
    /// What a CRL of the scope has listed that was signed past its expiry.
    passed: BTreeMap<CrlScope, Serials>,
    /// The newest of each scope.
    newest: BTreeMap<CrlScope, Crl>,
    /// What each full one lists, for the delta CRLs that change it.
    full: BTreeMap<u64, Serials>,
}

impl CrlMemory {
    /// The signer acknowledged a revocation.
    pub(crate) fn acknowledge(&mut self, serial: &[u8]) {
        self.acknowledged.insert(serial.to_vec());
    }

    /// How many revocations were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The number of the newest CRL of a scope.
    pub(crate) fn number(&self, scope: CrlScope) -> u64 {
        self.newest.get(&scope).map_or(0, |crl| crl.number)
    }

    /// Something that a CRL of this scope must list and does not.
    pub(crate) fn lacks(
        &self,
        scope: CrlScope,
        listed: &Serials,
        certificates: &Certificates,
    ) -> bool {
        let passed = self.passed.get(&scope);
        let concerns = |serial: &&Vec<u8>| match scope {
            CrlScope::Full => true,
            CrlScope::Delta => false, // beside the full one of its number, see `check_delta`
            CrlScope::Shard(shard) => shard_of(certificates, serial) == Some(shard),
        };
        let mut due = self.acknowledged.iter().filter(concerns);
        due.any(|serial| {
            !listed.contains(serial) && !passed.is_some_and(|passed| passed.contains(serial))
        })
    }

    /// The signer signed these with one number; the full one is among them.
    pub(crate) fn signed(&mut self, round: &[Crl], certificates: &Certificates) -> Held {
        for crl in round {
            check(crl.number > self.number(crl.scope), "I7: a CRL number does not rise")?;
            self.newest.insert(crl.scope, crl.clone());
            if crl.scope == CrlScope::Full {
                self.full.insert(crl.number, crl.listed.clone());
            }
        }
        self.check_newest(certificates)?;
        for crl in round {
            match crl.scope {
                CrlScope::Full => {}
                CrlScope::Delta => self.check_delta(crl)?,
                CrlScope::Shard(shard) => self.check_shard(crl, shard, certificates)?,
            }
        }
        for crl in round.iter().filter(|crl| crl.scope != CrlScope::Delta) {
            let expired = |serial: &&Vec<u8>| {
                certificates.get(*serial).is_some_and(|issued| crl.this_update > issued.not_after)
            };
            let listed = crl.listed.iter().filter(expired).cloned();
            self.passed.entry(crl.scope).or_default().extend(listed);
        }
        Ok(())
    }

    /// Invariant I8: whether the newest CRL of every scope has what it must, also of those that
    /// were not signed in the last round: what they lack is missing from then on.
    pub(crate) fn check_newest(&self, certificates: &Certificates) -> Held {
        for (scope, crl) in &self.newest {
            let text = match scope {
                CrlScope::Shard(_) => "I8, I9: a shard's CRL lacks an acknowledged revocation",
                _ => "I8: a CRL lacks an acknowledged revocation",
            };
            check(!self.lacks(*scope, &crl.listed, certificates), text)?;
        }
        Ok(())
    }

    /// Invariant I9: a shard lists what names it, and nothing that is not revoked.
    fn check_shard(&self, crl: &Crl, shard: u16, certificates: &Certificates) -> Held {
        let own = crl.listed.iter().all(|serial| shard_of(certificates, serial) == Some(shard));
        check(own, "I9: a shard's CRL lists a certificate that does not name it")?;
        let full = self.full.get(&crl.number);
        let passed = self.passed.get(&CrlScope::Full);
        let revoked = |serial: &Vec<u8>| {
            [full, passed].into_iter().flatten().any(|serials| serials.contains(serial))
        };
        check(crl.listed.iter().all(revoked), "I9: a shard's CRL lists what is not revoked")
    }

    /// RFC 5280 5.2.4: with its base, a delta CRL says what the full one of the same number says.
    fn check_delta(&self, crl: &Crl) -> Held {
        let full = |number| self.full.get(number);
        let (Some(now), Some(base)) = (full(&crl.number), crl.base.as_ref().and_then(full)) else {
            return Err(Violation::new("I8: a delta CRL without a full one, or without a base"));
        };
        let both: Serials = base.union(&crl.listed).cloned().collect();
        let complete = now.is_subset(&both);
        check(complete, "I8: a delta CRL with its base lacks what the full CRL lists")?;
        let passed = self.passed.get(&CrlScope::Full);
        let mut more = both.difference(now);
        let expired = more.all(|serial| passed.is_some_and(|passed| passed.contains(serial)));
        check(expired, "I8: a delta CRL with its base lists what the full CRL does not")
    }
}

fn shard_of(certificates: &Certificates, serial: &[u8]) -> Option<u16> {
    certificates.get(serial).and_then(|issued| issued.shard)
}

fn check(holds: bool, rule: &str) -> Held {
    if holds { Ok(()) } else { Err(Violation::new(rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One certificate in each of two shards, valid through second 100.
    fn certificates() -> Certificates {
        let tbs = Digest::of(&[]);
        let issued = |shard| Issued { not_after: 100, shard: Some(shard), tbs };
        [(vec![1], issued(0)), (vec![2], issued(1))].into()
    }

    fn crl(scope: CrlScope, number: u64, this_update: i64, listed: &[u8]) -> Crl {
        let listed = listed.iter().map(|octet| vec![*octet]).collect();
        let digest = Digest::of(&number.to_be_bytes());
        Crl { scope, number, digest, this_update, base: None, listed }
    }

    fn full(number: u64, this_update: i64, listed: &[u8]) -> Crl {
        crl(CrlScope::Full, number, this_update, listed)
    }

    fn delta(number: u64, base: u64, listed: &[u8]) -> Crl {
        Crl { base: Some(base), ..crl(CrlScope::Delta, number, 50, listed) }
    }

    fn after(rounds: &[Vec<Crl>]) -> Result<CrlMemory, String> {
        let mut memory = CrlMemory::default();
        memory.acknowledge(&[1]);
        for round in rounds {
            memory.signed(round, &certificates()).map_err(|violation| violation.to_string())?;
        }
        Ok(memory)
    }

    fn rule(rounds: &[Vec<Crl>]) -> String {
        after(rounds).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_revocation_may_leave_when_one_crl_past_expiry_has_listed_it_and_not_before() {
        after(&[vec![full(1, 101, &[1])], vec![full(2, 102, &[])]]).unwrap();
        // Revoked past its expiry: the first that lists it is the last that must.
        after(&[vec![full(1, 500, &[1])], vec![full(2, 501, &[])]]).unwrap();
        // Expired between the two: no CRL past its expiry has listed it.
        let lacks = "I8: a CRL lacks an acknowledged revocation";
        assert_eq!(rule(&[vec![full(1, 99, &[1])], vec![full(2, 200, &[])]]), lacks);
        // In its last second it is still valid.
        assert_eq!(rule(&[vec![full(1, 100, &[1])], vec![full(2, 200, &[])]]), lacks);
        assert_eq!(rule(&[vec![full(1, 50, &[2])]]), lacks);
    }

    #[test]
    fn numbers_rise() {
        let rounds = [vec![full(4, 50, &[1])], vec![full(4, 60, &[1])]];
        assert_eq!(rule(&rounds), "I7: a CRL number does not rise");
    }

    #[test]
    fn shards_are_judged_each_by_what_names_it_and_by_its_own_past() {
        let both = |number, at, listed: &[u8], in_shard: &[u8]| {
            vec![full(number, at, listed), crl(CrlScope::Shard(0), number, at, in_shard)]
        };
        // The full CRL may drop it before the shard that was not signed in between does.
        after(&[both(1, 50, &[1], &[1]), vec![full(2, 101, &[1])], both(3, 102, &[], &[1])])
            .unwrap();
        let of = |rounds: &[Vec<Crl>]| rule(rounds)[..6].to_owned();
        assert_eq!(of(&[both(1, 50, &[1], &[])]), "I8, I9");
        // One that was not signed anew although something of its own was revoked.
        let mut memory = CrlMemory::default();
        memory.signed(&both(1, 50, &[], &[]), &certificates()).unwrap();
        memory.acknowledge(&[1]);
        memory.signed(&[full(2, 51, &[1])], &certificates()).unwrap_err();
        assert_eq!(of(&[both(1, 50, &[1, 2], &[1, 2])]), "I9: a ");
        let mut memory = CrlMemory::default();
        memory.signed(&both(1, 50, &[], &[1]), &certificates()).unwrap_err();
    }

    #[test]
    fn a_delta_crl_and_its_base_are_the_full_crl() {
        after(&[vec![full(1, 50, &[1])], vec![full(2, 60, &[1, 2]), delta(2, 1, &[2])]]).unwrap();
        let of = |listed: &[u8], base| {
            rule(&[vec![full(1, 50, &[1])], vec![full(2, 60, &[1, 2]), delta(2, base, listed)]])
        };
        assert!(of(&[1], 1).contains("lacks"));
        assert!(of(&[2, 3], 1).contains("lists what the full CRL does not"));
        assert!(of(&[2], 7).contains("without a base"));
    }
}
