//! One root or subroot: its certificate, key, profiles and directory in openssl's layout.
//!
//! ```text
//! authorities/NAME/
//!   ca.crt chain.pem authority.toml openssl.cnf private/ca.key profiles/*.toml
//!   index.txt index.txt.attr serial crlnumber newcerts/SERIAL.pem crl/NUMBER.crl
//! ```
//!
//! The files follow the ledger and can be written again from it. Only [`Authority::sign`] and
//! [`Authority::sign_crl`] use the key, and only for what the ledger holds already.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use openssl::x509::X509;
use protocol::{
    bounded::{Bytes, List},
    message::{AuthorityEntry, CrlScope, Name, Serial},
};
use serde::Deserialize;

use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    keys::{CaKey, Secret},
    ledger::{AuthorityId, Intent, Ledger},
    profile::Profile,
    tbs::{self, Issuer},
};

pub mod crl;
pub mod index;
pub mod newcerts;
pub mod pack;
pub mod serial;

/// What the operator can set for one authority, in `authority.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityConfig {
    /// A root signs subscriber certificates on the link's word alone. CA/B BR 4.3.1.1 forbids it;
    /// it exists for those who migrate from CAcert's class 1 practice.
    #[serde(default)]
    pub unattended_root: bool,
    /// The authority's CRLs.
    pub crl: CrlConfig,
}

/// An authority's CRLs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrlConfig {
    /// nextUpdate lies so many days after thisUpdate.
    pub next_update_days: u32,
    /// A new CRL is signed after so many hours even without revocations.
    pub refresh_hours: u32,
    /// With every full CRL a delta CRL (RFC 5280 5.2.4) is signed too.
    #[serde(default)]
    pub delta: bool,
    /// Where the delta CRL can be fetched; written into the full CRL as freshestCRL.
    #[serde(default)]
    pub delta_urls: Vec<String>,
    /// The shards that certificates are divided among: once chosen, never changed; 0 means none.
    #[serde(default)]
    pub shards: u16,
    /// How many days past expiry a certificate without profile stays in CRLs, such as an adopted
    /// one; absent means until one CRL past expiry has listed it.
    pub keep_days: Option<u32>,
}

impl AuthorityConfig {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let fault = |text: String| {
            Fault::Configuration(format!("{}: {text}; correct the file", path.display()))
        };
        let config: Self = toml::from_str(&durable::read_text(path)?)
            .map_err(|error| fault(error.to_string().trim().replace('\n', " ")))?;
        // limits: nextUpdate at most 12 months for CA certificates.
        if !(1..=366).contains(&config.crl.next_update_days) {
            return Err(fault("crl.next_update_days is not within 1 to 366".into()));
        }
        let refresh_max = config.crl.next_update_days * 24;
        if !(1..refresh_max).contains(&config.crl.refresh_hours) {
            return Err(fault(format!("crl.refresh_hours is not within 1 to {}", refresh_max - 1)));
        }
        crl::check_config(&config.crl).map_err(fault)?;
        Ok(config)
    }
}

/// The names of an authority's files.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

impl Layout {
    /// The directory of authority `name` in the store at `store`.
    pub fn new(store: &Path, name: &Name) -> Self {
        Self(store.join("authorities").join(name.as_str()))
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// A file or directory in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The private key.
    pub fn key(&self) -> PathBuf {
        self.0.join("private/ca.key")
    }

    /// The copy of an issued certificate.
    pub fn newcert(&self, serial: &Serial) -> PathBuf {
        self.0.join(format!("newcerts/{serial}.pem"))
    }

    /// Where old copies are packed.
    pub fn packs(&self) -> PathBuf {
        self.0.join("newcerts/packs")
    }

    /// A pack by its number.
    pub fn pack(&self, number: u32) -> PathBuf {
        self.0.join(format!("newcerts/packs/{number:06}.pack"))
    }

    /// A CRL by its scope and number, DER.
    pub fn crl(&self, scope: CrlScope, number: u64) -> PathBuf {
        self.0.join("crl").join(crl::file_name(scope, number))
    }

    /// The newest CRL of a scope, DER: another name of the file with its number.
    pub fn newest_crl(&self, scope: CrlScope) -> PathBuf {
        self.0.join("crl").join(crl::newest_file_name(scope))
    }
}

/// One root or subroot, ready to sign.
#[derive(Debug)]
pub struct Authority {
    name: Name,
    id: AuthorityId,
    layout: Layout,
    certificate: X509,
    certificate_der: Vec<u8>,
    issuer: Issuer,
    not_after: UnixTime,
    chain: Vec<Vec<u8>>,
    key: CaKey,
    profiles: BTreeMap<Name, Profile>,
    config: AuthorityConfig,
}

impl Authority {
    /// Loads authority `name` of the store at `store`.
    pub fn load(
        store: &Path,
        name: &Name,
        ledger: &Ledger,
        passphrase: Option<&Secret>,
    ) -> Result<Self, Fault> {
        let layout = Layout::new(store, name);
        let id = ledger.authority(name)?.ok_or_else(|| {
            Fault::Configuration(format!(
                "authority {name} has a directory but no row in the ledger; make it with \
                 `signer authority create`"
            ))
        })?;
        let path = layout.file("ca.crt");
        let unreadable =
            |why: &str| Fault::Damaged { what: path.display().to_string(), why: why.to_owned() };
        let certificate = X509::from_pem(&durable::read(&path)?)
            .map_err(|_| unreadable("it holds no certificate in PEM"))?;
        let key = CaKey::load(&layout.key(), passphrase)?;
        if !key.matches(certificate.public_key()?.as_ref()) {
            return Err(Fault::Configuration(format!(
                "{} and {} do not belong together; put the right pair there",
                path.display(),
                layout.key().display()
            )));
        }
        let chain = read_chain(&layout.file("chain.pem"))?.split_off(1);
        let key_identifier = match certificate.subject_key_id() {
            Some(identifier) => identifier.as_slice().to_vec(),
            None => tbs::key_identifier(&key.public_key()?)?,
        };
        let config = AuthorityConfig::load(&layout.file("authority.toml"))?;
        let issuer = Issuer {
            name: certificate.subject_name().to_der()?,
            key_identifier,
            signature_algorithm: key.signature_algorithm(),
            crl_shards: config.crl.shards,
        };
        let not_after = asn1_time(certificate.not_after())?;
        let authority = Self {
            name: name.clone(),
            id,
            profiles: load_profiles(&layout.file("profiles"), &issuer)?,
            config,
            layout,
            certificate_der: certificate.to_der()?,
            certificate,
            issuer,
            not_after,
            chain,
            key,
        };
        authority.check_crls(ledger)?;
        Ok(authority)
    }

    /// Its name in requests and on disk.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its row in the ledger.
    pub fn id(&self) -> AuthorityId {
        self.id
    }

    /// Its files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its certificate.
    pub fn certificate(&self) -> &X509 {
        &self.certificate
    }

    /// What its certificates and CRLs say about their issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The last second of its own validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The kind of its key.
    pub fn key(&self) -> &CaKey {
        &self.key
    }

    /// The certificates above it, nearest first, DER.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// What the operator set.
    pub fn config(&self) -> &AuthorityConfig {
        &self.config
    }

    /// The profile of this name.
    pub fn profile(&self, name: &Name) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// Every profile.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }

    /// Whether nobody stands above it, or it says so itself, whatever its chain file has.
    pub fn is_root(&self) -> bool {
        let issuer = self.certificate.issuer_name().to_der();
        self.chain.is_empty() || issuer.is_ok_and(|issuer| issuer == self.issuer.name)
    }

    /// Whether it may sign without a person: issuing authorities, and roots by the named switch.
    pub fn signs_unattended(&self) -> bool {
        !self.is_root() || self.config.unattended_root
    }

    /// Signs a certificate that the ledger holds as intent.
    pub fn sign(&self, intent: &Intent) -> Result<Vec<u8>, Fault> {
        if intent.authority() != self.id {
            return Err(Fault::Internal(format!(
                "an intent of another authority at {}",
                self.name
            )));
        }
        self.key.signed(intent.tbs())
    }

    /// What the frontend may know of it.
    pub fn entry(&self, now: UnixTime) -> Result<AuthorityEntry, Fault> {
        let too_long = |error| Fault::Configuration(format!("authority {}: {error}", self.name));
        let chain = self.chain.iter().map(|der| Bytes::try_from(der.clone()));
        let profiles: Vec<_> = self.profiles.values().map(|profile| profile.entry(now)).collect();
        Ok(AuthorityEntry {
            name: self.name.clone(),
            certificate: self.certificate_der.clone().try_into().map_err(too_long)?,
            chain: List::try_from(chain.collect::<Result<Vec<_>, _>>().map_err(too_long)?)
                .map_err(too_long)?,
            profiles: profiles.try_into().map_err(too_long)?,
            delta_crl: self.config.crl.delta,
            crl_shards: self.config.crl.shards,
        })
    }
}

/// The certificates in `chain.pem`, DER: the authority's own, then those above it; at least one.
pub fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let damaged =
        |why: &str| Fault::Damaged { what: path.display().to_string(), why: why.to_owned() };
    let chain = X509::stack_from_pem(&durable::read(path)?)
        .map_err(|_| damaged("it holds no certificates in PEM"))?;
    if chain.is_empty() {
        return Err(damaged("it holds no certificate"));
    }
    Ok(chain.iter().map(|ca| ca.to_der()).collect::<Result<_, _>>()?)
}

/// The names of the authorities that have a directory in the store.
pub fn names(store: &Path) -> Result<Vec<Name>, Fault> {
    let directory = store.join("authorities");
    let entries = std::fs::read_dir(&directory).map_err(Fault::disk("read", &directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Fault::disk("read", &directory))?;
        // Directories that are no names are being made or were put there by a person.
        names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
    }
    names.sort();
    Ok(names)
}

fn load_profiles(directory: &Path, issuer: &Issuer) -> Result<BTreeMap<Name, Profile>, Fault> {
    let entries = std::fs::read_dir(directory).map_err(Fault::disk("read", directory))?;
    let mut profiles = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(Fault::disk("read", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let profile = Profile::load(&path)?;
            profile.check_issuer(issuer).map_err(|faults| {
                let path = path.display();
                Fault::Configuration(format!("{path}: {faults}; correct the profile"))
            })?;
            profiles.insert(profile.name().clone(), profile);
        }
    }
    Ok(profiles)
}

/// OpenSSL's time as seconds.
pub fn asn1_time(time: &openssl::asn1::Asn1TimeRef) -> Result<UnixTime, Fault> {
    let origin = openssl::asn1::Asn1Time::from_unix(0)?;
    let difference = origin.diff(time)?;
    Ok(UnixTime(i64::from(difference.days) * 86_400 + i64::from(difference.secs)))
}
