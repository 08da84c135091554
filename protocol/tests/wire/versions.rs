//! A peer of the version before or after ours gets a clear answer, and so does the program.

use protocol::{
    frame::{self, DELIMITER, Decoder},
    link::HELLO_PREFIX,
    session::{Event, FrontendSession, Session, Side, SignerSession},
    time::{Duration, Instant},
    version::{VERSION_CURRENT, VERSION_MIN},
};

use crate::talk::config;

/// Where a Hello's body has the two versions.
const VERSIONS: std::ops::Range<usize> = 2..4;

/// What a program says, with these versions in all of its Hellos and, of a later version, more
/// fields behind those that we know.
fn of_version(bytes: &[u8], versions: (u8, u8), appended: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in bytes.split_inclusive(|byte| *byte == DELIMITER) {
        let sealed = Decoder::default().next(&mut &run[..]);
        let hello = sealed.as_ref().and_then(|sealed| sealed.open(HELLO_PREFIX));
        // Busy is under the same prefix, and of another kind.
        match hello.filter(|body| body[0] == 1) {
            Some(body) => {
                let mut body = body.to_vec();
                body[VERSIONS].copy_from_slice(&[versions.0, versions.1]);
                body.extend_from_slice(appended);
                frame::encode(HELLO_PREFIX, &body, &mut out);
            }
            None => out.extend_from_slice(run),
        }
    }
    out
}

struct Heard {
    incompatible: Vec<(u8, u8)>,
    up: bool,
    others: Vec<String>,
}

/// Twenty seconds of two programs that tell each other these versions.
fn meet(of_frontend: (u8, u8), of_signer: (u8, u8), appended: &[u8]) -> [Heard; 2] {
    let mut now = Instant::ZERO;
    let mut frontend: FrontendSession = Session::new(config(Side::Frontend, 1), now);
    let mut signer: SignerSession = Session::new(config(Side::Signer, 2), now);
    let mut heard =
        [(); 2].map(|()| Heard { incompatible: Vec::new(), up: false, others: Vec::new() });
    fn note<In: std::fmt::Debug>(event: Event<In>, heard: &mut Heard) {
        match event {
            Event::Incompatible { theirs } => heard.incompatible.push(theirs),
            Event::Up => heard.up = true,
            other => heard.others.push(format!("{other:?}")),
        }
    }
    while now < Instant::ZERO + Duration::from_secs(20) {
        while let Some(bytes) = frontend.poll_transmit(now) {
            signer.handle_bytes(now, &of_version(&bytes, of_frontend, appended));
        }
        while let Some(bytes) = signer.poll_transmit(now) {
            frontend.handle_bytes(now, &of_version(&bytes, of_signer, appended));
        }
        while let Some(event) = frontend.poll_event() {
            note(event, &mut heard[0]);
        }
        while let Some(event) = signer.poll_event() {
            note(event, &mut heard[1]);
        }
        now += Duration::from_millis(20);
        frontend.handle_timeout(now);
        signer.handle_timeout(now);
    }
    heard
}

const OURS: (u8, u8) = (VERSION_MIN, VERSION_CURRENT);

#[test]
fn the_version_before_and_the_version_after_are_named_at_both_ends_once() {
    let older = (VERSION_MIN - 1, VERSION_MIN - 1);
    let newer = (VERSION_CURRENT + 1, VERSION_CURRENT + 2);
    for (of_frontend, of_signer) in [(newer, OURS), (OURS, newer), (older, OURS), (OURS, older)] {
        // Each end hears of the other what that one cannot have in common with it: where the
        // frontend is newer, the signer is older to it.
        let seen_by_frontend = if of_signer == OURS { foreign(of_frontend) } else { of_signer };
        let seen_by_signer = if of_frontend == OURS { foreign(of_signer) } else { of_frontend };
        let [frontend, signer] = meet(seen_by_signer, seen_by_frontend, &[]);
        assert_eq!(frontend.incompatible, [seen_by_frontend], "what the frontend says");
        assert_eq!(signer.incompatible, [seen_by_signer], "what the signer says");
        assert!(!frontend.up && !signer.up, "they have no version in common");
        assert_eq!((frontend.others, signer.others), (vec![], vec![]));
    }
}

/// How a program of that version sees ours: as one that is on its other side.
fn foreign(theirs: (u8, u8)) -> (u8, u8) {
    match theirs.0 > VERSION_CURRENT {
        true => (VERSION_MIN - 1, VERSION_MIN - 1),
        false => (VERSION_CURRENT + 1, VERSION_CURRENT + 1),
    }
}

/// What a later version puts behind the known fields does not matter to ours. (They do not come up
/// here: who changes a Hello on its way is found out by the handshake.)
#[test]
fn a_later_program_that_still_speaks_our_version_is_no_stranger() {
    let [frontend, signer] = meet((VERSION_CURRENT, VERSION_CURRENT + 1), OURS, &[1, 2, 3]);
    assert_eq!(frontend.incompatible, []);
    assert_eq!(signer.incompatible, []);
}
