//! Takes over a key from GnuPG 1 or 2: `secring.gpg`, `pubring.gpg`, and what `gpg --export` and
//! `gpg --export-secret-keys` write, armoured or not.
//!
//! What leaves is a certify-only certificate with an open secret key. Third-party signatures and
//! photos stay behind; so do subkeys, which an authority has no use for. Nothing is stored here.

use std::path::{Path, PathBuf};

use sequoia_openpgp::{Cert, Packet, cert::CertParser, packet::UserID, parse::Parse};

use super::{key, system_time};
use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    intake::openpgp::{kind::KeyKind, policy},
    keys::Secret,
};

/// The largest keyring that is read: a ring of 20,000 keys has about this size.
const RING_MAX: u64 = 64 * 1024 * 1024;
/// Own user IDs of one authority's key.
const USER_IDS_MAX: usize = 16;

/// Which key is to be taken over, from where.
#[derive(Debug)]
pub struct Source {
    /// The keyring with the secret key.
    pub secret_ring: PathBuf,
    /// The keyring with the public key, which may be newer.
    pub public_ring: Option<PathBuf>,
    /// Which key, where there are several.
    pub fingerprint: Option<String>,
}

/// A key that was taken over.
#[derive(Debug)]
pub struct Imported {
    /// Its certificate, with its open secret key.
    pub cert: Cert,
    /// Its revocation certificate, armoured.
    pub revocation: String,
    /// Whether its self-signatures had to be made anew: they used SHA-1, or were no more valid.
    pub signed_anew: bool,
}

/// Reads the key, opens it with the passphrase that it has, and checks that it can certify here.
pub fn import(
    source: &Source,
    passphrase: Option<&Secret>,
    now: UnixTime,
) -> Result<Imported, Fault> {
    let path = &source.secret_ring;
    let wrong = |text: String| Fault::Configuration(format!("{}: {text}", path.display()));
    let cert = chosen(source)?;
    let fingerprint = cert.fingerprint();
    let cert = match &source.public_ring {
        Some(ring) => with_public(cert, ring)?,
        None => cert,
    };
    let public = cert.primary_key().key();
    if public.version() != 4 {
        let text = "only version 4 keys certify here, since old programs read no others";
        return Err(wrong(format!("key {fingerprint} has version {}; {text}", public.version())));
    }
    match KeyKind::of(public) {
        Ok((KeyKind::Rsa, 4097..)) => {
            return Err(wrong(format!("key {fingerprint} is RSA of more than 4096 bits")));
        }
        Ok(_) => {}
        Err(refusal) => {
            return Err(wrong(format!(
                "key {fingerprint} cannot certify here: {}; make a new one with `signer openpgp \
                 create`, and certify it with the old one on the old machine",
                refusal.text
            )));
        }
    }
    if public.creation_time() > system_time(now) {
        return Err(wrong(format!(
            "key {fingerprint} was made after the time of this machine, {now}; set the clock as in \
             hsm-docs/time-visit.md"
        )));
    }
    if cert.primary_key().self_revocations().next().is_some() {
        return Err(wrong(format!("key {fingerprint} is revoked; make a new one")));
    }
    let cert = open(cert, passphrase, path)?;
    let (cert, signed_anew) = trimmed(cert, now).map_err(|fault| wrong(fault.to_string()))?;
    let revocation = key::revocation_certificate(&cert, now)?;
    Ok(Imported { cert, revocation, signed_anew })
}

/// The one key of the ring that has a secret half, or the one that was named.
fn chosen(source: &Source) -> Result<Cert, Fault> {
    let path = &source.secret_ring;
    let wrong = |text: String| Fault::Configuration(format!("{}: {text}", path.display()));
    let named = source.fingerprint.as_ref().map(|text| text.replace(' ', "").to_uppercase());
    let secret: Vec<Cert> = ring(path)?.into_iter().filter(Cert::is_tsk).collect();
    let names = || {
        let names: Vec<_> = secret.iter().map(|cert| cert.fingerprint().to_hex()).collect();
        names.join(", ")
    };
    let found = match &named {
        Some(name) => secret.iter().find(|cert| cert.fingerprint().to_hex() == **name),
        None if secret.len() > 1 => {
            let text = format!("it has the secret keys {}; choose with --fingerprint", names());
            return Err(wrong(text));
        }
        None => secret.first(),
    };
    found.cloned().ok_or_else(|| match secret.is_empty() {
        true => wrong(
            "it holds no secret key; of GnuPG 2 write one with `gpg --export-secret-keys`".into(),
        ),
        false => wrong(format!("it has only the secret keys {}", names())),
    })
}

/// Every certificate in a keyring that can be read; the others are of no use to anybody.
fn ring(path: &Path) -> Result<Vec<Cert>, Fault> {
    let length = std::fs::metadata(path).map_err(Fault::disk("read", path))?.len();
    if length > RING_MAX {
        let text = format!("{length} bytes, at most {RING_MAX}; export the one key");
        return Err(Fault::Configuration(format!("{}: {text}", path.display())));
    }
    let bytes = zeroize::Zeroizing::new(durable::read(path)?);
    let parser = CertParser::from_bytes(&**bytes).map_err(|error| {
        Fault::Configuration(format!("{} is no OpenPGP keyring: {error}", path.display()))
    })?;
    Ok(parser.flatten().collect())
}

/// The secret key with the self-signatures and revocations of the public ring.
fn with_public(cert: Cert, path: &Path) -> Result<Cert, Fault> {
    let wrong = |text: String| Fault::Configuration(format!("{}: {text}", path.display()));
    let fingerprint = cert.fingerprint();
    let found = ring(path)?.into_iter().find(|other| other.fingerprint() == fingerprint);
    let other = found.ok_or_else(|| wrong(format!("it has no key {fingerprint}")))?;
    cert.merge_public(other).map_err(|error| wrong(error.to_string()))
}

fn open(cert: Cert, passphrase: Option<&Secret>, path: &Path) -> Result<Cert, Fault> {
    let wrong = |text: &str| Fault::Configuration(format!("{}: {text}", path.display()));
    let key = cert.primary_key().key().clone();
    let key = key.parts_into_secret().map_err(|_| {
        wrong("the secret half of its primary key is not there (a stub, or on a card)")
    })?;
    if key.has_unencrypted_secret() {
        return Ok(cert);
    }
    let Some(passphrase) = passphrase else {
        return Err(wrong("the key is encrypted; give its passphrase with --key-passphrase FILE"));
    };
    let key = key.decrypt_secret(&key::password(passphrase)).map_err(|error| {
        wrong(&format!("the passphrase does not open the key, or its cipher is unknown: {error}"))
    })?;
    let (cert, _) = cert.insert_packets(key).map_err(super::internal)?;
    Ok(cert)
}

/// The primary key with its valid user IDs, each with one self-signature that readers accept.
fn trimmed(cert: Cert, now: UnixTime) -> Result<(Cert, bool), Fault> {
    let policy = policy(system_time(now));
    let time = system_time(now);
    let mut user_ids: Vec<UserID> = Vec::new();
    let mut packets = Vec::new();
    let mut all_good = true;
    for user_id in cert.userids() {
        if user_id.self_revocations().next().is_some()
            || user_id.self_signatures().next().is_none()
            || std::str::from_utf8(user_id.userid().value()).is_err()
        {
            continue;
        }
        user_ids.push(user_id.userid().clone());
        match user_id.binding_signature(&policy, time) {
            Ok(signature) => {
                packets.push(Packet::from(user_id.userid().clone()));
                packets.push(signature.clone().into());
            }
            Err(_) => all_good = false,
        }
    }
    if user_ids.is_empty() || user_ids.len() > USER_IDS_MAX {
        return Err(Fault::Configuration(format!(
            "it has {} user IDs of its own, and 1 to {USER_IDS_MAX} are taken",
            user_ids.len()
        )));
    }
    let secret = cert.primary_key().key().clone().parts_into_secret().map_err(super::internal)?;
    let bare = |packets: Vec<Packet>| {
        let key = std::iter::once(Packet::SecretKey(secret.clone()));
        Cert::from_packets(key.chain(packets)).map_err(super::internal)
    };
    if all_good {
        let kept = bare(packets)?;
        let valid = kept.with_policy(&policy, time).is_ok_and(|valid| {
            let flags = valid.primary_key().key_flags();
            valid.alive().is_ok() && flags.is_none_or(|flags| flags.for_certification())
        });
        if valid {
            return Ok((kept, false));
        }
    }
    Ok((key::sign_anew(bare(Vec::new())?, &user_ids, now)?, true))
}
