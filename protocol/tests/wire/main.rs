//! The bytes on the wire: golden files, another encoder, and the specification.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is")]

mod golden;
mod samples;
mod spec;
