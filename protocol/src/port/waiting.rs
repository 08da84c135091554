//! Frontends that came while another one is connected: each is told that the place is taken, and the
//! first of them comes next. None of them can keep us here, fill memory, or disturb who is connected.

use std::{
    collections::VecDeque,
    io::{Read, Write},
};

use super::device::or_later;
use crate::link::{Endpoint, Side};

/// Streams of those who wait, the first of them first. They must not block.
#[derive(Debug)]
pub(super) struct Waiting<S>(VecDeque<S>);

/// How many frontends are told to wait; more are left in the kernel's queue.
const WAITING_MAX: usize = 4;
/// How many reads it may take to empty what somebody who waits has said.
const WAITING_READS_MAX: usize = 256;

impl<S: Read + Write> Waiting<S> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Whoever has waited longest.
    pub(super) fn next(&mut self) -> Option<S> {
        self.0.pop_front()
    }

    /// Tells everybody who comes that it has to wait.
    pub(super) fn receive(&mut self, mut accept: impl FnMut() -> Option<S>) {
        self.drop_impatient();
        while self.0.len() < WAITING_MAX
            && let Some(stream) = accept()
        {
            self.0.push_back(stream);
            self.drop_impatient();
        }
    }

    /// Answers whatever those who wait said, and forgets those who went away.
    fn drop_impatient(&mut self) {
        let busy = Endpoint::busy_frame(Side::Signer);
        self.0.retain_mut(|stream| {
            let (mut said, mut buffer) = (false, [0; 1024]);
            // There is not more than a socket's buffer of bytes.
            for _ in 0..WAITING_READS_MAX {
                match or_later(stream.read(&mut buffer)) {
                    Ok(Some(0)) | Err(_) => return false,
                    Ok(Some(_)) => said = true,
                    Ok(None) => break,
                }
            }
            // A frame that does not fit is followed by another one, at the next hello.
            !said || or_later(stream.write(&busy)).is_ok()
        });
    }
}
