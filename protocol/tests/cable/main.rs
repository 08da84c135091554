//! Two sessions and a bad cable between them, on virtual time.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is")]

mod certificates;
mod faults;
mod goodput;
mod hostile;
mod lanes;
mod lessons;
mod shared;
mod slow;
mod support;
mod work;
