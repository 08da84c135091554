//! Writes certificate revocation lists (RFC 5280 5): version 2, AKI, a rising number.
//!
//! Nothing here chooses the number or the time; both come from the ledger and the vault.

use crate::{
    calendar::UnixTime,
    der::{self, tag},
    ledger::Revocation,
    tbs::{self, Issuer, extension},
};

/// A CRL before its signature.
#[derive(Debug)]
pub struct TbsCertList {
    der: Vec<u8>,
    entries: u64,
}

impl TbsCertList {
    /// The TBSCertList, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// How many certificates it lists.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

/// The revoked certificates in the order in which they will stand, encoded.
#[derive(Debug, Default)]
pub struct Entries {
    der: Vec<u8>,
    count: u64,
}

impl Entries {
    /// Adds one entry: serial, date, and the reason code unless it is unspecified or absent
    /// (RFC 5280 5.3.1).
    pub fn push(&mut self, revocation: &Revocation) {
        let serial = der::element(tag::INTEGER, &revocation.serial);
        let date = der::time(revocation.at);
        let extensions = revocation.reason.as_deref().and_then(reason_code).map(|code| {
            let value = der::element(tag::ENUMERATED, &[code]);
            der::sequence(&[&tbs::extension(extension::REASON_CODE, false, &value)])
        });
        self.der.extend(der::sequence(&[&serial, &date, &extensions.unwrap_or_default()]));
        self.count += 1;
    }
}

/// The CRLReason of a word in an index: openssl's names, with what it adds for hold instructions
/// and compromise times after a comma. 0, `unspecified`, is left out.
fn reason_code(word: &str) -> Option<u8> {
    let word = word.split(',').next().unwrap_or_default();
    let codes = [
        ("keyCompromise", 1),
        ("CACompromise", 2),
        ("affiliationChanged", 3),
        ("superseded", 4),
        ("cessationOfOperation", 5),
        ("certificateHold", 6),
        ("removeFromCRL", 8),
        ("privilegeWithdrawn", 9),
        ("AACompromise", 10),
        ("holdInstruction", 6),
        ("keyTime", 1),
        ("CAkeyTime", 2),
    ];
    codes.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, code)| *code)
}

/// The TBSCertList. An empty list has no revokedCertificates at all (RFC 5280 5.1.2.6).
pub fn certificate_list(
    issuer: &Issuer,
    number: u64,
    this_update: UnixTime,
    next_update: UnixTime,
    entries: &Entries,
) -> TbsCertList {
    let revoked = match entries.count {
        0 => Vec::new(),
        _ => der::element(tag::SEQUENCE, &entries.der),
    };
    let number = tbs::extension(extension::CRL_NUMBER, false, &der::unsigned(number));
    let extensions = der::sequence(&[&tbs::authority_key_identifier(issuer), &number]);
    let der = der::sequence(&[
        &der::unsigned(1), // version 2
        &issuer.signature_algorithm,
        &issuer.name,
        &der::time(this_update),
        &der::time(next_update),
        &revoked,
        &der::explicit(0, &extensions),
    ]);
    TbsCertList { der, entries: entries.count }
}
