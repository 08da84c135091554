//! `signer revoke`: what a root does only on a person's direct command.
//!
//! It works beside a running signer, which follows the ledger. What cannot be read stops it before
//! anything is recorded.

use std::path::Path;

use protocol::message::{RefusalCode, Serial};

use super::{Failure, RevokeArguments, crl, read_certificate, refuse, unusable};
use crate::{
    audit::Event,
    authority::Authority,
    clock::Moment,
    fault::Fault,
    keys::Secret,
    ledger::Status,
    vault::{self, Random},
};

/// Records a revocation and signs the CRL that shows it.
pub(super) fn revoke(
    store: &Path,
    arguments: &RevokeArguments,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: Moment,
) -> Result<(), Failure> {
    let name = arguments.authority.as_ref();
    let name = name.ok_or_else(|| Fault::Internal("no authority to revoke at".into()))?;
    let (authority, mut ledger, time) = crl::open(store, name, passphrase, now)?;
    let serial = match (&arguments.serial, &arguments.cert) {
        (Some(serial), _) => serial.clone(),
        (None, Some(path)) => serial_of(path, &authority)?,
        (None, None) => return Err(Fault::Internal("neither serial nor certificate".into()).into()),
    };
    let lock = vault::lock(&authority)?;
    vault::take_in(&authority, &mut ledger, &lock)?;
    let mut tx = ledger.begin(time)?;
    match tx.certificate(authority.id(), &serial)?.map(|row| row.status) {
        None => {
            let name = authority.name();
            let text = format!("{name} never issued a certificate with serial {serial}");
            return refuse(RefusalCode::SerialUnknown, text);
        }
        Some(Status::Revoked { at, .. }) => say!("serial {serial} is revoked since {at}"),
        Some(Status::Valid | Status::Expired) => {
            tx.revoke(authority.id(), &serial, arguments.reason)?;
            tx.audit(&Event::Revoked {
                request: "console".into(),
                authority: authority.name().to_string(),
                serial: serial.to_string(),
                reason: arguments.reason.name().to_owned(),
            })?;
            say!("serial {serial} is revoked");
        }
    }
    tx.commit()?;
    vault::settle(&authority, &mut ledger, vault::random_octets(random)?, &lock)?;
    drop(lock);
    crl::sign_with(store, &authority, &mut ledger, time)
}

/// The serial of a certificate, which must be the authority's own.
fn serial_of(path: &Path, authority: &Authority) -> Result<Serial, Failure> {
    let (certificate, serial) = read_certificate(path)?;
    let issuer = certificate.issuer_name().to_der().map_err(Fault::from)?;
    if issuer != authority.issuer().name {
        return Err(unusable(path, "another authority issued it").into());
    }
    Ok(serial)
}
