//! Untrusted CSRs and OpenPGP keys become plain vetted values here, in a process of their own.
//!
//! [`Intake`] is the gate's side: it keeps one disposable [`worker`] alive and hands it one job
//! at a time; [`csr`], [`spkac`] and [`openpgp`] are what the worker runs. A job that crashes or
//! hangs its worker costs itself and nobody else. What leaves this room needs no more parsing but
//! for one public key. No rule of a profile is applied here, and no key but the caller's is seen.

#[cfg(test)]
pub(crate) mod crafting;
pub mod csr;
pub(crate) mod der;
mod keeper;
pub mod key;
pub(crate) mod modulus;
pub mod openpgp;
mod possession;
pub mod spkac;
pub(crate) mod text;
pub mod worker;

pub use keeper::{Full, Intake, IntakeError, JOB_LIMIT, JOBS_MAX, Outcome};
