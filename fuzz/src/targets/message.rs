//! The message decoder: any bytes as a request and as an answer.

use std::fmt::Debug;

use protocol::message::{Answer, MESSAGE_MAX, Message, Request};

/// The first byte says which of the two it is.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((choice, rest)) if choice % 2 == 0 => check::<Request>(rest),
        Some((_, rest)) => check::<Answer>(rest),
        None => {}
    }
}

/// What is understood is written back in the shortest form, and that form means the same.
fn check<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = M::from_bytes(bytes) else { return };
    let written = message.to_bytes().expect("what was decoded has an encoding");
    assert!(written.len() <= bytes.len() && written.len() <= MESSAGE_MAX);
    assert_eq!(written[0], message.kind());
    let again = M::from_bytes(&written).expect("what was written can be read");
    assert_eq!(again, message);
    assert_eq!(again.lane(), message.lane());
    assert_eq!(again.request_id(), message.request_id());
}
