//! The bytes on the wire: golden files, another encoder, the specification, and damaged bytes.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is")]

mod bundles;
mod frozen;
mod golden;
mod layouts;
mod lengths;
mod samples;
mod spec;
mod talk;
mod truncation;
mod versions;
