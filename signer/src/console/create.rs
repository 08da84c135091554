//! `signer init`, `authority create`: what is made once, by a person.
//!
//! An authority is made in a directory beside its final place and moved there whole, so that a
//! pulled plug leaves either nothing of it or all of it.

use std::{fs, io::IsTerminal as _, path::Path};

use openssl::x509::X509;
use protocol::{
    message::{AUTHORITIES_MAX, Digest, Name, RefusalCode, Serial, Subject},
    secure::Entropy,
};

use super::{CreateArguments, Failure, check_clock, no_authority, refuse};
use crate::{
    audit::Event,
    authority::{self, Authority, Layout, read_chain, serial::serial},
    calendar::UnixTime,
    clock::Moment,
    durable::{self, Lock},
    fault::Fault,
    keys::{CaKey, Secret},
    ledger::{self, Ledger},
    link_key, lint, name,
    profile::{self, DEFAULTS, Permit, Profile, Wish},
    tbs::{self, Issuer},
    vault::{self, Random},
};

/// Twenty years, for a root without a wish.
const ROOT_DAYS_DEFAULT: u32 = 7_305;

const ROOT_PROFILE: &str = include_str!("../../profiles/subca.toml");

/// Makes an empty store.
pub(super) fn init(store: &Path, entropy: &Entropy, now: Moment) -> Result<(), Failure> {
    let path = Ledger::path(store);
    if Ledger::is_made(&path)? {
        return Err(Fault::Configuration(format!(
            "{} holds a store already; nothing was changed",
            store.display()
        ))
        .into());
    }
    fs::create_dir_all(store.parent().unwrap_or(store)).map_err(Fault::disk("create", store))?;
    for (part, mode) in
        [("", 0o700), ("audit", 0o700), ("authorities", 0o755), ("openpgp", 0o700), ("run", 0o755)]
    {
        durable::directory(&store.join(part), mode)?;
    }
    let mut ledger = Ledger::create(&path)?;
    let mut tx = ledger.begin(now.unix())?;
    tx.audit(&Event::StoreCreated)?;
    tx.commit()?;
    vault::follow_audit(store, &mut ledger)?;
    link_key::own(store, entropy)?;
    durable::sync_directory(&path)?;
    say!("made an empty store in {}", store.display());
    say!("next: signer authority create NAME --subject DN --key rsa:4096");
    say!("and:  signer pair --show, to pair it with the frontend");
    Ok(())
}

/// Makes a root, or an issuing authority below one.
pub(super) fn authority(
    store: &Path,
    arguments: &CreateArguments,
    passphrase: Option<&Secret>,
    mut random: Random,
    now: Moment,
    json: bool,
) -> Result<(), Failure> {
    let subject = name::parse(&arguments.subject)
        .map_err(|error| Fault::Configuration(format!("--subject: {error}")))?;
    let layout = Layout::new(store, &arguments.name);
    // One authority is made at a time.
    let _lock = Lock::wait(&store.join("console.lock"))?;
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    check_clock(&ledger, now)?;
    let made = match left_over(&layout, &ledger, arguments)? {
        Some(made) => made,
        None => {
            if authority::names(store)?.len() >= AUTHORITIES_MAX {
                return Err(Fault::Configuration(format!(
                    "the store has {AUTHORITIES_MAX} authorities, more the frontend is never told \
                     of; use another store"
                ))
                .into());
            }
            make(store, &mut ledger, arguments, subject, passphrase, &mut random, now)?
        }
    };
    finish(store, &made, &mut ledger, arguments, passphrase, &mut random, now)?;
    let authority = Authority::load(store, &arguments.name, &ledger, passphrase)?;
    tell(&authority, &made, json)
}

/// What an earlier attempt left whose plug was pulled after its directory was moved in place: it
/// is finished, not made again.
fn left_over(
    layout: &Layout,
    ledger: &Ledger,
    arguments: &CreateArguments,
) -> Result<Option<Made>, Failure> {
    let id = ledger.authority(&arguments.name)?;
    let exists = layout.directory().exists();
    let has_crl = id.map(|id| ledger.newest_crl(id)).transpose()?.flatten().is_some();
    match (exists, id) {
        (false, None) => Ok(None),
        (true, _) if !has_crl => {
            let chain = read_chain(&layout.file("chain.pem"))?;
            let own = X509::from_der(&chain[0]).map_err(Fault::from)?; // `read_chain` has one
            let subject = name::from_x509(own.subject_name());
            eprintln!("{} was left unfinished by an earlier attempt; finishing it", arguments.name);
            let (certificate, chain) = (chain[0].clone(), chain[1..].to_vec());
            Ok(Some(Made { certificate, chain, subject }))
        }
        (true, _) => Err(Fault::Configuration(format!(
            "authority {} is there already; nothing was changed",
            arguments.name
        ))
        .into()),
        (false, Some(_)) => Err(Fault::Configuration(format!(
            "the ledger has authority {}, but {} is gone; restore it, or choose another name",
            arguments.name,
            layout.directory().display()
        ))
        .into()),
    }
}

/// Makes the key and the certificate, and moves the whole directory to its place.
fn make(
    store: &Path,
    ledger: &mut Ledger,
    arguments: &CreateArguments,
    subject: Subject,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: Moment,
) -> Result<Made, Failure> {
    let layout = Layout::new(store, &arguments.name);
    if std::io::stderr().is_terminal() {
        eprintln!("making a key of kind {}; this may take some seconds", arguments.key);
    }
    let key = CaKey::generate(arguments.key)?;
    let wish =
        Wish { subject, names: Vec::new(), days: arguments.days, public_key: key.public_key()? };
    let made = match &arguments.issued_by {
        None => self_signed(&key, wish, random, now.unix())?,
        Some(parent) => issued_by(store, parent, ledger, wish, passphrase, random, now.unix())?,
    };
    let staging = store.join("authorities").join(format!(".{}.new", arguments.name));
    write_directory(&staging, &key, &made, arguments.unattended_root, passphrase)?;
    fs::rename(&staging, layout.directory()).map_err(Fault::disk("rename", &staging))?;
    durable::sync_directory(layout.directory())?;
    Ok(made)
}

/// Gives a directory that is in its place its row, its first CRL and its files.
fn finish(
    store: &Path,
    made: &Made,
    ledger: &mut Ledger,
    arguments: &CreateArguments,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: Moment,
) -> Result<(), Failure> {
    if ledger.authority(&arguments.name)?.is_none() {
        let mut tx = ledger.begin(now.unix())?;
        let id = tx.add_authority(&arguments.name)?;
        if made.chain.is_empty() {
            // The root's own serial is the first of its counter.
            tx.next_serial_counter(id)?;
        }
        tx.audit(&Event::AuthorityCreated {
            authority: arguments.name.to_string(),
            subject: made.subject.clone(),
            certificate: Digest::of(&made.certificate).to_string(),
        })?;
        tx.commit()?;
    }
    let authority = Authority::load(store, &arguments.name, ledger, passphrase)?;
    vault::sign_crl(&authority, ledger, now.unix())?;
    let lock = vault::lock(&authority)?;
    vault::settle(&authority, ledger, vault::random_octets(random)?, &lock)?;
    vault::follow_audit(store, ledger)?;
    Ok(())
}

fn tell(authority: &Authority, made: &Made, json: bool) -> Result<(), Failure> {
    let fingerprint = Digest::of(&made.certificate).to_string();
    let directory = authority.layout().directory().display().to_string();
    if json {
        let value = serde_json::json!({
            "name": authority.name().as_str(),
            "subject": made.subject,
            "sha256": fingerprint,
            "not_after": authority.not_after().to_string(),
            "directory": directory,
        });
        say!("{value}");
    } else {
        say!("authority {} is ready: {}", authority.name(), made.subject);
        say!("  valid until  {}", authority.not_after());
        say!("  SHA-256      {fingerprint}");
        say!("  directory    {directory}");
    }
    Ok(())
}

/// A CA certificate that was made, and those above it.
struct Made {
    certificate: Vec<u8>,
    chain: Vec<Vec<u8>>,
    subject: String,
}

fn self_signed(
    key: &CaKey,
    wish: Wish,
    random: &mut Random,
    now: UnixTime,
) -> Result<Made, Failure> {
    let mut config: crate::profile::ProfileConfig = toml::from_str(ROOT_PROFILE)
        .map_err(|error| Fault::Internal(format!("the root's profile: {error}")))?;
    config.validity.days_default = ROOT_DAYS_DEFAULT;
    config.validity.max[0].days = profile::DAYS_MAX;
    config.extensions.path_length = None;
    let root: Name = "root".parse().map_err(|error| Fault::Internal(format!("{error}")))?;
    let profile = Profile::check(root, config)
        .map_err(|faults| Fault::Internal(format!("the root's profile: {faults}")))?;
    let issuer = Issuer {
        name: name::to_der(&wish.subject),
        key_identifier: tbs::key_identifier(&wish.public_key)?,
        signature_algorithm: key.signature_algorithm(),
        crl_shards: 0,
    };
    let subject = name::one_line(&wish.subject);
    let permit = profile.permit(wish, now, UnixTime(i64::MAX))?;
    let serial = serial(ledger::SERIALS_FROM + 1, vault::random_octets(random)?)?;
    let tbs = lint_ca(&issuer, &serial, &permit, &profile)?;
    let signature = key.sign(tbs.der())?;
    let certificate = tbs::signed(tbs.der(), &issuer.signature_algorithm, &signature);
    Ok(Made { certificate, chain: Vec::new(), subject })
}

fn lint_ca(
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<lint::LintedTbs, Failure> {
    let tbs = tbs::certificate(issuer, serial, permit, profile)?;
    Ok(lint::lint(tbs, issuer, serial.clone(), permit, profile)?)
}

fn issued_by(
    store: &Path,
    parent: &Name,
    ledger: &mut Ledger,
    wish: Wish,
    passphrase: Option<&Secret>,
    random: &mut Random,
    now: UnixTime,
) -> Result<Made, Failure> {
    if ledger.authority(parent)?.is_none() {
        return Err(no_authority(parent));
    }
    let issuer = Authority::load(store, parent, ledger, passphrase)?;
    let subca: Name = "subca".parse().map_err(|error| Fault::Internal(format!("{error}")))?;
    let Some(profile) = issuer.profile(&subca) else {
        let text = format!("{parent} has no profile subca, so it certifies no authority");
        return refuse(RefusalCode::ProfileUnknown, text);
    };
    if issuer.certificate().pathlen() == Some(0) {
        return Err(Fault::Configuration(format!(
            "{parent} may certify no authority: its own certificate has path length 0 (RFC 5280 \
             4.2.1.9); use the authority that issued it"
        ))
        .into());
    }
    let subject = name::one_line(&wish.subject);
    let permit = profile.permit(wish, now, issuer.not_after())?;
    // Held until the files show it: a vault that starts now must not take the intent for one
    // that a crash left.
    let lock = vault::lock(&issuer)?;
    vault::take_in(&issuer, ledger, &lock)?;
    let mut tx = ledger.begin(now)?;
    let serial = serial(tx.next_serial_counter(issuer.id())?, vault::random_octets(random)?)?;
    let tbs = lint_ca(issuer.issuer(), &serial, &permit, profile)?;
    tx.store_intent(None, issuer.id(), profile.name(), tbs)?;
    let committed = tx.commit()?;
    let [intent] = committed.certificates.as_slice() else {
        return Err(Fault::Internal("one intent went in, another number came out".into()).into());
    };
    let certificate = issuer.sign(intent)?;
    let mut tx = ledger.begin(now)?;
    tx.store_certificate(intent, &certificate)?;
    tx.commit()?;
    vault::settle(&issuer, ledger, vault::random_octets(random)?, &lock)?;
    let own = issuer.certificate().to_der().map_err(Fault::from)?;
    let chain = std::iter::once(own).chain(issuer.chain().iter().cloned()).collect();
    Ok(Made { certificate, chain, subject })
}

/// Writes everything an authority has before its first certificate.
fn write_directory(
    directory: &Path,
    key: &CaKey,
    made: &Made,
    unattended_root: bool,
    passphrase: Option<&Secret>,
) -> Result<(), Failure> {
    if directory.exists() {
        // What an earlier attempt left when its plug was pulled: no key in it ever signed.
        fs::remove_dir_all(directory).map_err(Fault::disk("remove", directory))?;
    }
    durable::directory(directory, 0o755)?;
    for (part, mode) in
        [("private", 0o700), ("profiles", 0o755), ("newcerts", 0o755), ("crl", 0o755)]
    {
        durable::directory(&directory.join(part), mode)?;
    }
    key.store(&directory.join("private/ca.key"), passphrase)?;
    let pem = |der: &[u8]| -> Result<Vec<u8>, Fault> { Ok(X509::from_der(der)?.to_pem()?) };
    durable::replace(&directory.join("ca.crt"), &pem(&made.certificate)?, 0o644)?;
    let mut chain = pem(&made.certificate)?;
    for above in &made.chain {
        chain.extend(pem(above)?);
    }
    durable::replace(&directory.join("chain.pem"), &chain, 0o644)?;
    for (name, text) in DEFAULTS {
        let path = directory.join(format!("profiles/{name}.toml"));
        durable::replace(&path, text.as_bytes(), 0o644)?;
    }
    let is_root = made.chain.is_empty();
    let texts = [
        ("authority.toml", authority_toml(is_root, unattended_root)),
        ("openssl.cnf", include_str!("openssl.cnf").to_owned()),
        ("index.txt", String::new()),
        // Two certificates may have the same subject: renewals do.
        ("index.txt.attr", "unique_subject = no\n".to_owned()),
    ];
    for (name, text) in texts {
        durable::replace(&directory.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn authority_toml(is_root: bool, unattended_root: bool) -> String {
    let (days, hours) = if is_root && !unattended_root { (365, 8_736) } else { (7, 24) };
    format!(
        "# What the operator sets for this authority; read when the signer starts.\n\
         \n\
         # true: this root signs subscriber certificates on the link's word alone. CA/B BR\n\
         # 4.3.1.1 wants a person's direct command for each signature of a root.\n\
         unattended_root = {unattended_root}\n\
         \n\
         [crl]\n\
         next_update_days = {days} # nextUpdate lies so far after thisUpdate\n\
         refresh_hours = {hours} # a new CRL after so long even without revocations\n"
    )
}
