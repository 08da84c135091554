//! OpenPGP in the swarm: who certifies, whose keys, and what must hold of certifications.
//!
//! The authority has an Ed25519 key, whose signatures follow from key and message alone, and the
//! people's keys were made by gpg. What a certificate says is read without a library: our serial
//! stands behind its notation's name, and the user ID in front of it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    bounded::List,
    message::{ApprovedUserId, CertifyOpenPgp, OpenPgpReason, RequestId, RevokeOpenPgp},
};

use super::{Held, Violation, material::name};

/// Who certifies.
pub(crate) const AUTHORITY: &str = "openpgp";
/// Its user ID.
pub(crate) const USER_ID: &str = "Swarm <swarm@example.org>";
/// Its key.
pub(crate) const KEY: &[u8] = include_bytes!("material/openpgp/authority.pgp");

/// Somebody with a key.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) fingerprint: &'static str,
    pub(crate) user_ids: [&'static str; 2],
    key: &'static [u8],
}

/// Everybody.
pub(crate) static PEOPLE: [Person; 4] = [
    Person {
        fingerprint: "339963F197B8EC9EEE6F3FFB754F638AC8C2CD6D",
        user_ids: ["Person 0 <person0@example.org>", "Person 0 <p0@example.net>"],
        key: include_bytes!("material/openpgp/person0.pgp"),
    },
    Person {
        fingerprint: "26DB69D97D6BC7E4551962143DF10E466E46FD2A",
        user_ids: ["Person 1 <person1@example.org>", "Person 1 <p1@example.net>"],
        key: include_bytes!("material/openpgp/person1.pgp"),
    },
    Person {
        fingerprint: "883E740B974FD46C57A25608B645DB73EB71C271",
        user_ids: ["Person 2 <person2@example.org>", "Person 2 <p2@example.net>"],
        key: include_bytes!("material/openpgp/person2.pgp"),
    },
    Person {
        fingerprint: "819773698DD7CAFA59E553D82E32B1C8C027D3A4",
        user_ids: ["Person 3 <person3@example.org>", "Person 3 <p3@example.net>"],
        key: include_bytes!("material/openpgp/person3.pgp"),
    },
];

impl Person {
    fn of(key: &[u8]) -> Option<&'static Self> {
        PEOPLE.iter().find(|person| person.key == key)
    }

    /// Asks to have these user IDs certified.
    pub(crate) fn asks_for(&self, id: RequestId, user_ids: &[&str]) -> CertifyOpenPgp {
        let exact = |text: &&str| ApprovedUserId::Exact((*text).try_into().expect("a short text"));
        let user_ids = user_ids.iter().map(exact).collect::<Vec<_>>();
        CertifyOpenPgp {
            id,
            authority: name(AUTHORITY),
            policy: None,
            user_ids: List::try_from(user_ids).expect("a short list"),
            days: None,
            renew: false,
            key: self.key.to_vec().try_into().expect("a short key"),
        }
    }

    /// Asks to take certifications back: of one user ID, or of all.
    pub(crate) fn is_taken_back(&self, id: RequestId, user_id: Option<&str>) -> RevokeOpenPgp {
        RevokeOpenPgp {
            id,
            authority: name(AUTHORITY),
            fingerprint: self.fingerprint.try_into().expect("40 digits"),
            user_id: user_id.map(|text| text.try_into().expect("a short text")),
            reason: OpenPgpReason::UserIdInvalid,
        }
    }
}

/// Whose certification a serial is: the key's fingerprint and the user ID.
type Whose = (&'static str, &'static str);

/// Every serial that was ever released, with what it stands for and since when.
pub(crate) type Serials = BTreeMap<Vec<u8>, (Whose, i64)>;

/// What a signer remembers of certifications: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certifications {
    /// Requests that the vault was handed, in this order.
    heard: BTreeMap<RequestId, usize>,
    /// Serials that were answered, and when each was certified.
    given: BTreeMap<Vec<u8>, (Whose, i64)>,
    /// And those that were taken back.
    taken_back: BTreeMap<Vec<u8>, TakenBack>,
}

/// How a certification was taken back.
#[derive(Clone, Copy, Debug)]
struct TakenBack {
    by: RequestId,
    /// Whether the frontend waited for it; what went past its queue it does not know.
    is_known: bool,
    /// How many requests the vault had been handed by then.
    heard: usize,
}

impl Certifications {
    /// The vault is handed a request.
    pub(crate) fn heard(&mut self, id: RequestId) {
        let next = self.heard.len();
        self.heard.entry(id).or_insert(next);
    }

    /// The signer answered `request` with `certificate`.
    pub(crate) fn certified(
        &mut self,
        request: &CertifyOpenPgp,
        certificate: &[u8],
        serials: &mut Serials,
    ) -> Held {
        let broken = |rule: &str| Err(Violation::new(rule));
        let Some(person) = Person::of(&request.key) else { return Ok(()) };
        let found = read(person, certificate);
        let certified: BTreeSet<&str> = found.iter().map(|one| one.user_id).collect();
        let asked = person.user_ids.into_iter().filter(|one| {
            request.user_ids.iter().any(|asked| match asked {
                ApprovedUserId::Exact(text) => **text == **one,
                ApprovedUserId::Address { .. } => false,
            })
        });
        if certified != asked.collect() {
            return broken("I6: other user IDs are certified than were asked for");
        }
        for Found { user_id, serial, created } in found {
            let made = ((person.fingerprint, user_id), created);
            if serial.len() != 32 {
                return broken("I1: a certification's serial has another length than 16 octets");
            }
            if *serials.entry(serial.clone()).or_insert(made) != made {
                return broken("I1: a certification's serial was used twice");
            }
            // An answer from before that comes only now, since it was lost, is right.
            let heard = self.heard.get(&request.id);
            let before = |taken: &TakenBack| heard.is_some_and(|heard| *heard < taken.heard);
            if self.taken_back.get(&serial).is_some_and(|taken| !before(taken)) {
                return broken("I3: a certification is given again that was taken back");
            }
            self.given.insert(serial, made);
        }
        Ok(())
    }

    /// The signer took back at this time what `request` says; the frontend waits for that, or it is
    /// not known there.
    pub(crate) fn take_back(&mut self, request: &RevokeOpenPgp, revoked_at: i64, is_known: bool) {
        let is_meant = |((fingerprint, user_id), created): &(Whose, i64)| {
            **fingerprint == *request.fingerprint
                && request.user_id.as_ref().is_none_or(|meant| **meant == **user_id)
                && *created < revoked_at
        };
        let taken = TakenBack { by: request.id, is_known, heard: self.heard.len() };
        for (serial, _) in self.given.iter().filter(|(_, given)| is_meant(given)) {
            self.taken_back.entry(serial.clone()).or_insert(taken);
        }
    }

    /// By which request of the frontend this serial was taken back.
    pub(crate) fn taken_back_by(&self, serial: &str) -> Option<RequestId> {
        let taken = self.taken_back.get(serial.as_bytes())?;
        taken.is_known.then_some(taken.by)
    }
}

/// The name of the notation with our serial, by the shipped policy for [`USER_ID`].
const NOTATION: &[u8] = b"serial@example.org";

/// In front of it, not further than this, stands when it was made: a subpacket of five octets, the
/// critical one of type 2 (RFC 9580 5.2.3.11).
const CREATED_WITHIN: usize = 64;
const CREATED: [u8; 2] = [5, 0x82];

/// A certification of ours.
#[derive(Debug)]
struct Found {
    user_id: &'static str,
    serial: Vec<u8>,
    created: i64,
}

/// What is certified of this person in `certificate`: our signatures stand behind their user IDs.
fn read(person: &'static Person, certificate: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    for at in positions(certificate, NOTATION) {
        // RFC 9580 5.2.3.24: in front of the name stand the lengths of name and value.
        let length = certificate[..at].last_chunk().map_or(0, |two| u16::from_be_bytes(*two));
        let value = certificate[at + NOTATION.len()..].iter().take(length.into());
        let last = |user_id: &&str| positions(&certificate[..at], user_id.as_bytes()).last();
        let user_ids = person.user_ids.into_iter();
        let user_id = user_ids.filter(|one| last(one).is_some()).max_by_key(last);
        let before = &certificate[at.saturating_sub(CREATED_WITHIN)..at];
        let created =
            positions(before, &CREATED).next().and_then(|at| before[at + 2..].first_chunk());
        let created = created.map_or(0, |four| u32::from_be_bytes(*four).into());
        let serial = value.copied().collect();
        found.extend(user_id.map(|user_id| Found { user_id, serial, created }));
    }
    found
}

fn positions<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    (0..bytes.len()).filter(move |at| bytes[*at..].starts_with(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a certificate looks like to [`read`].
    fn certificate(created: u8, parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"primary key".to_vec();
        for (user_id, serial) in parts {
            bytes.extend_from_slice(user_id.as_bytes());
            bytes.extend_from_slice(b"self-signature");
            if !serial.is_empty() {
                let serial = long(serial);
                bytes.extend(CREATED.into_iter().chain([0, 0, 0, created]));
                bytes.extend([0, NOTATION.len() as u8, 0, serial.len() as u8]);
                bytes.extend_from_slice(NOTATION);
                bytes.extend_from_slice(serial.as_bytes());
            }
        }
        bytes
    }

    fn long(serial: &[u8]) -> String {
        format!("{:0>32}", String::from_utf8_lossy(serial))
    }

    #[test]
    fn each_way_to_certify_wrongly_is_seen() {
        let person = &PEOPLE[1];
        let [one, other] = person.user_ids;
        let id = RequestId::from_bytes([1; 16]);
        let both = person.asks_for(id, &[one, other]);
        let mut serials = Serials::new();
        let mut signer = Certifications::default();
        let by = |signer: &Certifications, serial: &[u8]| signer.taken_back_by(&long(serial));
        signer.heard(id);
        let good = certificate(5, &[(one, b"first"), (other, b"second")]);
        signer.certified(&both, &good, &mut serials).unwrap();
        signer.certified(&both, &good, &mut serials).unwrap();

        let rule = |signer: &Certifications, request, created, parts: &[(&str, &[u8])]| {
            let (mut signer, mut serials) = (signer.clone(), serials.clone());
            let certificate = certificate(created, parts);
            signer.certified(request, &certificate, &mut serials).unwrap_err().to_string()
        };
        let alone = person.asks_for(id, &[one]);
        let more = rule(&signer, &alone, 5, &[(one, b"first"), (other, b"second")]);
        assert_eq!(more, "I6: other user IDs are certified than were asked for");
        let fewer = rule(&signer, &both, 5, &[(one, b"first"), (other, b"")]);
        assert_eq!(fewer, "I6: other user IDs are certified than were asked for");
        let twice = rule(&signer, &alone, 5, &[(one, b"second")]);
        assert_eq!(twice, "I1: a certification's serial was used twice");
        let renewed = rule(&signer, &alone, 6, &[(one, b"first")]);
        assert_eq!(renewed, "I1: a certification's serial was used twice");
        let length = rule(&signer, &alone, 6, &[(one, &[b'7'; 33])]);
        assert_eq!(length, "I1: a certification's serial has another length than 16 octets");
        signer.take_back(&person.is_taken_back(id, Some(one)), 5, true);
        assert_eq!(by(&signer, b"first"), None, "it was made after that");
        let mut past_the_queue = signer.clone();
        past_the_queue.take_back(&person.is_taken_back(id, Some(one)), 6, false);
        assert_eq!(by(&past_the_queue, b"first"), None, "the frontend knows nothing of it");
        signer.take_back(&person.is_taken_back(id, Some(one)), 6, true);
        assert_eq!(by(&signer, b"first"), Some(id));
        assert_eq!(by(&signer, b"second"), None);
        // The answer to what was asked before may come again; what is asked now may not get it.
        signer.certified(&both, &good, &mut serials.clone()).unwrap();
        let later = person.asks_for(RequestId::from_bytes([2; 16]), &[one, other]);
        signer.heard(later.id);
        let again = rule(&signer, &later, 5, &[(one, b"first"), (other, b"second")]);
        assert_eq!(again, "I3: a certification is given again that was taken back");
        let anew = certificate(5, &[(one, b"third"), (other, b"second")]);
        signer.certified(&later, &anew, &mut serials.clone()).unwrap();
    }
}
