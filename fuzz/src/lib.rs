//! Everything that reads bytes which somebody else wrote, as targets of one form: bytes in, and a
//! panic if anything is not as it must be.
//!
//! `cargo xtask fuzz` runs them under libFuzzer, which looks for inputs that reach new code. The
//! test `smoke` runs the same targets over the committed corpus and over a fixed number of seeded
//! mutations of it, with the ordinary compiler. No target reads a clock or asks for randomness:
//! the same bytes always do the same.

pub mod input;
pub mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
