//! Whom the frontend trusts: authorities pinned on first sight.
//!
//! The first certificate seen for an authority's name is pinned together with its root. When the
//! signer later shows another one, the pinned one stays in force and an alarm stands until a
//! person runs `frontend catalogue accept`. Nothing here checks an answer.

use std::{collections::BTreeMap, sync::Arc};

use openssl::{
    pkey::{PKey, Public},
    x509::X509,
};
use protocol::{
    bounded::List,
    codec,
    message::{
        AuthorityEntry, Catalogue, DEFAULT_POLICY, Digest, MESSAGE_MAX, Name, OpenPgpEntry,
        OpenPgpPolicyEntry, ProfileEntry,
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use sequoia_openpgp::{Cert, parse::Parse};

use crate::{
    names::{self, FlatName},
    signature::{self, Algorithm},
    store::{Alarms, Notes, StoreError},
};

/// Why an authority that the signer shows cannot be trusted, whatever is pinned.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthority {
    /// A certificate of the chain cannot be parsed.
    #[error("certificate {0} of its chain cannot be parsed")]
    Unparsable(usize),
    /// A certificate is not a CA's.
    #[error("certificate {0} of its chain is no CA certificate")]
    NotCa(usize),
    /// A certificate was not issued by the next one.
    #[error("certificate {0} of its chain was not issued by the one after it")]
    BrokenChain(usize),
    /// The last certificate is not self-signed.
    #[error("its chain does not end in a self-signed root")]
    NoRoot,
}

/// An authority whose certificate is pinned and whose chain was verified.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its name in requests.
    pub name: Name,
    /// What it issues, as the signer said last; empty if the signer no longer shows it.
    pub profiles: Vec<ProfileEntry>,
    /// Whether the signer's last catalogue has it.
    pub offered: bool,
    /// Whether it signs delta CRLs, as the signer said last.
    pub delta_crl: bool,
    /// Among how many shards its certificates are divided, as the signer said last; 0 for none.
    pub crl_shards: u16,
    certificate: Vec<u8>,
    chain: Vec<Vec<u8>>,
    x509: X509,
    key: PKey<Public>,
    subject: Vec<u8>,
    not_after: i64,
}

impl Authority {
    /// Verifies an entry's chain up to its self-signed root.
    fn verify(entry: &AuthorityEntry) -> Result<Self, BadAuthority> {
        let chain: Vec<Vec<u8>> = entry.chain.iter().map(|der| der.to_vec()).collect();
        let authority = Self::load(&entry.name, &entry.certificate, chain)?;
        let mut links = vec![authority.x509.clone()];
        for (index, der) in authority.chain.iter().enumerate() {
            links.push(X509::from_der(der).map_err(|_| BadAuthority::Unparsable(index + 1))?);
        }
        let ders = std::iter::once(&authority.certificate).chain(&authority.chain);
        for (index, der) in ders.enumerate() {
            let extensions =
                names::certificate_extensions(der).map_err(|_| BadAuthority::Unparsable(index))?;
            // A version 1 root has no extensions; it is still a root when a person pinned it.
            let version_1_root = index + 1 == links.len() && extensions.is_empty();
            if !version_1_root && !names::is_ca(&extensions).unwrap_or(false) {
                return Err(BadAuthority::NotCa(index));
            }
        }
        for (index, pair) in links.windows(2).enumerate() {
            if !issued_by(&pair[0], &pair[1]) {
                return Err(BadAuthority::BrokenChain(index));
            }
        }
        let root = links.last().expect("the list starts with the authority's own certificate");
        if !issued_by(root, root) {
            return Err(BadAuthority::NoRoot);
        }
        Ok(authority)
    }

    fn load(name: &Name, certificate: &[u8], chain: Vec<Vec<u8>>) -> Result<Self, BadAuthority> {
        let broken = || BadAuthority::Unparsable(0);
        let x509 = X509::from_der(certificate).map_err(|_| broken())?;
        let key = x509.public_key().map_err(|_| broken())?;
        let subject = x509.subject_name().to_der().map_err(|_| broken())?;
        let not_after = signature::unix_time(x509.not_after()).ok_or_else(broken)?;
        Ok(Self {
            name: name.clone(),
            profiles: Vec::new(),
            offered: false,
            delta_crl: false,
            crl_shards: 0,
            certificate: certificate.to_vec(),
            chain,
            x509,
            key,
            subject,
            not_after,
        })
    }

    /// Its public key.
    pub fn key(&self) -> &PKey<Public> {
        &self.key
    }

    /// Its subject in DER, byte for byte what its certificates and CRLs name as issuer.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The last second of its own validity.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Its certificate and those above it, DER, up to the root.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.certificate[..]).chain(self.chain.iter().map(|der| &der[..]))
    }

    /// Its subject as attributes.
    pub fn flat_name(&self) -> FlatName {
        names::flat_name(self.x509.subject_name()).unwrap_or_default()
    }

    /// Its profile called `name`.
    pub fn profile(&self, name: &Name) -> Option<&ProfileEntry> {
        self.profiles.iter().find(|profile| profile.name == *name)
    }

    fn root(&self) -> &[u8] {
        self.chain.last().unwrap_or(&self.certificate)
    }
}

fn issued_by(certificate: &X509, issuer: &X509) -> bool {
    let names = (certificate.issuer_name().to_der(), issuer.subject_name().to_der());
    let named = matches!(names, (Ok(theirs), Ok(ours)) if theirs == ours);
    let der = certificate.to_der().unwrap_or_default();
    // A self-signed root may carry an old digest: its signature proves nothing to anybody.
    let root = certificate.issuer_name().to_der().ok() == certificate.subject_name().to_der().ok();
    let strong = root || Algorithm::of_signed(&der).is_some();
    named
        && strong
        && issuer.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
}

/// An OpenPGP authority whose certificate is pinned by its fingerprint.
#[derive(Clone, Debug)]
pub struct OpenPgpAuthority {
    /// Its name in requests.
    pub name: Name,
    /// By which policies it certifies, as the signer said last; empty if it is no longer shown.
    pub policies: Vec<OpenPgpPolicyEntry>,
    /// Whether the signer's last catalogue has it.
    pub offered: bool,
    cert: Arc<Cert>,
    certificate: Vec<u8>,
}

impl OpenPgpAuthority {
    fn load(name: &Name, certificate: &[u8]) -> Option<Self> {
        let cert = Cert::from_bytes(certificate).ok().filter(|cert| !cert.is_tsk())?;
        Some(Self {
            name: name.clone(),
            policies: Vec::new(),
            offered: false,
            cert: Arc::new(cert),
            certificate: certificate.to_vec(),
        })
    }

    /// Its certificate.
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// Its certificate, binary.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The policy that a request by this name asks for; without a name, the default one.
    pub fn policy(&self, name: Option<&Name>) -> Option<&OpenPgpPolicyEntry> {
        let name = name.map_or(DEFAULT_POLICY, Name::as_str);
        self.policies.iter().find(|policy| policy.name.as_str() == name)
    }
}

/// Everything the frontend trusts at present.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The authorities by name.
    pub authorities: BTreeMap<Name, Authority>,
    /// The OpenPGP authorities by name.
    pub openpgp: BTreeMap<Name, OpenPgpAuthority>,
    /// The digest of the signer's last catalogue; `None` if there never was one.
    pub catalogue: Option<Digest>,
}

/// More shards than any signer has: each is asked for on its own.
const CRL_SHARDS_MAX: u16 = 1024;

/// The pins and the last catalogue, in a connection or a transaction.
pub struct Catalogues<'c>(pub &'c Connection);

impl Catalogues<'_> {
    /// Takes the signer's catalogue: pins what is new, keeps what is pinned, raises or ends the
    /// alarm. Returns the alarm's text.
    pub fn receive(
        &self,
        catalogue: &Catalogue,
        unix_us: i64,
    ) -> Result<Option<String>, StoreError> {
        let bytes =
            codec::encode(catalogue).map_err(|_| StoreError::Damaged { what: CATALOGUE })?;
        Notes(self.0).write_bytes(CATALOGUE, &bytes)?;
        let mut doubts = Vec::new();
        for entry in catalogue.authorities.iter() {
            doubts.extend(self.receive_authority(entry, unix_us)?);
        }
        for entry in catalogue.openpgp.iter() {
            doubts.extend(self.receive_openpgp(entry, unix_us)?);
        }
        if doubts.is_empty() {
            Alarms(self.0).clear(CATALOGUE)?;
            return Ok(None);
        }
        let text = format!(
            "{}; compare with the signer's console, then run `frontend catalogue accept`, or find \
             out who is on the cable",
            doubts.join("; ")
        );
        Alarms(self.0).raise(CATALOGUE, &text, unix_us)?;
        Ok(Some(text))
    }

    fn receive_authority(
        &self,
        entry: &AuthorityEntry,
        unix_us: i64,
    ) -> Result<Option<String>, StoreError> {
        let name = &entry.name;
        let seen = match Authority::verify(entry) {
            Ok(authority) => authority,
            Err(error) => {
                return Ok(Some(format!("authority `{name}` is not trusted because {error}")));
            }
        };
        match self.pinned(name)? {
            None => {
                self.pin(name.as_str(), &entry.certificate, &seen.chain, unix_us)?;
                Ok(None)
            }
            Some(pinned)
                if pinned.certificate == seen.certificate && pinned.root() == seen.root() =>
            {
                if pinned.chain != seen.chain {
                    self.pin(name.as_str(), &entry.certificate, &seen.chain, unix_us)?;
                }
                Ok(None)
            }
            Some(pinned) => {
                let part =
                    if pinned.certificate == seen.certificate { "root" } else { "certificate" };
                let (old, new) = match part {
                    "root" => (pinned.root(), seen.root()),
                    _ => (&pinned.certificate[..], &seen.certificate[..]),
                };
                Ok(Some(format!(
                    "the signer shows a {part} with SHA-256 {} for authority `{name}` where {} is \
                     pinned",
                    Digest::of(new),
                    Digest::of(old)
                )))
            }
        }
    }

    fn receive_openpgp(
        &self,
        entry: &OpenPgpEntry,
        unix_us: i64,
    ) -> Result<Option<String>, StoreError> {
        let OpenPgpEntry { name, certificate, .. } = entry;
        let Some(seen) = OpenPgpAuthority::load(name, certificate) else {
            return Ok(Some(format!(
                "the certificate of OpenPGP authority `{name}` cannot be parsed"
            )));
        };
        match self.pinned_openpgp(name)? {
            Some(pinned) if pinned.cert.fingerprint() != seen.cert.fingerprint() => {
                Ok(Some(format!(
                    "the signer shows OpenPGP certificate {} for authority `{name}` where {} is \
                     pinned",
                    seen.cert.fingerprint(),
                    pinned.cert.fingerprint()
                )))
            }
            // The same key with a later expiry or another signature on it.
            Some(pinned) if pinned.certificate == certificate[..] => Ok(None),
            _ => self.pin(&pin_name(name), certificate, &[], unix_us).map(|()| None),
        }
    }

    /// Pins what the signer's last catalogue shows in place of what was pinned; returns a line
    /// for each change.
    pub fn accept(&self, unix_us: i64) -> Result<Vec<String>, StoreError> {
        let Some(catalogue) = self.last()? else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        for entry in catalogue.authorities.iter() {
            let Ok(seen) = Authority::verify(entry) else { continue };
            let pinned = self.pinned(&entry.name)?;
            let same = pinned.is_some_and(|pinned| {
                pinned.certificate == seen.certificate && pinned.chain == seen.chain
            });
            if !same {
                self.pin(entry.name.as_str(), &entry.certificate, &seen.chain, unix_us)?;
                let digest = Digest::of(&entry.certificate);
                changes.push(format!("authority `{}`: certificate SHA-256 {digest}", entry.name));
            }
        }
        for OpenPgpEntry { name, certificate, .. } in catalogue.openpgp.iter() {
            let Some(seen) = OpenPgpAuthority::load(name, certificate) else { continue };
            let pinned = self.pinned_openpgp(name)?;
            if pinned.is_none_or(|pinned| pinned.cert.fingerprint() != seen.cert.fingerprint()) {
                self.pin(&pin_name(name), certificate, &[], unix_us)?;
                let fingerprint = seen.cert.fingerprint();
                changes.push(format!("OpenPGP authority `{name}`: certificate {fingerprint}"));
            }
        }
        // Entries that cannot be trusted at all keep their alarm.
        self.receive(&catalogue, unix_us)?;
        Ok(changes)
    }

    /// Everything that is trusted at present.
    pub fn trusted(&self) -> Result<Trusted, StoreError> {
        let last = self.last()?;
        let mut trusted = Trusted::default();
        for text in self.pins()? {
            let damaged = |_| StoreError::Damaged { what: "pin" };
            match text.strip_prefix(OPENPGP) {
                Some(text) => {
                    let name: Name = text.parse().map_err(damaged)?;
                    if let Some(authority) = self.pinned_openpgp(&name)? {
                        trusted.openpgp.insert(name, authority);
                    }
                }
                None => {
                    let name = Name::try_from(text).map_err(damaged)?;
                    if let Some(authority) = self.pinned(&name)? {
                        trusted.authorities.insert(name, authority);
                    }
                }
            }
        }
        if let Some(catalogue) = last {
            trusted.catalogue = catalogue.digest().ok();
            for entry in catalogue.authorities {
                if let Some(authority) = trusted.authorities.get_mut(&entry.name) {
                    authority.profiles = entry.profiles.into_vec();
                    authority.offered = true;
                    authority.delta_crl = entry.delta_crl;
                    authority.crl_shards = entry.crl_shards.min(CRL_SHARDS_MAX);
                }
            }
            for entry in catalogue.openpgp {
                if let Some(authority) = trusted.openpgp.get_mut(&entry.name) {
                    authority.policies = entry.policies.into_vec();
                    authority.offered = true;
                }
            }
        }
        Ok(trusted)
    }

    /// A number that rises with every change of a pin.
    pub fn generation(&self) -> Result<u64, StoreError> {
        Ok(Notes(self.0).read(GENERATION)?.unwrap_or(0))
    }

    fn last(&self) -> Result<Option<Catalogue>, StoreError> {
        let Some(bytes) = Notes(self.0).read_bytes(CATALOGUE)? else { return Ok(None) };
        // What another version wrote, or a rotten bit broke, is only a copy: the signer is asked
        // for it again.
        Ok(codec::decode::<_, MESSAGE_MAX>(&bytes).ok())
    }

    /// The names of all pins.
    fn pins(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.0.prepare_cached("SELECT name FROM pin ORDER BY name")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn pinned(&self, name: &Name) -> Result<Option<Authority>, StoreError> {
        let Some((certificate, chain)) = self.pin_row(name.as_str())? else { return Ok(None) };
        let damaged = StoreError::Damaged { what: "pin" };
        let Ok(chain) = codec::decode::<Chain, MESSAGE_MAX>(&chain) else { return Err(damaged) };
        Authority::load(name, &certificate, chain.into_vec()).map(Some).map_err(|_| damaged)
    }

    fn pinned_openpgp(&self, name: &Name) -> Result<Option<OpenPgpAuthority>, StoreError> {
        let Some((certificate, _)) = self.pin_row(&pin_name(name))? else { return Ok(None) };
        let authority = OpenPgpAuthority::load(name, &certificate);
        authority.map(Some).ok_or(StoreError::Damaged { what: "pin" })
    }

    fn pin_row(&self, name: &str) -> Result<Option<PinRow>, StoreError> {
        let mut statement =
            self.0.prepare_cached("SELECT certificate, chain FROM pin WHERE name = ?1")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row(params![name], row).optional()?)
    }

    fn pin(
        &self,
        name: &str,
        certificate: &[u8],
        chain: &[Vec<u8>],
        unix_us: i64,
    ) -> Result<(), StoreError> {
        let damaged = |_| StoreError::Damaged { what: "chain" };
        let chain = Chain::try_from(chain.to_vec())
            .map_err(|_| StoreError::Damaged { what: "chain" })
            .and_then(|chain| codec::encode(&chain).map_err(damaged))?;
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO pin (name, certificate, chain, since_us)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![name, certificate, chain, unix_us])?;
        Notes(self.0).write(GENERATION, &(self.generation()? + 1))
    }
}

/// A certificate and the encoded [`Chain`] above it. // stored
type PinRow = (Vec<u8>, Vec<u8>);
/// The note and the alarm that hold the signer's last catalogue.
pub const CATALOGUE: &str = "catalogue";
/// The note that counts changes of pins.
const GENERATION: &str = "pins";
/// What the pins of OpenPGP authorities begin with; no authority can have such a name. // stored
const OPENPGP: &str = "openpgp:";

/// The name of an OpenPGP authority's pin.
fn pin_name(name: &Name) -> String {
    format!("{OPENPGP}{name}")
}

/// As long as [`AuthorityEntry::chain`].
type Chain = List<Vec<u8>, 8>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Store, test_ca::TestCa};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        (dir, store)
    }

    #[test]
    fn another_certificate_for_a_known_name_is_refused_until_a_person_accepts_it() {
        let (_dir, store) = store();
        let catalogues = Catalogues(store.connection());
        let (first, second) = (TestCa::new("First"), TestCa::new("Second"));
        let name: Name = "issuing".parse().unwrap();
        assert_eq!(catalogues.receive(&first.catalogue("issuing"), 1).unwrap(), None);
        assert!(catalogues.receive(&second.catalogue("issuing"), 2).unwrap().is_some());

        let trusted = catalogues.trusted().unwrap();
        assert_eq!(trusted.authorities[&name].subject(), first.subject());
        assert_eq!(trusted.catalogue, Some(second.catalogue("issuing").digest().unwrap()));
        let alarm = Alarms(store.connection()).text(CATALOGUE).unwrap().unwrap();
        assert!(alarm.contains("frontend catalogue accept"), "{alarm}");

        assert_eq!(catalogues.accept(3).unwrap().len(), 1);
        let trusted = catalogues.trusted().unwrap();
        assert_eq!(trusted.authorities[&name].subject(), second.subject());
        assert_eq!(Alarms(store.connection()).list().unwrap(), []);
    }

    #[test]
    fn a_stored_catalogue_that_cannot_be_read_is_asked_for_again_and_the_pins_stay() {
        let (_dir, store) = store();
        let catalogues = Catalogues(store.connection());
        let mut catalogue = TestCa::new("CA").catalogue("issuing");
        let mut entries = catalogue.authorities.into_vec();
        (entries[0].delta_crl, entries[0].crl_shards) = (true, 16);
        catalogue.authorities = entries.try_into().unwrap();
        catalogues.receive(&catalogue, 1).unwrap();
        let trusted = catalogues.trusted().unwrap();
        let authority = trusted.authorities.values().next().unwrap();
        assert!(authority.offered && authority.delta_crl && authority.crl_shards == 16);

        Notes(store.connection()).write_bytes(CATALOGUE, b"of another version").unwrap();
        let trusted = catalogues.trusted().unwrap();
        assert_eq!(trusted.catalogue, None);
        let authority = trusted.authorities.values().next().unwrap();
        assert!(!authority.offered && authority.crl_shards == 0);
    }

    #[test]
    fn a_chain_that_does_not_hold_is_never_pinned() {
        let (_dir, store) = store();
        let catalogues = Catalogues(store.connection());
        let (root, other) = (TestCa::new("Root"), TestCa::new("Other"));
        let mut catalogue = root.issuing("Issuing").catalogue("issuing");
        let mut entries = catalogue.authorities.clone().into_vec();
        assert_eq!(entries[0].chain.len(), 1);
        entries[0].chain = vec![other.der().try_into().unwrap()].try_into().unwrap();
        catalogue.authorities = entries.clone().try_into().unwrap();
        assert!(catalogues.receive(&catalogue, 1).unwrap().unwrap().contains("not issued by"));
        entries[0].chain = List::empty();
        catalogue.authorities = entries.try_into().unwrap();
        assert!(catalogues.receive(&catalogue, 1).unwrap().unwrap().contains("self-signed"));
        assert!(catalogues.trusted().unwrap().authorities.is_empty());
    }

    #[test]
    fn an_authority_below_a_root_is_pinned_with_its_chain() {
        let (_dir, store) = store();
        let catalogues = Catalogues(store.connection());
        let issuing = TestCa::new("Root").issuing("Issuing");
        assert_eq!(catalogues.receive(&issuing.catalogue("issuing"), 1).unwrap(), None);
        let trusted = catalogues.trusted().unwrap();
        let authority = trusted.authorities.values().next().unwrap();
        assert_eq!(authority.certificates().count(), 2);
        assert!(authority.offered && authority.profile(&"server".parse().unwrap()).is_some());
    }
}
