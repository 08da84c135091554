//! `signer revoke`: what a root does only on a person's direct command.
//!
//! It works beside a running signer, which follows the ledger.

use std::path::Path;

use openssl::x509::X509;
use protocol::message::{Name, RefusalCode, Serial};

use super::{Failure, RevokeArguments, refuse};
use crate::{
    audit::Event,
    authority::Authority,
    calendar::UnixTime,
    clock::Moment,
    durable,
    fault::Fault,
    keys::Secret,
    ledger::{Ledger, Status},
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
    let (authority, mut ledger, time) = open(store, name, passphrase, now)?;
    let serial = match (&arguments.serial, &arguments.cert) {
        (Some(serial), _) => serial.clone(),
        (None, Some(path)) => serial_of(path, &authority)?,
        (None, None) => return Err(Fault::Internal("neither serial nor certificate".into()).into()),
    };
    let lock = vault::lock(&authority)?;
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
    super::crl::sign_with(store, &authority, &mut ledger, time)
}

/// The authority and the ledger for a direct command, and the time to sign with.
pub(super) fn open(
    store: &Path,
    name: &Name,
    passphrase: Option<&Secret>,
    now: Moment,
) -> Result<(Authority, Ledger, UnixTime), Failure> {
    let ledger = Ledger::open(&vault::ledger_path(store))?;
    if ledger.authority(name)?.is_none() {
        let text = format!("there is no authority {name}; `signer authority list` shows them");
        return refuse(RefusalCode::AuthorityUnknown, text);
    }
    let floor = ledger.time_floor()?;
    if now.unix() < floor {
        let fault = Fault::Clock { now: now.unix().to_string(), floor: floor.to_string() };
        return Err(fault.into());
    }
    let authority = Authority::load(store, name, &ledger, passphrase)?;
    Ok((authority, ledger, now.unix()))
}

/// The serial of a certificate, which must be the authority's own.
fn serial_of(path: &Path, authority: &Authority) -> Result<Serial, Failure> {
    let unusable = |why: &str| {
        Fault::Configuration(format!("{}: {why}; give the right certificate", path.display()))
    };
    let bytes = durable::read(path)?;
    let certificate = X509::from_pem(&bytes).or_else(|_| X509::from_der(&bytes));
    let certificate = certificate.map_err(|_| unusable("it holds no certificate"))?;
    let issuer = certificate.issuer_name().to_der().map_err(Fault::from)?;
    if issuer != authority.issuer().name {
        return Err(unusable("another authority issued it").into());
    }
    let serial = certificate.serial_number().to_bn().map_err(Fault::from)?;
    Ok(Serial::from_magnitude(&serial.to_vec()).map_err(|_| unusable("it has no valid serial"))?)
}
