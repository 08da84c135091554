//! How far long work is, for a person who watches.
//!
//! On a terminal one line that changes; where standard error is piped, nothing.

use std::io::{IsTerminal, Write};

/// A line on a terminal, which goes when the work is done.
#[derive(Debug)]
pub(in crate::console) struct Progress {
    what: &'static str,
    shown: u64,
    is_terminal: bool,
}

/// So many between two looks: often enough for eyes, seldom enough to cost nothing.
const STEP: u64 = 5_000;

impl Progress {
    /// Nothing is shown before the first step.
    pub(in crate::console) fn new(what: &'static str) -> Self {
        Self { what, shown: 0, is_terminal: std::io::stderr().is_terminal() }
    }

    /// So many are done.
    pub(in crate::console) fn at(&mut self, count: u64) {
        if self.is_terminal && count >= self.shown + STEP {
            self.shown = count;
            // A terminal that is gone has nobody who watches.
            let _ = write!(std::io::stderr(), "\r{count} {}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > 0 {
            let _ = write!(std::io::stderr(), "\r{:60}\r", ""); // as above
        }
    }
}
