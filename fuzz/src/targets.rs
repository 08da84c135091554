//! The targets by name.

pub mod bundle;
#[cfg(feature = "programs")]
pub mod crl;
#[cfg(feature = "programs")]
pub mod csr;
pub mod frame;
pub mod handshake;
#[cfg(feature = "programs")]
pub mod index;
pub mod lanes;
pub mod link;
pub mod message;
#[cfg(feature = "programs")]
pub mod openpgp;
pub mod patch;
#[cfg(feature = "programs")]
pub mod profile;
pub mod session;
#[cfg(feature = "programs")]
pub mod spkac;

/// One reader of strange bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line and in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes any bytes; a panic is a finding.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: frame::run },
    Target { name: "message", run: message::run },
    Target { name: "lanes", run: lanes::run },
    Target { name: "patch", run: patch::run },
    Target { name: "link", run: link::run },
    Target { name: "session", run: session::run },
    Target { name: "handshake", run: handshake::run },
    Target { name: "bundle", run: bundle::run },
    #[cfg(feature = "programs")]
    Target { name: "csr", run: csr::run },
    #[cfg(feature = "programs")]
    Target { name: "spkac", run: spkac::run },
    #[cfg(feature = "programs")]
    Target { name: "openpgp", run: openpgp::run },
    #[cfg(feature = "programs")]
    Target { name: "index", run: index::run },
    #[cfg(feature = "programs")]
    Target { name: "profile", run: profile::run },
    #[cfg(feature = "programs")]
    Target { name: "crl", run: crl::run },
];
