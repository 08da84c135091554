//! Two sessions and a bad cable between them, on virtual time.

mod faults;
mod goodput;
mod support;
