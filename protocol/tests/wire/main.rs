//! The bytes on the wire: golden files, another encoder, and the specification.

mod golden;
mod samples;
mod spec;
