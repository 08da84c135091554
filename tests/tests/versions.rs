//! A signer and a frontend of different releases: both say which versions meet, and nobody guesses.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use protocol::{
    frame::{self, DELIMITER, Decoder},
    link::HELLO_PREFIX,
    version::{VERSION_CURRENT, VERSION_MIN},
};
use tests::{Cable, World, story};

const WITHIN: Duration = Duration::from_secs(20);
/// A frontend's and a signer's Hello (`protocol/SPEC.md`, section 3).
const FRONTEND: u8 = 1;
const SIGNER: u8 = 2;

/// The Hello of a program of another release, which knows more fields than ours.
fn hello(side: u8, versions: (u8, u8)) -> Vec<u8> {
    let mut body = vec![1, side, versions.0, versions.1, 0];
    body.extend_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
    body.extend_from_slice(&1_u32.to_le_bytes());
    body.extend_from_slice(&[0; 12]);
    body.extend_from_slice(&4096_u16.to_le_bytes());
    body.extend_from_slice(&128_u16.to_le_bytes());
    body.extend_from_slice(b"and more");
    let mut wire = vec![DELIMITER];
    frame::encode(HELLO_PREFIX, &body, &mut wire);
    wire
}

/// The versions in the next Hello that comes.
fn heard(stream: &mut UnixStream) -> Result<(u8, u8)> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).context("the other program says nothing")?;
        ensure!(count > 0, "the other program went away");
        let mut bytes = &buffer[..count];
        while let Some(sealed) = decoder.next(&mut bytes) {
            if let Some([1, _, oldest, newest, ..]) = sealed.open(HELLO_PREFIX) {
                return Ok((*oldest, *newest));
            }
        }
    }
}

/// The signer's socket, as soon as its gate listens.
fn connected(world: &World) -> Result<UnixStream> {
    world.once(|| {
        if let Ok(stream) = UnixStream::connect(world.path("link.sock")) {
            return Ok(Some(stream));
        }
        // Takes a while, and fails if the signer's store is not right.
        world.signer(&["status"])?.done().map(|_| None)
    })
}

#[test]
fn a_frontend_of_a_later_version_and_the_signer_tell_each_other_and_the_operator() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        let mut frontend = connected(world)?;
        frontend.set_read_timeout(Some(WITHIN))?;
        let theirs = (VERSION_CURRENT + 1, VERSION_CURRENT + 2);
        frontend.write_all(&hello(FRONTEND, theirs))?;
        // The other release learns ours from our Hello, which no version changes.
        ensure!(heard(&mut frontend)? == (VERSION_MIN, VERSION_CURRENT));
        let words = format!("speaks protocol versions {} to {}", theirs.0, theirs.1);
        world.running_signer()?.wait_for(&words, WITHIN)?;
        world.told(|| world.signer(&["status"]), &[&words, "upgrade"]).map(drop)
    });
}

#[test]
fn a_signer_of_an_earlier_version_and_the_frontend_tell_each_other_and_the_operator() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let listener = UnixListener::bind(world.path("link.sock"))?;
        world.start_frontend(&[])?;
        let (mut signer, _) = listener.accept()?;
        signer.set_read_timeout(Some(WITHIN))?;
        let theirs = (VERSION_MIN - 1, VERSION_MIN - 1);
        signer.write_all(&hello(SIGNER, theirs))?;
        ensure!(heard(&mut signer)? == (VERSION_MIN, VERSION_CURRENT));
        let words = format!("speaks versions {} to {}", theirs.0, theirs.1);
        world.running_frontend()?.wait_for(&words, WITHIN)?;
        world.told(|| world.frontend(&["status"]), &[&words, "upgrade"]).map(drop)
    });
}
