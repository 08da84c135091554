//! The CRL mirror: what the world may rely on, byte for byte what the signer signed.
//!
//! A CRL is fetched in pieces ([`fetch`]), put together, checked ([`list`]) and only then renamed
//! into place ([`mirror`]). One that fails a check stays out and the old one stays.

use std::fmt;

use protocol::message::{CrlScope, Name, Serial};

use crate::catalogue::Authority;

pub mod fetch;
pub mod list;
pub mod mirror;
pub mod promise;

/// One of the CRLs that are mirrored. Its text is the stem of its files and the scope of its
/// alarm: `issuing`, `issuing.delta`, `issuing.shard-07`; the name of an authority has no dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlName {
    /// Whose CRL.
    pub authority: Name,
    /// For which of its certificates.
    pub scope: CrlScope,
}

impl CrlName {
    /// The CRL of an authority for one scope.
    pub fn new(authority: &Name, scope: CrlScope) -> Self {
        Self { authority: authority.clone(), scope }
    }
}

/// Every CRL that an authority signs, the full one first.
pub fn all_of(authority: &Authority) -> impl Iterator<Item = CrlName> + '_ {
    let delta = authority.delta_crl.then_some(CrlScope::Delta);
    let shards = (0..authority.crl_shards).map(CrlScope::Shard);
    let scopes = std::iter::once(CrlScope::Full).chain(delta).chain(shards);
    scopes.map(|scope| CrlName::new(&authority.name, scope))
}

/// The CRLs of an authority that can list this serial, the full one first.
pub fn listing(authority: &Authority, serial: &Serial) -> Vec<CrlName> {
    let mut names: Vec<_> =
        all_of(authority).take_while(|name| !matches!(name.scope, CrlScope::Shard(_))).collect();
    if authority.crl_shards > 0 {
        let shard = CrlScope::Shard(shard_of(serial, authority.crl_shards));
        names.push(CrlName::new(&authority.name, shard));
    }
    names
}

/// The shard that lists a certificate, as the signer reckons it for ever: the last two octets of
/// the serial, modulo the number of shards. It decides what is asked for first, no more.
fn shard_of(serial: &Serial, shards: u16) -> u16 {
    let octets = serial.as_octets();
    let last = octets.last_chunk::<2>().copied();
    let last = last.unwrap_or([0, octets.last().copied().unwrap_or(0)]);
    u16::from_be_bytes(last) % shards
}

/// The full CRL of an authority.
impl From<&Name> for CrlName {
    fn from(authority: &Name) -> Self {
        Self::new(authority, CrlScope::Full)
    }
}

impl From<&CrlName> for CrlName {
    fn from(name: &CrlName) -> Self {
        name.clone()
    }
}

impl fmt::Display for CrlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.authority;
        match self.scope {
            CrlScope::Full => write!(f, "{authority}"),
            CrlScope::Delta => write!(f, "{authority}.delta"),
            CrlScope::Shard(shard) => write!(f, "{authority}.shard-{shard:02}"),
        }
    }
}

/// The longest CRL that is mirrored: about 5 million entries, twenty times the largest seen.
pub const CRL_MAX: u64 = 256 * 1024 * 1024;
