//! Bundles on a medium: any file, and a good one changed anywhere, its digest made right again.

use std::{io::Cursor, sync::OnceLock};

use protocol::{
    bundle::{Head, Reader, Writer},
    link::Side,
    message::Digest,
    secure::Entropy,
};

use super::session::pairings;
use crate::input::Input;

/// A good bundle from the frontend.
struct Good {
    file: Vec<u8>,
    messages: Vec<Vec<u8>>,
    /// Where its header has the digest of all behind the header, and how long before that its own
    /// length; the header ends with the digest.
    digest_at: usize,
}

/// The first byte says whether the rest is a file, changes of a good one, or messages to pack.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => assert!(read(input.rest()).is_none(), "a bundle that nobody wrote"),
        1 | 2 => change(input),
        _ => there_and_back(input),
    }
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let messages = vec![b"one".to_vec(), vec![7; 20_000], vec![], b"the last one".to_vec()];
        write(&messages)
    })
}

fn write(messages: &[Vec<u8>]) -> Good {
    let head = Head { from: Side::Frontend, number: 3, answers: 2 };
    let file = Cursor::new(Vec::new());
    let entropy = Entropy::seeded(5);
    let mut writer =
        Writer::begin(file, &head, &pairings().0, &entropy).expect("a bundle in memory is begun");
    for message in messages {
        writer.add(message).expect("there is room in memory");
    }
    let (file, written) = writer.finish().expect("a bundle in memory is finished");
    let file = file.into_inner();
    let digest = written.digest.as_bytes();
    let digest_at = file.windows(digest.len()).position(|window| window == digest);
    let digest_at = digest_at.expect("the header has the digest");
    Good { file, messages: messages.to_vec(), digest_at }
}

/// The messages of a file that the signer takes.
fn read(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader::open(Cursor::new(file), &pairings().1, Side::Signer).ok()?;
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message().expect("it was read once") {
        messages.push(message);
    }
    assert_eq!(messages.len() as u64, reader.messages());
    Some(messages)
}

/// Changes that end in another file are found out, also by a header that fits them.
fn change(mut input: Input<'_>) {
    let Good { file, messages, digest_at } = good();
    let mut changed = file.clone();
    while !input.is_empty() {
        let at = usize::from(input.word()) % (changed.len() + 1);
        match input.byte() % 4 {
            0 if at < changed.len() => changed[at] ^= input.byte(),
            1 => changed.truncate(at),
            2 => {
                let count = input.below(32);
                let end = (at + count).min(changed.len());
                changed.drain(at..end);
            }
            _ => {
                let length = input.below(32);
                changed.splice(at..at, input.take(length).iter().copied());
            }
        }
    }
    let header_length = digest_at + 32;
    if changed.len() >= header_length {
        let length = changed.len() as u64;
        changed[digest_at - 8..*digest_at].copy_from_slice(&length.to_le_bytes());
        let digest = Digest::of(&changed[header_length..]);
        changed[*digest_at..header_length].copy_from_slice(digest.as_bytes());
    }
    match read(&changed) {
        Some(found) => assert!(changed == *file && found == *messages, "a changed bundle"),
        None => assert!(changed != *file, "the good bundle is refused"),
    }
}

fn there_and_back(mut input: Input<'_>) {
    let mut messages = Vec::new();
    while !input.is_empty() && messages.len() < 20 {
        let length = usize::from(input.word()) % 40_000;
        messages.push(vec![messages.len() as u8; length]);
    }
    assert_eq!(read(&write(&messages).file), Some(messages));
}
