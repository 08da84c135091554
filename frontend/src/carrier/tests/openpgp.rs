//! Stories of certified OpenPGP keys that only the order of answers decides.

use protocol::message::{CertifyOpenPgp, OpenPgpReason, RefusalCode, RevokeOpenPgp};
use sequoia_openpgp::{Cert, types::ReasonForRevocation};

use super::*;
use crate::openpgp::tests::{
    ALICE, BOB, NOW_S, entry, honest, key, public, request, revocation, signed, uncertified,
};

/// A frontend that has certifications of both user IDs of a key.
struct Certified {
    rig: Rig,
    signer: Cert,
    cert: Cert,
}

impl Certified {
    fn new() -> Self {
        let (signer, cert) = (key(&["CA"]), key(&[ALICE, BOB]));
        let mut rig = Rig::new();
        let mut catalogue = rig.ca.catalogue("issuing");
        catalogue.openpgp = vec![entry(&signer)].try_into().unwrap();
        rig.known = catalogue.digest().unwrap();
        rig.up_with(catalogue);
        let id = rig.next_id();
        let asked = CertifyOpenPgp { id, ..request(&cert, &[ALICE, BOB], Some(30)) };
        rig.insert(&Request::Certify(asked));
        let certified = signed(&signer, &cert, ALICE, honest(30));
        let certified = signed(&signer, &certified, BOB, honest(30));
        rig.requests();
        let certificate = public(&certified).try_into().unwrap();
        rig.answer([Answer::Certified { id, certificate }]);
        assert_eq!(rig.state(id), State::Done, "{:?}", rig.alarm(&format!("request/{id}")));
        Self { rig, signer, cert }
    }

    fn take_back(&mut self, user_id: Option<&str>) -> RequestId {
        let id = self.rig.next_id();
        self.rig.insert(&Request::RevokeOpenPgp(RevokeOpenPgp {
            id,
            authority: "ca".parse().unwrap(),
            fingerprint: self.cert.fingerprint().to_hex().as_str().try_into().unwrap(),
            user_id: user_id.map(|text| text.try_into().unwrap()),
            reason: OpenPgpReason::Unspecified,
        }))
    }

    fn taken_back(&mut self, id: RequestId, text: &str) {
        let by_signer =
            revocation(&self.signer, &self.cert, text, ReasonForRevocation::Unspecified);
        let certificate = uncertified(&self.cert, &[(text, by_signer)]).try_into().unwrap();
        self.rig.answer([Answer::CertificationRevoked { id, revoked_at: NOW_S + 5, certificate }]);
    }
}

// The signer signs both at once: of the whole key it says what the first request left.
#[test]
fn taking_back_one_user_id_and_then_the_whole_key_is_done_whichever_answer_comes_first() {
    let mut story = Certified::new();
    let one = story.take_back(Some(BOB));
    let all = story.take_back(None);
    assert_eq!(story.rig.ids(), [one, all]);
    story.taken_back(all, ALICE);
    assert!(!story.rig.state(all).is_final(), "{:?}", story.rig.entry(all));
    assert_eq!(story.rig.alarm(&format!("request/{all}")), None);
    story.taken_back(one, BOB);
    assert_eq!(story.rig.state(one), State::Done);
    story.rig.wait(Duration::from_secs(61));
    assert_eq!(story.rig.ids(), [all], "looked at again");
    story.taken_back(all, ALICE);
    assert_eq!(story.rig.state(all), State::Done);
}

#[test]
fn taking_back_a_whole_key_of_which_the_signer_knows_a_part_ends_with_what_to_do() {
    let mut story = Certified::new();
    let all = story.take_back(None);
    // A younger request is no reason to wait: it may wait for this one.
    let younger = story.take_back(Some(BOB));
    assert_eq!(story.rig.ids(), [all, younger]);
    story.taken_back(all, ALICE);
    let (code, text) = story.rig.entry(all).refusal.unwrap();
    assert_eq!(code, RefusalCode::OpenPgpNothingCertified.name());
    assert!(text.contains(BOB) && text.contains("--renew"), "{text}");
}
