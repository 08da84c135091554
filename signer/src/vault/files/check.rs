//! `signer store check`: compares every file of a store with the ledger, and the ledger with
//! itself. Changes nothing.

use std::path::{Path, PathBuf};

use protocol::message::Digest;

use openpgp::OpenPgpCheck;

use super::{audit::segment_path, is_near};
use crate::{
    audit,
    authority::{
        Authority, index,
        newcerts::{Copies, CopyState},
        serial::serial_counter,
    },
    fault::Fault,
    ledger::Ledger,
};

mod openpgp;

/// What `signer store check` found.
#[derive(Debug, Default, serde::Serialize)]
pub struct CheckReport {
    /// How many certificates were looked at.
    pub certificates: u64,
    /// How many packs.
    pub packs: u64,
    /// How many audit entries.
    pub audit_entries: u64,
    /// Sentences, each a finding.
    pub findings: Vec<String>,
}

/// Copies that are named one by one; more are only counted.
const NAMED_MAX: u64 = 20;

/// Compares every file of a store with the ledger, and the ledger with itself. Changes nothing.
/// `progress` is told how many certificates were looked at.
pub fn check(
    store: &Path,
    authorities: &[Authority],
    progress: &mut dyn FnMut(u64),
) -> Result<CheckReport, Fault> {
    let ledger = Ledger::open(&Ledger::path(store))?;
    let mut report = CheckReport { findings: ledger.integrity()?, ..CheckReport::default() };
    for intent in ledger.open_intents()? {
        let serial = intent.serial();
        report.findings.push(format!("serial {serial} is not finished; the next start does it"));
    }
    let mut openpgp = OpenPgpCheck::new(store, &ledger)?;
    for authority in authorities {
        check_authority(authority, &ledger, &mut report, progress)?;
    }
    check_audit(store, &ledger, &mut openpgp, &mut report)?;
    report.findings.extend(openpgp.finish()?);
    Ok(report)
}

fn check_authority(
    authority: &Authority,
    ledger: &Ledger,
    report: &mut CheckReport,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let name = authority.name();
    let layout = authority.layout();
    match index::compare(layout, authority.id(), ledger, None) {
        Ok(differences) => {
            for row in &differences.foreign {
                let serial = &row.serial;
                report.findings.push(format!(
                    "{name}: the index line of serial {serial} is not the ledger's; the next \
                     start adopts it"
                ));
            }
            if index::metadata(layout)?.is_none() {
                report.findings.push(format!(
                    "{name}: index.txt is missing; the next start writes it, or run `signer \
                     store rebuild`"
                ));
            } else if differences.behind {
                report.findings.push(format!(
                    "{name}: index.txt is behind the ledger; the next start writes it, or run \
                     `signer store rebuild`"
                ));
            }
        }
        Err(Fault::Damaged { what, why }) => {
            report.findings.push(format!("{what} is damaged: {why}; run `signer store rebuild`"))
        }
        Err(fault) => return Err(fault),
    }
    let public = authority.certificate().public_key()?;
    let (counter, _) = ledger.counters(authority.id())?;
    if let Some(why) = index::serial_fault(layout, counter) {
        report.findings.push(format!(
            "{name}: the file serial cannot be used, {why}; the next start writes it, or run \
             `signer store rebuild`"
        ));
    }
    let packed_at = ledger.packed_at(authority.id())?;
    let (mut copies, packs_are_good) = check_packs(authority, report)?;
    let mut missing: u64 = 0;
    ledger.for_each_certificate(authority.id(), 0, |row| {
        report.certificates += 1;
        progress(report.certificates);
        let serial = &row.serial;
        let is_wrong = match copies.state(&row)? {
            CopyState::Right => false,
            // What a damaged pack had is told with the pack.
            CopyState::Wrong => packs_are_good || row.seq > packed_at,
            CopyState::Unreadable => false,
        };
        if is_wrong {
            missing += 1;
            if missing <= NAMED_MAX {
                report.findings.push(format!(
                    "{name}: newcerts/{serial}.pem is missing or differs; run `signer store \
                     rebuild`"
                ));
            }
        }
        if !row.der.is_empty() {
            let certificate = openssl::x509::X509::from_der(&row.der)?;
            if !certificate.verify(&public)? {
                report.findings.push(format!("{name}: serial {serial} has a bad signature"));
            }
        }
        if serial_counter(serial).is_some_and(|used| used > counter && is_near(used, counter)) {
            report.findings.push(format!("{name}: serial {serial} is above the counter {counter}"));
        }
        Ok(())
    })?;
    if missing > NAMED_MAX {
        report.findings.push(format!(
            "{name}: {} more copies are missing or differ; run `signer store rebuild`",
            missing - NAMED_MAX
        ));
    }
    for scope in authority.crl_scopes() {
        let Some(crl) = ledger.newest_crl_of(authority.id(), scope)? else { continue };
        let stored = std::fs::read(authority.layout().crl(scope, crl.number)).unwrap_or_default();
        if Digest::of(&stored) != crl.digest {
            let number = crl.number;
            let of = match crate::ledger::scope_name(scope) {
                full if full == "full" => String::new(),
                other => format!(" ({other})"),
            };
            report.findings.push(format!("{name}: CRL {number}{of} is missing or differs"));
        }
    }
    Ok(())
}

/// Reads every pack; answers the copies, and whether every pack is good.
fn check_packs(authority: &Authority, report: &mut CheckReport) -> Result<(Copies, bool), Fault> {
    let mut copies = Copies::open(authority.layout())?;
    let before = report.findings.len();
    for (path, fault) in copies.damaged() {
        report.findings.push(damaged_pack(path, fault));
    }
    report.packs += copies.damaged().len() as u64;
    for pack in copies.packs() {
        report.packs += 1;
        if let Err(fault) = pack.check() {
            report.findings.push(damaged_pack(pack.path(), &fault));
        }
    }
    Ok((copies, report.findings.len() == before))
}

fn damaged_pack(path: &Path, fault: &Fault) -> String {
    let path = path.display();
    match fault {
        Fault::Damaged { why, .. } => {
            format!("{path} is damaged: {why}; run `signer store rebuild`")
        }
        other => format!("{path}: {other}"),
    }
}

fn check_audit(
    store: &Path,
    ledger: &Ledger,
    openpgp: &mut OpenPgpCheck<'_>,
    report: &mut CheckReport,
) -> Result<(), Fault> {
    let mut previous = audit::ORIGIN;
    let mut expected = 1;
    let mut segment: Option<(PathBuf, Option<(String, usize)>)> = None;
    let files_at = ledger.audit_files_at()?;
    ledger.for_each_audit_line(0, |number, line, hash| {
        match audit::verify(line, expected, previous) {
            Ok(found) if found == hash => {}
            Ok(_) => report.findings.push(format!("audit entry {number} was changed")),
            Err(why) => report.findings.push(format!("audit log: {why}")),
        }
        (previous, expected) = (hash, number + 1);
        report.audit_entries += 1;
        openpgp.audited(number, line)?;
        if number <= files_at {
            let path = segment_path(store, number);
            if segment.as_ref().is_none_or(|(open, _)| *open != path) {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                segment = Some((path.clone(), Some((text, 0))));
            }
            // Nothing after the first difference in a file is compared: it all has moved.
            if let Some((_, compared @ Some(_))) = &mut segment {
                let after = |(text, at): (String, usize)| {
                    let rest = text.get(at..)?.strip_prefix(line)?.strip_prefix('\n')?;
                    let at = text.len() - rest.len();
                    Some((text, at))
                };
                *compared = compared.take().and_then(after);
                if compared.is_none() {
                    let path = path.display();
                    report
                        .findings
                        .push(format!("{path} differs from the ledger at entry {number}"));
                }
            }
        }
        Ok(())
    })
}
