//! `signer store find`: where a certificate is, and how it stands. Changes nothing.
//!
//! The ledger finds it; the files are then asked where it shows there.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use openssl::x509::{CrlStatus, X509Crl};
use protocol::message::{CrlScope, Name, Serial};
use serde::Serialize;

use super::{FindArguments, chosen, to_json};
use crate::{
    authority::{
        Layout, index,
        newcerts::{self, Copies, Place},
    },
    console::{Failure, read_certificate},
    fault::Fault,
    ledger::{AuthorityId, CertificateRow, Ledger, Status},
};

/// The most certificates that a part of a subject may bring up.
const FOUND_MAX: usize = 100;

/// One certificate, wherever it is.
#[derive(Debug, Serialize)]
struct Found {
    authority: String,
    serial: String,
    subject: String,
    profile: String,
    not_after: String,
    /// V, R or E, as in the index.
    status: &'static str,
    revoked_at: Option<String>,
    reason: Option<String>,
    /// The line's number in index.txt.
    index_line: Option<u64>,
    /// The file with the stored copy.
    copy: Option<String>,
    in_pack: bool,
    /// What is wrong with the copy.
    copy_fault: Option<String>,
    /// Whether the newest full CRL lists it.
    in_crl: Option<bool>,
}

pub(super) fn find(store: &Path, arguments: &FindArguments, json: bool) -> Result<(), Failure> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let certificate = arguments.cert.as_deref().map(read_certificate).transpose()?;
    let (der, serial) = match certificate {
        Some((certificate, serial)) => {
            (Some(certificate.to_der().map_err(Fault::from)?), Some(serial))
        }
        None => (None, arguments.serial.clone()),
    };
    let mut rows: Vec<(Name, AuthorityId, CertificateRow)> = Vec::new();
    for (name, id) in chosen(&ledger, arguments.authority.as_ref())? {
        let found = match (&serial, &arguments.subject) {
            (Some(serial), _) => ledger.certificate(id, serial)?.into_iter().collect(),
            (None, Some(text)) => ledger.with_subject(id, text, FOUND_MAX)?,
            (None, None) => return Err(Fault::Internal("nothing to look for".into()).into()),
        };
        // Another authority may have the same serial.
        let is_meant = |row: &CertificateRow| {
            der.as_ref().is_none_or(|der| row.der.is_empty() || row.der == *der)
        };
        rows.extend(found.into_iter().filter(is_meant).map(|row| (name.clone(), id, row)));
    }
    if rows.is_empty() {
        return Err(Failure::Away(match (&serial, &arguments.subject) {
            (Some(serial), _) if der.is_some() => format!(
                "no authority here has issued this certificate with serial {serial}; compare it \
                 with `signer store find {serial}`"
            ),
            (Some(serial), _) => {
                format!("no certificate has serial {serial}; `--subject` finds by a part of a name")
            }
            (None, text) => format!(
                "no subject has `{}` in it; write it as in index.txt",
                text.as_deref().unwrap_or_default()
            ),
        }));
    }
    if arguments.copy {
        let (name, _, row) = &rows[0];
        return print_copy(&Layout::new(store, name), row);
    }
    let mut all = Vec::new();
    for (name, _, row) in &rows {
        all.push(describe(&Layout::new(store, name), name, row)?);
    }
    if json {
        say!("{}", to_json(&all)?);
    } else {
        all.iter().for_each(print);
        if arguments.subject.is_some() && rows.len() >= FOUND_MAX {
            say!("there may be more: give more of the subject, or name the authority");
        }
    }
    Ok(())
}

/// The stored copy on standard output; the ledger's, where none is right.
fn print_copy(layout: &Layout, row: &CertificateRow) -> Result<(), Failure> {
    use std::io::Write;
    let found = match Copies::open(layout)?.find(&row.serial) {
        Ok(found) => found.map(|(_, bytes)| bytes),
        Err(Fault::Damaged { .. }) => None,
        Err(fault) => return Err(fault.into()),
    };
    let right = found.filter(|bytes| row.der.is_empty() || newcerts::holds(bytes, &row.der));
    let bytes = match right {
        Some(bytes) => bytes,
        None if row.der.is_empty() => {
            return Err(Failure::Away(format!(
                "serial {} was adopted from an index line alone; no copy of it is here",
                row.serial
            )));
        }
        None => newcerts::pem(&row.der),
    };
    let _ = std::io::stdout().write_all(&bytes); // a reader that is gone needs none of it
    Ok(())
}

fn describe(layout: &Layout, name: &Name, row: &CertificateRow) -> Result<Found, Failure> {
    let (copy, copy_fault) = match Copies::open(layout)?.find(&row.serial) {
        Ok(Some((place, bytes))) => {
            let is_right = row.der.is_empty() || newcerts::holds(&bytes, &row.der);
            let fault = "it is not the ledger's certificate; run `signer store rebuild`";
            (Some(place), (!is_right).then(|| fault.to_owned()))
        }
        Ok(None) if row.der.is_empty() => (None, Some("adopted from an index line alone".into())),
        Ok(None) => (None, Some("it is missing; run `signer store rebuild`".into())),
        Err(Fault::Damaged { what, why }) => {
            (None, Some(format!("{what} is damaged: {why}; run `signer store rebuild`")))
        }
        Err(fault) => return Err(fault.into()),
    };
    let (revoked_at, reason) = match &row.status {
        Status::Revoked { at, reason } => (Some(at.to_string()), reason.clone()),
        Status::Valid | Status::Expired => (None, None),
    };
    Ok(Found {
        authority: name.to_string(),
        serial: row.serial.to_string(),
        subject: row.subject.clone(),
        profile: row.profile.clone(),
        not_after: row.not_after.to_string(),
        status: row.status.letter(),
        in_crl: in_crl(layout, &row.serial)?,
        revoked_at,
        reason,
        index_line: line_number(layout, &row.serial)?,
        in_pack: matches!(copy, Some(Place::Pack(_))),
        copy: copy.map(|place| place.path().display().to_string()),
        copy_fault,
    })
}

/// The line of a serial in `index.txt`.
fn line_number(layout: &Layout, serial: &Serial) -> Result<Option<u64>, Fault> {
    let path = layout.file("index.txt");
    let Ok(file) = File::open(&path) else { return Ok(None) };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut text = Vec::new();
    // As it is spelled in nearly every line; only a line that might have it is parsed.
    let digits = serial.to_string();
    let spelled = digits.trim_start_matches('0').as_bytes();
    for number in 1.. {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(Fault::disk("read", &path))? == 0 {
            break;
        }
        let may_have_it = text
            .split(|byte| *byte == b'\t')
            .any(|field| field.len() >= spelled.len() && ends_with(field, spelled));
        let line = std::str::from_utf8(&text).unwrap_or_default().trim_end_matches('\n');
        if may_have_it && index::parse(line).is_ok_and(|row| row.serial == *serial) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn ends_with(field: &[u8], digits: &[u8]) -> bool {
    field[field.len() - digits.len()..].eq_ignore_ascii_case(digits)
}

/// Whether the newest full CRL lists a serial; nothing where there is no CRL.
fn in_crl(layout: &Layout, serial: &Serial) -> Result<Option<bool>, Fault> {
    let Ok(der) = std::fs::read(layout.newest_crl(CrlScope::Full)) else { return Ok(None) };
    let Ok(crl) = X509Crl::from_der(&der) else { return Ok(None) };
    let number = openssl::bn::BigNum::from_slice(serial.as_octets())?.to_asn1_integer()?;
    Ok(Some(!matches!(crl.get_by_serial(&number), CrlStatus::NotRevoked)))
}

fn print(found: &Found) {
    say!("{} {}", found.authority, found.serial);
    say!("  subject      {}", found.subject);
    if !found.profile.is_empty() {
        say!("  profile      {}", found.profile);
    }
    say!("  valid until  {}", found.not_after);
    match (found.status, &found.revoked_at) {
        ("R", Some(at)) => {
            let reason = found.reason.as_deref().unwrap_or("no reason given");
            say!("  status       R, revoked at {at}, {reason}");
        }
        ("E", _) => say!("  status       E, expired"),
        (letter, _) => say!("  status       {letter}, valid"),
    }
    match found.in_crl {
        Some(true) => say!("  CRL          listed in crl/current.crl"),
        Some(false) if found.status == "R" => {
            say!("  CRL          not in crl/current.crl: not yet, or pruned after expiry");
        }
        Some(false) => say!("  CRL          not listed"),
        None => say!("  CRL          there is no crl/current.crl"),
    }
    match found.index_line {
        Some(number) => say!("  index.txt    line {number}"),
        None => say!("  index.txt    not there; the next start writes it"),
    }
    match (&found.copy, found.in_pack) {
        (Some(path), true) => say!("  copy         in the pack {path}"),
        (Some(path), false) => say!("  copy         {path}"),
        (None, _) => {}
    }
    if let Some(why) = &found.copy_fault {
        say!("  copy         {why}");
    }
}
