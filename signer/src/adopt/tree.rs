//! Finds the authorities in an old tree: whose directory, which certificate, which key, which
//! configuration files.
//!
//! Where two files could be meant it asks, it does not choose. It only reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use openssl::{
    pkey::{PKey, Public},
    x509::X509,
};
use protocol::message::{Attribute, AttributeType, Name, Subject};

use super::{
    crls::Crl,
    problems::{Kind, Problems},
};
use crate::{
    authority::asn1_time,
    calendar::UnixTime,
    fault::Fault,
    keys::{CaKey, CaKeyKind, Secret},
    profile::import::conf::Conf,
};

/// What the operator said.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The old `/etc/ssl`.
    pub ssl: PathBuf,
    /// The directory from which the old signer was started.
    pub commmodule: Option<PathBuf>,
    /// Names by directory.
    pub names: BTreeMap<String, Name>,
    /// Files of CA certificates by directory.
    pub certificates: BTreeMap<String, PathBuf>,
    /// Files of private keys by directory.
    pub keys: BTreeMap<String, PathBuf>,
    /// Files with the old keys' passphrases by directory.
    pub key_passphrases: BTreeMap<String, PathBuf>,
    /// Directories that stay behind.
    pub without: BTreeSet<String>,
    /// Roots that sign on the link's word alone.
    pub unattended_roots: BTreeSet<Name>,
}

/// One authority of the old tree.
#[derive(Debug)]
pub(crate) struct Source {
    /// The directory's own name.
    pub(crate) label: String,
    /// The directory.
    pub(crate) directory: PathBuf,
    /// Its name in our store.
    pub(crate) name: Name,
    /// Its certificate and where it lies.
    pub(crate) certificate: Option<(PathBuf, X509)>,
    /// Its key and where it lies.
    pub(crate) key: Option<(PathBuf, CaKey)>,
    /// The certificates above it, DER, nearest first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Its configuration files, with what kind of certificate each is for.
    pub(crate) configurations: Vec<(String, PathBuf)>,
    /// The CRLs that may be its own.
    pub(crate) crls: Vec<PathBuf>,
}

impl Source {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether it signed itself.
    pub(crate) fn is_root(&self) -> bool {
        self.certificate.as_ref().is_some_and(|(_, certificate)| is_self_issued(certificate))
    }
}

/// The old tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) sources: Vec<Source>,
    /// Secret key rings of the old signer.
    pub(crate) rings: Vec<PathBuf>,
}

/// The longest file that may be a certificate, key or configuration.
const SMALL_MAX: u64 = 1 << 20;

/// The most files that are looked at in one directory beside `newcerts`.
const FILES_MAX: usize = 10_000;

impl Tree {
    /// Looks at the tree.
    pub(crate) fn find(
        wishes: &Wishes,
        passphrase: Option<&Secret>,
        now: UnixTime,
        problems: &mut Problems,
    ) -> Result<Self, Fault> {
        let mut directories = directories(wishes)?;
        // What stays behind may still be the issuer of what is taken.
        let everywhere: Vec<PathBuf> = directories.iter().map(|(_, path)| path.clone()).collect();
        let named = |label: &str| directories.iter().any(|(known, _)| known == label);
        check_labels(wishes, named)?;
        directories.retain(|(label, _)| !wishes.without.contains(label));
        if directories.is_empty() {
            problems.with(Kind::NothingFound, wishes.ssl.display(), "no authority is in it");
        }
        let labels: Vec<String> = directories.iter().map(|(label, _)| label.clone()).collect();
        let mut configurations = configurations(&wishes.ssl, &labels, problems)?;
        let mut sources = Vec::new();
        for (label, directory) in directories {
            let name = match name_of(&label, wishes) {
                Ok(name) => name,
                Err(why) => {
                    problems.with(Kind::NameTaken, directory.display(), why);
                    continue;
                }
            };
            let mut own = configurations.remove(&label).unwrap_or_default();
            own.extend(own_configurations(&directory, &label)?);
            let mut source = Source {
                certificate: None,
                key: None,
                chain: Vec::new(),
                configurations: own,
                crls: Vec::new(),
                label,
                directory,
                name,
            };
            source.find_pair(wishes, passphrase, problems)?;
            source.judge(now, problems)?;
            sources.push(source);
        }
        link_chains(&mut sources, &wishes.ssl, &everywhere, problems)?;
        let (mut crls, rings) = match &wishes.commmodule {
            Some(directory) => commmodule(directory)?,
            None => (Vec::new(), Vec::new()),
        };
        for source in &sources {
            crls.extend(own_crls(&source.directory)?);
        }
        assign_crls(&mut sources, &crls, problems)?;
        Ok(Self { sources, rings })
    }
}

/// The directories that have an index, with their own names.
fn directories(wishes: &Wishes) -> Result<Vec<(String, PathBuf)>, Fault> {
    let mut found = Vec::new();
    for path in entries(&wishes.ssl)? {
        let label = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if let Some(label) = label.filter(|_| path.join("index.txt").is_file()) {
            found.push((label, path));
        }
    }
    Ok(found)
}

/// The directories that would be taken over, with the names in our store.
pub(crate) fn named_directories(wishes: &Wishes) -> Result<Vec<(PathBuf, Option<Name>)>, Fault> {
    let mut found = directories(wishes)?;
    found.retain(|(label, _)| !wishes.without.contains(label));
    Ok(found.into_iter().map(|(label, path)| (path, name_of(&label, wishes).ok())).collect())
}

/// A directory that is named on the command line must be there.
fn check_labels(wishes: &Wishes, known: impl Fn(&str) -> bool) -> Result<(), Fault> {
    let options = [
        ("--name", wishes.names.keys().collect::<Vec<_>>()),
        ("--certificate", wishes.certificates.keys().collect()),
        ("--key", wishes.keys.keys().collect()),
        ("--key-passphrase", wishes.key_passphrases.keys().collect()),
        ("--without", wishes.without.iter().collect()),
    ];
    for (option, labels) in options {
        if let Some(label) = labels.into_iter().find(|label| !known(label)) {
            return Err(Fault::Configuration(format!(
                "{option} names {label}, but {} has no directory of that name with an index.txt",
                wishes.ssl.display()
            )));
        }
    }
    Ok(())
}

/// The entries of a directory, sorted.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Fault::disk("read", directory))? {
        found.push(entry.map_err(Fault::disk("read", directory))?.path());
        if found.len() > FILES_MAX {
            return Err(Fault::Configuration(format!(
                "{} has more than {FILES_MAX} files, so it is no directory of an authority; name \
                 another one",
                directory.display()
            )));
        }
    }
    found.sort();
    Ok(found)
}

/// The name in our store: as the operator wishes, or by the directory. CAcert's `CA` is its
/// class 1 root.
fn name_of(label: &str, wishes: &Wishes) -> Result<Name, String> {
    if let Some(name) = wishes.names.get(label) {
        return Ok(name.clone());
    }
    let proposed = match label {
        "CA" => "class1".to_owned(),
        _ => label.to_ascii_lowercase().replace(['_', '.', ' '], "-"),
    };
    proposed.parse().map_err(|_| format!("`{proposed}` is no name of an authority"))
}

//------------ Configuration files -------------------------------------------

/// The configuration files beside the directories, by the directory each belongs to: the one
/// whose index it names, else the one whose name it begins with.
fn configurations(
    ssl: &Path,
    labels: &[String],
    problems: &mut Problems,
) -> Result<BTreeMap<String, Vec<(String, PathBuf)>>, Fault> {
    let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for path in entries(ssl)? {
        let Some(stem) = configuration_stem(&path) else { continue };
        let named = database_directory(&path);
        let by_index = named.and_then(|named| labels.iter().find(|label| **label == named));
        let by_name = || labels.iter().find(|label| kind_after(stem, label) != stem);
        let Some(label) = by_index.or_else(by_name) else {
            let text = "it belongs to none of the directories that are taken over";
            problems.with(Kind::ProfileNotTaken, path.display(), text);
            continue;
        };
        let kind = kind_after(kind_after(stem, label), "openssl").to_owned();
        found.entry(label.clone()).or_default().push((kind, path));
    }
    Ok(found)
}

fn own_configurations(directory: &Path, label: &str) -> Result<Vec<(String, PathBuf)>, Fault> {
    let found = entries(directory)?.into_iter().filter_map(|path| {
        let stem = configuration_stem(&path)?;
        let kind = kind_after(kind_after(stem, label), "openssl").to_owned();
        Some((kind, path))
    });
    Ok(found.collect())
}

fn configuration_stem(path: &Path) -> Option<&str> {
    let is_small = || std::fs::metadata(path).is_ok_and(|data| data.len() <= SMALL_MAX);
    let is_one = path.extension().is_some_and(|extension| extension == "cnf") && path.is_file();
    (is_one && is_small()).then(|| path.file_stem()?.to_str()).flatten()
}

/// `class3-server-org` after `class3` is `server-org`.
fn kind_after<'a>(stem: &'a str, prefix: &str) -> &'a str {
    stem.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or(stem)
}

/// The name of the directory in which a configuration file says that the index is. The tree may
/// lie elsewhere now, so only the last part counts.
fn database_directory(path: &Path) -> Option<String> {
    let value = configured(path, "database")?;
    Some(Path::new(&value).parent()?.file_name()?.to_str()?.to_owned())
}

/// A value of the section of the CA in a configuration file.
fn configured(path: &Path, key: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let conf = Conf::read(&bytes, &BTreeMap::new()).ok()?;
    let section = conf.lookup("ca", "default_ca")?.value().ok()?.to_owned();
    conf.lookup(&section, key)?.value().ok().map(str::to_owned)
}

//------------ Certificate and key -------------------------------------------

impl Source {
    /// Finds the certificate and the key that belong together.
    // AD-07, AD-08, AD-09
    fn find_pair(
        &mut self,
        wishes: &Wishes,
        passphrase: Option<&Secret>,
        problems: &mut Problems,
    ) -> Result<(), Fault> {
        let files = self.small_files()?;
        let own = wishes.key_passphrases.get(&self.label).map(|path| Secret::from_file(path));
        let own = own.transpose()?;
        let secret = own.as_ref().or(passphrase);
        self.key = match self.key_file(wishes, &files) {
            Err(why) => {
                problems.with(Kind::KeyUnusable, self.directory.display(), why);
                None
            }
            Ok(path) => match CaKey::load(&path, secret) {
                Ok(key) => Some((path, key)),
                Err(fault) if fault.is_configuration() => {
                    problems.with(Kind::KeyUnusable, path.display(), fault.to_string());
                    None
                }
                Err(fault) => return Err(fault),
            },
        };
        match self.certificate_file(wishes, &files)? {
            Ok((path, certificate)) => {
                let public = certificate.public_key()?;
                if let Some((key_path, _)) =
                    self.key.as_ref().filter(|(_, key)| !key.matches(&public))
                {
                    let text = format!("it is not the key of {}", path.display());
                    problems.with(Kind::KeyDiffers, key_path.display(), text);
                }
                self.certificate = Some((path, certificate));
            }
            Err(why) => problems.with(Kind::CertificateUnclear, self.directory.display(), why),
        }
        Ok(())
    }

    /// Every small file in the directory and in its `private`.
    fn small_files(&self) -> Result<Vec<PathBuf>, Fault> {
        let mut files = Vec::new();
        for directory in [self.directory.clone(), self.file("private")] {
            if directory.is_dir() {
                files.extend(entries(&directory)?.into_iter().filter(|path| is_small_file(path)));
            }
        }
        Ok(files)
    }

    /// The path that a configuration file names, by its place below this directory.
    fn configured_file(&self, key: &str) -> Option<PathBuf> {
        let found: BTreeSet<PathBuf> = self
            .configurations
            .iter()
            .filter_map(|(_, path)| {
                let value = configured(path, key)?;
                let value = Path::new(&value);
                let last = value.file_name()?;
                let in_private = value.parent()?.file_name().is_some_and(|part| part == "private");
                let below = if in_private { self.file("private") } else { self.directory.clone() };
                Some(below.join(last)).filter(|path| path.is_file())
            })
            .collect();
        // Two answers are none.
        if found.len() == 1 { found.into_iter().next() } else { None }
    }

    fn key_file(&self, wishes: &Wishes, files: &[PathBuf]) -> Result<PathBuf, String> {
        if let Some(path) = wishes.keys.get(&self.label) {
            return Ok(self.directory.join(path));
        }
        if let Some(path) = self.configured_file("private_key") {
            return Ok(path);
        }
        let has_key = |path: &&PathBuf| has_line(path, "PRIVATE KEY-----");
        let found: Vec<&PathBuf> = files.iter().filter(has_key).collect();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err("no file in it has a private key".to_owned()),
            many => Err(format!("{} of its files have private keys: {}", many.len(), list(many))),
        }
    }

    fn certificate_file(
        &self,
        wishes: &Wishes,
        files: &[PathBuf],
    ) -> Result<Result<(PathBuf, X509), String>, Fault> {
        let read = |path: &Path| X509::from_pem(&std::fs::read(path).ok()?).ok();
        let named = match wishes.certificates.get(&self.label) {
            Some(path) => Some(self.directory.join(path)),
            None => self.configured_file("certificate"),
        };
        if let Some(path) = named {
            let found = read(&path).map(|certificate| (path.clone(), certificate));
            let path = path.display();
            return Ok(found.ok_or_else(|| format!("{path} holds no certificate in PEM")));
        }
        let mut found: Vec<(PathBuf, X509)> = Vec::new();
        for path in files {
            let Some(certificate) = read(path) else { continue };
            let public = certificate.public_key()?;
            let fits = self.key.as_ref().is_none_or(|(_, key)| key.matches(&public));
            let der = certificate.to_der()?;
            let mut known = Vec::new();
            for (_, other) in &found {
                known.push(other.to_der()?);
            }
            if fits && !known.contains(&der) {
                found.push((path.clone(), certificate));
            }
        }
        Ok(match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err("no file in it has a certificate for its key".to_owned()),
            count => {
                let paths: Vec<&PathBuf> = found.iter().map(|(path, _)| path).collect();
                Err(format!("{count} of its files have different certificates: {}", list(&paths)))
            }
        })
    }

    /// Whether what was found can sign.
    // AD-10, AD-11, AW-11
    fn judge(&self, now: UnixTime, problems: &mut Problems) -> Result<(), Fault> {
        let Some((path, certificate)) = &self.certificate else { return Ok(()) };
        let path = path.display();
        let (begin, end) =
            (asn1_time(certificate.not_before())?, asn1_time(certificate.not_after())?);
        if now < begin || end <= now {
            problems.with(Kind::CaOutOfDate, &path, format!("it is valid from {begin} to {end}"));
        }
        if let Some((key_path, key)) = &self.key
            && let CaKeyKind::Rsa(bits @ ..RSA_BITS_MIN) = key.kind()
        {
            let text = format!("it is RSA with {bits} bits, fewer than {RSA_BITS_MIN}");
            problems.with(Kind::CaWeak, key_path.display(), text);
        }
        let digest = super::copies::digest_of(certificate);
        if let Some(digest) = digest.filter(|digest| super::copies::is_weak(*digest)) {
            let text = format!("signed with {}", digest.long_name().unwrap_or("a weak digest"));
            let kind = match is_self_issued(certificate) {
                true => Kind::RootWeak,
                false => Kind::CaWeak,
            };
            problems.with(kind, path, text);
        }
        Ok(())
    }
}

/// limits: RSA from 2048 bits on.
const RSA_BITS_MIN: u32 = 2048;

pub(crate) fn is_self_issued(certificate: &X509) -> bool {
    let compared = certificate.subject_name().try_cmp(certificate.issuer_name());
    compared.is_ok_and(|order| order == std::cmp::Ordering::Equal)
}

fn list(paths: &[&PathBuf]) -> String {
    let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
    names.collect::<Vec<_>>().join(", ")
}

fn is_small_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= SMALL_MAX)
}

fn has_line(path: &Path, end: &str) -> bool {
    let bytes = zeroize::Zeroizing::new(std::fs::read(path).unwrap_or_default());
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.starts_with(b"-----BEGIN ") && line.ends_with(end.as_bytes())
    })
}

/// Finds the certificates above each authority, among the others and beside them.
// AD-12
fn link_chains(
    sources: &mut [Source],
    ssl: &Path,
    directories: &[PathBuf],
    problems: &mut Problems,
) -> Result<(), Fault> {
    let mut known: Vec<X509> =
        sources.iter().filter_map(|source| Some(source.certificate.as_ref()?.1.clone())).collect();
    for place in std::iter::once(ssl).chain(directories.iter().map(PathBuf::as_path)) {
        for path in entries(place)?.into_iter().filter(|path| is_small_file(path)) {
            let bytes = zeroize::Zeroizing::new(std::fs::read(&path).unwrap_or_default());
            if bytes.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
                known.extend(X509::stack_from_pem(&bytes).unwrap_or_default());
            }
        }
    }
    for source in sources {
        let Some((path, certificate)) = &source.certificate else { continue };
        let mut current = certificate.clone();
        while !is_self_issued(&current) && source.chain.len() < CHAIN_MAX {
            let Some(above) = issuer_of(&current, &known)? else {
                let name = crate::name::from_x509(current.issuer_name());
                problems.with(Kind::ChainMissing, path.display(), format!("it needs {name}"));
                break;
            };
            source.chain.push(above.to_der()?);
            current = above;
        }
    }
    Ok(())
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// No chain of ours is longer.
const CHAIN_MAX: usize = 8;

fn issuer_of(certificate: &X509, known: &[X509]) -> Result<Option<X509>, Fault> {
    for other in known {
        let named = other.subject_name().try_cmp(certificate.issuer_name())?;
        let key: PKey<Public> = other.public_key()?;
        if named == std::cmp::Ordering::Equal && certificate.verify(&key).unwrap_or(false) {
            return Ok(Some(other.clone()));
        }
    }
    Ok(None)
}

/// The subject of a certificate as far as we know its attributes; for `match` in a policy.
pub(crate) fn subject_of(certificate: &X509) -> Option<Subject> {
    let attribute = |entry: &openssl::x509::X509NameEntryRef| {
        let kind = AttributeType::from_short_name(entry.object().nid().short_name().ok()?)?;
        let value = entry.data().to_string().ok()?;
        Some(Attribute { kind, value: value.as_str().try_into().ok()? })
    };
    let attributes: Vec<_> = certificate.subject_name().entries().filter_map(attribute).collect();
    attributes.try_into().ok()
}

//------------ CRLs and key rings --------------------------------------------

/// Gives each CRL to the authority that its issuer names: the old signer's numbers are only names.
// AD-14, AW-08
fn assign_crls(
    sources: &mut [Source],
    crls: &[PathBuf],
    problems: &mut Problems,
) -> Result<(), Fault> {
    for path in crls {
        let crl = match Crl::load(path)? {
            Ok(crl) => crl,
            Err(why) => {
                problems.with(Kind::CrlUnreadable, path.display(), why.0);
                continue;
            }
        };
        let issuer = &crl.head().issuer;
        let is_its = |source: &&mut Source| {
            let subject = source.certificate.as_ref().map(|(_, own)| own.subject_name().to_der());
            subject.is_some_and(|subject| subject.is_ok_and(|subject| subject == *issuer))
        };
        match sources.iter_mut().find(is_its) {
            Some(source) => source.crls.push(path.clone()),
            None => problems.with(Kind::CrlOfNobody, path.display(), "its issuer is another"),
        }
    }
    Ok(())
}

/// CRLs in an authority's own directory.
fn own_crls(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for place in [directory.to_owned(), directory.join("crl")] {
        if place.is_dir() {
            found.extend(entries(&place)?.into_iter().filter(|path| is_crl(path)));
        }
    }
    Ok(found)
}

fn is_crl(path: &Path) -> bool {
    let by_name = path.extension().is_some_and(|extension| extension == "crl");
    by_name && path.is_file() || path.file_name().is_some_and(|name| name == "crl.pem")
}

/// What the old signer left where it was started: CRLs and secret key rings.
fn commmodule(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Fault> {
    let (mut crls, mut rings) = (Vec::new(), Vec::new());
    for path in entries(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_crl(&path) {
            crls.push(path);
        } else if name.starts_with("secring") && name.ends_with(".gpg") {
            rings.push(path);
        }
    }
    let current = directory.join("currentcrls");
    if current.is_dir() {
        for below in entries(&current)?.into_iter().filter(|path| path.is_dir()) {
            crls.extend(entries(&below)?.into_iter().filter(|path| is_crl(path)));
        }
    }
    Ok((crls, rings))
}
