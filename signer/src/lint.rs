//! Reads a TBS certificate back before it is stored, and compares it with what was permitted: the
//! check before the signature (limits: CA/B BR 4.3.1.2).
//!
//! What was written by [`crate::tbs`] is judged here by other readers: the intake's strict reader
//! for each certificate, OpenSSL for the first of each form. Only this room makes a [`LintedTbs`], and only a
//! [`LintedTbs`] becomes an intent.

use protocol::message::{CERTIFICATE_MAX, RefusalCode, Serial};

use crate::{
    calendar::UnixTime,
    intake::der::DerError,
    name,
    profile::{Permit, Profile},
    refusal::Refusal,
    tbs::{self, Issuer},
};

mod extensions;
mod fidelity;
mod fields;
mod shapes;
mod standard;

use fields::Fields;
pub use shapes::Shapes;

/// A TBS certificate that says exactly what was permitted and follows RFC 5280. Control: `lint`.
#[derive(Debug)]
pub struct LintedTbs {
    der: Vec<u8>,
    serial: Serial,
    not_after: UnixTime,
    subject: String,
    shard: Option<u16>,
}

impl LintedTbs {
    /// The TBSCertificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The subject in openssl's one-line form.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The shard of the CRL that its distribution points name; nothing where they name none.
    pub fn shard(&self) -> Option<u16> {
        self.shard
    }

    pub(crate) fn into_parts(self) -> (Serial, UnixTime, String, Vec<u8>) {
        (self.serial, self.not_after, self.subject, self.der)
    }
}

/// Checks `tbs` against RFC 5280, the permit, the profile and the issuer. A finding is a refusal,
/// so that one bad profile cannot stop the queue; it is logged and counted all the same.
pub fn lint(
    tbs: Vec<u8>,
    issuer: &Issuer,
    serial: Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<LintedTbs, Refusal> {
    lint_next(tbs, issuer, serial, permit, profile, &mut Shapes::default())
}

/// The same for one of many: OpenSSL reads the first of each form.
pub fn lint_next(
    tbs: Vec<u8>,
    issuer: &Issuer,
    serial: Serial,
    permit: &Permit,
    profile: &Profile,
    shapes: &mut Shapes,
) -> Result<LintedTbs, Refusal> {
    check(&tbs, issuer, &serial, permit, profile, shapes).map_err(|Finding(text)| {
        let text = format!("the certificate did not pass the check before signing: {text}");
        Refusal::new(RefusalCode::Lint, text)
    })?;
    let subject = name::one_line(&permit.wish().subject);
    let shard = profile.names_shard().then(|| tbs::shard_of(&serial, issuer.crl_shards));
    Ok(LintedTbs { der: tbs, serial, not_after: permit.not_after(), subject, shard })
}

fn check(
    tbs: &[u8],
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
    shapes: &mut Shapes,
) -> Result<(), Finding> {
    must(&SIZE, tbs.len() <= TBS_MAX)?;
    let fields = Fields::read(tbs).map_err(|error| SIGHT.finding(&error.to_string()))?;
    standard::check(&fields)?;
    fidelity::check(&fields, issuer, serial, permit, profile)?;
    shapes.once(tbs, || fidelity::check_with_openssl(tbs, &fields, permit))
}

//------------ Lint ----------------------------------------------------------

/// One thing that must be true of every certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lint {
    /// Its name in refusals, logs and tests.
    id: &'static str,
    /// What must be true.
    says: &'static str,
    /// Where it is written; empty where it is our own rule: what was permitted is what is signed.
    clause: &'static str,
}

impl Lint {
    fn finding(&self, why: &str) -> Finding {
        let Self { id, says, clause } = self;
        let clause = if clause.is_empty() { String::new() } else { format!(" ({clause})") };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Finding(format!("{id}: not true that {says}{clause}{why}"))
    }
}

fn must(lint: &Lint, holds: bool) -> Result<(), Finding> {
    if holds { Ok(()) } else { Err(lint.finding("")) }
}

/// What is wrong with a TBS certificate.
#[derive(Debug)]
struct Finding(String);

impl From<openssl::error::ErrorStack> for Finding {
    fn from(error: openssl::error::ErrorStack) -> Self {
        fidelity::OPENSSL_READS.finding(&error.to_string())
    }
}

impl From<DerError> for Finding {
    fn from(error: DerError) -> Self {
        SIGHT.finding(&error.to_string())
    }
}

const SIZE: Lint =
    Lint { id: "size", says: "the certificate fits into an answer over the cable", clause: "" };

const SIGHT: Lint = Lint {
    id: "structure",
    says: "the structure is that of a TBSCertificate in DER, without anything more",
    clause: "RFC 5280 4.1",
};

/// Room for the signature of the longest key (RSA-8192: 1,024 octets), its algorithm and lengths.
const TBS_MAX: usize = CERTIFICATE_MAX - 1_100;

#[cfg(test)]
mod tests;
