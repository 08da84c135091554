//! The intake's reader of OpenPGP keys.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::message::{ApprovedUserId, CERTIFICATE_MAX, USER_IDS_MAX};
use signer::intake::openpgp::{self, Limits, Minimal};

use crate::input::Input;

/// 2026-11-22: the keys of the corpus are valid then.
const NOW: Duration = Duration::from_secs(1_795_305_600);

/// The first byte says which user IDs are asked for and how late it is.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    // The user IDs that the keys of the corpus have.
    let ana = || exact("Ana <ana@example.org>");
    let asked = match choice % 4 {
        0 => vec![ana()],
        1 => vec![ana(), exact("Bob <bob@example.org>")],
        2 => vec![ApprovedUserId::Address {
            name: "Ana".try_into().expect("three letters fit"),
            address: "ana@example.org".try_into().expect("an address fits"),
        }],
        _ => vec![],
    };
    let later = Duration::from_secs(u64::from(choice >> 2) * 400 * 86_400 / 16);
    let now: SystemTime = UNIX_EPOCH + NOW + later;
    match openpgp::vet(input.rest(), &asked, now, &Limits::WIRE) {
        Ok(vetted) => {
            assert!(!vetted.user_ids().is_empty() && vetted.user_ids().len() <= USER_IDS_MAX);
            let plain = joined(vetted.minimal());
            assert!(!vetted.primary().is_empty() && plain.len() <= CERTIFICATE_MAX);
            // What leaves is itself a key that is vetted alike.
            let again = openpgp::vet(&plain, &asked, now, &Limits::WIRE);
            let again = again.expect("the minimal form is a key");
            assert_eq!(again.fingerprint(), vetted.fingerprint());
            assert_eq!(again.user_ids(), vetted.user_ids());
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

fn exact(text: &str) -> ApprovedUserId {
    ApprovedUserId::Exact(text.try_into().expect("a short text fits"))
}

/// The pieces, one after the other.
fn joined(minimal: &Minimal) -> Vec<u8> {
    let user_ids = minimal.user_ids().iter().flat_map(|user_id| user_id.iter());
    minimal.head().iter().chain(user_ids).chain(minimal.tail()).copied().collect()
}
