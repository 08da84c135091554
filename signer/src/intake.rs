//! Untrusted CSRs and OpenPGP keys become plain vetted values here, in a process of their own.
//!
//! [`Intake`] is the gate's side: it keeps one disposable [`worker`] alive and hands it one job
//! at a time; [`csr`] and [`openpgp`] are what the worker runs. A job that crashes or hangs its
//! worker costs itself and nobody else. What leaves this room needs no more parsing but for one
//! public key. No rule of a profile is applied here, and no key but the caller's is seen.

pub mod csr;
pub(crate) mod der;
mod keeper;
pub mod key;
pub mod openpgp;
pub(crate) mod text;
pub mod worker;

pub use keeper::{Full, Intake, IntakeError, JOB_LIMIT, JOBS_MAX, Outcome};
