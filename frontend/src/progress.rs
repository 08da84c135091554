//! Shows that long work goes on: a bar on a terminal, a plain line now and then elsewhere.
//!
//! Everything goes to standard error; standard output stays for results.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use protocol::time::{Duration, Instant};

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    line: String,
    /// When a plain line was written last, or when this began.
    said_at: Instant,
    pause: Duration,
}

/// Whether standard error is a terminal, where a bar is shown.
pub fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

impl Progress {
    /// Shows progress on standard error.
    pub fn start(now: Instant) -> Self {
        let bar = on_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            let bar = ProgressBar::new(0);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, line: String::new(), said_at: now, pause: FIRST_PAUSE }
    }

    /// `done` of `all` are done, and `text` says what goes on.
    pub fn show(&mut self, now: Instant, done: u64, all: u64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(text.to_owned());
            return;
        }
        let line = format!("{done} of {all} done, {text}");
        if line == self.line || now.saturating_since(self.said_at) < self.pause {
            return;
        }
        // Progress that nobody can read is no reason to stop.
        let _ = writeln!(io::stderr(), "frontend: {line}");
        (self.line, self.said_at, self.pause) = (line, now, PLAIN_PAUSE);
    }

    /// The work is over; a bar leaves its last state behind.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// What takes less long needs no progress.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Plain lines come at most this often, so that a log stays readable.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
