//! The CRL mirror: what the world may rely on, byte for byte what the signer signed.
//!
//! A CRL is fetched in pieces ([`fetch`]), put together, checked ([`list`]) and only then renamed
//! into place ([`mirror`]). One that fails a check stays out and the old one stays.

pub mod fetch;
pub mod list;
pub mod mirror;

/// The longest CRL that is mirrored: about 5 million entries, twenty times the largest seen.
pub const CRL_MAX: u64 = 256 * 1024 * 1024;
