//! The frontend's copy of the signer's audit log, and what it remembers of it.
//!
//! Every entry names the hash of the one before it, so a copy that ends with the remembered hash is
//! whole. A log that was cut, or a signer restored from a backup, does not have the remembered entry
//! any more (invariant I12): that raises an alarm that stays until a person takes it down, and both
//! logs are kept. Nothing here changes or removes an entry that was stored.

pub mod chain;
pub mod copy;
pub mod fetch;

pub use copy::LogCopy;

/// The note with the [`copy::Memory`], and the scope of the alarm about a log that differs.
pub const AUDIT: &str = "audit";
/// The scope of the alarm about entries that were not taken.
pub const AUDIT_CHAIN: &str = "audit/chain";
/// The scope of the alarm about a copy that cannot be written.
pub const AUDIT_COPY: &str = "audit/copy";
