//! Grows a tree as CAcert's signer has kept it with `openssl ca` for years, only faster.
//!
//! Every line and every copy has exactly the form that `openssl ca` gives it; a test compares
//! them with those of the real command. It reads no clock: all days are fixed.

use std::{
    fmt::Write as _,
    fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder, X509NameRef,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectKeyIdentifier,
        },
    },
};

/// A certificate as the old signer would have issued it.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its serial, counted up.
    pub serial: u64,
    /// Its subject, by short names.
    pub subject: Vec<(&'static str, String)>,
    /// `YYYYMMDDHHMMSSZ`
    pub not_before: String,
    /// `YYYYMMDDHHMMSSZ`
    pub not_after: String,
    /// The index's first column, and its third.
    pub status: Status,
    /// Its line was written before OpenSSL 3, which puts a backslash before `/` and `+`.
    pub old_form: bool,
}

/// What became of a certificate.
#[derive(Clone, Debug)]
pub enum Status {
    /// V
    Valid,
    /// E
    Expired,
    /// R, with the date and reason as they stand in the index.
    Revoked(String),
}

/// The days of the tree. Whoever reads this after 2040 makes them later.
pub const ISSUED: &str = "20200229120000Z";
const ENDS: &str = "20400301120000Z";
const ENDS_FAR: &str = "20510301120000Z";
const ENDED: &str = "20210301120000Z";

impl Leaf {
    /// The certificate with this serial in a tree of many: every tenth is revoked, every tenth
    /// has expired, and the subjects are as bad as they get.
    pub fn numbered(serial: u64) -> Self {
        Self { old_form: serial % 2 == 1, ..Self::of_today(serial) }
    }

    /// The same, by the OpenSSL of today.
    pub fn of_today(serial: u64) -> Self {
        let person = match serial % 5 {
            0 => format!("Jürgen Weiß {serial}"),
            1 => format!("slash/and=equals+plus {serial}"),
            2 => format!("tab\there \\x41 {serial}"),
            _ => format!("CAcert WoT User {serial}"),
        };
        let mut subject = vec![("CN", person)];
        if serial.is_multiple_of(3) {
            subject.push(("emailAddress", format!("user{serial}@example.org")));
        }
        if serial.is_multiple_of(7) {
            subject.insert(0, ("O", "Größe & Söhne".to_owned()));
            subject.insert(0, ("C", "DE".to_owned()));
        }
        let (not_after, status) = match serial % 10 {
            3 => (ENDED, Status::Expired),
            6 => (ENDS, Status::Revoked(revocation(serial))),
            8 => (ENDS_FAR, Status::Valid),
            _ => (ENDS, Status::Valid),
        };
        let (not_before, not_after) = (ISSUED.to_owned(), not_after.to_owned());
        Self { serial, subject, not_before, not_after, status, old_form: false }
    }
}

/// Dates and reasons as `openssl ca -revoke` has written them over the years.
fn revocation(serial: u64) -> String {
    let day = 1 + serial % 28;
    let date = format!("2103{day:02}101112Z");
    match (serial / 10) % 8 {
        0 => format!("{date},keyCompromise"),
        1 => format!("{date},superseded"),
        2 => format!("{date},cessationOfOperation"),
        3 => format!("{date},keyTime,20210201000000Z"),
        4 => format!("{date},affiliationChanged"),
        _ => date, // without reason: what the old signer always wrote
    }
}

/// An authority of the old tree.
pub struct OldCa {
    directory: PathBuf,
    key: PKey<Private>,
    certificate: X509,
    subject_keys: Vec<PKey<Private>>,
}

/// The kind of an authority's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// P-256: fast.
    P256,
    /// RSA with 2048 bits: its signatures are the same each time.
    Rsa2048,
}

impl OldCa {
    /// Makes an authority in `ssl/label`, below `above` or self-signed, with an empty index.
    pub fn found(
        ssl: &Path,
        label: &str,
        subject: &str,
        kind: KeyKind,
        above: Option<&Self>,
    ) -> Result<Self> {
        let directory = ssl.join(label);
        fs::create_dir_all(directory.join("newcerts"))?;
        let key = match kind {
            KeyKind::P256 => p256()?,
            KeyKind::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?)?,
        };
        let name = name(&[("O", "Root CA".to_owned()), ("CN", subject.to_owned())])?;
        let certificate = ca_certificate(&key, &name, above, CA_ENDS, MessageDigest::sha256())?;
        let subject_keys = (0..4).map(|_| p256()).collect::<Result<_>>()?;
        let ca = Self { directory, key, certificate, subject_keys };
        fs::write(ca.file("cacert.crt"), ca.certificate.to_pem()?)?;
        fs::write(ca.file("cacert.pem"), ca.key.private_key_to_pem_pkcs8()?)?;
        fs::write(ca.file("index.txt"), "")?;
        fs::write(ca.file("index.txt.attr"), "unique_subject = no\n")?;
        fs::write(ca.file("serial"), "01\n")?;
        Ok(ca)
    }

    /// Writes another certificate for its name and key.
    pub fn recertify(
        &self,
        above: Option<&Self>,
        not_after: &str,
        digest: MessageDigest,
    ) -> Result<()> {
        let name = self.certificate.subject_name();
        let certificate = ca_certificate(&self.key, name, above, not_after, digest)?;
        fs::write(self.file("cacert.crt"), certificate.to_pem()?)?;
        Ok(())
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &X509 {
        &self.certificate
    }

    /// The key that certificate `serial` is for.
    pub fn subject_key(&self, serial: u64) -> &PKey<Private> {
        &self.subject_keys[(serial % self.subject_keys.len() as u64) as usize]
    }

    /// Issues these and writes index, copies and the next serial.
    pub fn fill(&self, leaves: impl IntoIterator<Item = Leaf>) -> Result<()> {
        let index = fs::File::create(self.file("index.txt"))?;
        let mut index = BufWriter::with_capacity(1 << 16, index);
        let mut next = 1;
        for leaf in leaves {
            let certificate = self.issue(&leaf)?;
            // `openssl ca` without -notext: the certificate in words, then PEM.
            let mut copy = certificate.to_text()?;
            copy.extend(certificate.to_pem()?);
            let serial = hexadecimal(leaf.serial);
            fs::write(self.file(&format!("newcerts/{serial}.pem")), copy)?;
            index.write_all(index_line(&leaf).as_bytes())?;
            next = leaf.serial + 1;
        }
        index.flush()?;
        fs::write(self.file("serial"), format!("{}\n", hexadecimal(next)))?;
        Ok(())
    }

    /// The certificate of a leaf, with the extensions of the configuration file.
    pub fn issue(&self, leaf: &Leaf) -> Result<X509> {
        self.issue_with(leaf, MessageDigest::sha256())
    }

    /// The same, signed with another digest.
    pub fn issue_with(&self, leaf: &Leaf, digest: MessageDigest) -> Result<X509> {
        let mut builder = X509Builder::new()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*integer(leaf.serial)?)?;
        builder.set_subject_name(&*name(&leaf.subject)?)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_not_before(&*Asn1Time::from_str_x509(&leaf.not_before)?)?;
        builder.set_not_after(&*Asn1Time::from_str_x509(&leaf.not_after)?)?;
        builder.set_pubkey(self.subject_key(leaf.serial))?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let key_identifier = SubjectKeyIdentifier::new().build(&context)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        let usage = KeyUsage::new().digital_signature().key_encipherment().build()?;
        builder.append_extension(usage)?;
        let purpose = ExtendedKeyUsage::new().client_auth().email_protection().build()?;
        builder.append_extension(purpose)?;
        builder.append_extension(key_identifier)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let authority = AuthorityKeyIdentifier::new().keyid(false).build(&context)?;
        builder.append_extension(authority)?;
        builder.sign(&self.key, digest)?;
        Ok(builder.build())
    }

    /// The text of its configuration file, in the way of CAcert's.
    pub fn configuration(&self) -> String {
        format!(
            "[ ca ]\n\
             default_ca = CA_default\n\
             \n\
             [ CA_default ]\n\
             dir             = {}\n\
             database        = $dir/index.txt\n\
             new_certs_dir   = $dir/newcerts\n\
             certificate     = $dir/cacert.crt\n\
             serial          = $dir/serial\n\
             private_key     = $dir/cacert.pem\n\
             x509_extensions = usr_cert\n\
             default_days    = 180\n\
             default_md      = sha256\n\
             preserve        = no\n\
             policy          = policy_anything\n\
             unique_subject  = no\n\
             \n\
             [ policy_anything ]\n\
             countryName            = optional\n\
             stateOrProvinceName    = optional\n\
             localityName           = optional\n\
             organizationName       = optional\n\
             organizationalUnitName = optional\n\
             commonName             = optional\n\
             emailAddress           = optional\n\
             \n\
             [ usr_cert ]\n\
             basicConstraints = critical,CA:FALSE\n\
             keyUsage = digitalSignature, keyEncipherment\n\
             extendedKeyUsage = clientAuth, emailProtection\n\
             subjectKeyIdentifier = hash\n\
             authorityKeyIdentifier = keyid\n\
             \n\
             [ crl_ext ]\n\
             authorityKeyIdentifier = keyid:always\n",
            self.directory.display()
        )
    }
}

/// A leaf's line, as `openssl ca` writes it.
pub fn index_line(leaf: &Leaf) -> String {
    let end = match leaf.not_after.as_str() < "2050" {
        true => &leaf.not_after[2..],
        false => &leaf.not_after[..],
    };
    let (letter, revoked) = match &leaf.status {
        Status::Valid => ("V", ""),
        Status::Expired => ("E", ""),
        Status::Revoked(text) => ("R", text.as_str()),
    };
    let serial = hexadecimal(leaf.serial);
    format!(
        "{letter}\t{end}\t{revoked}\t{serial}\tunknown\t{}\n",
        one_line(&leaf.subject, leaf.old_form)
    )
}

/// openssl's one-line form of a subject, of today or before version 3.
pub fn one_line(subject: &[(&str, String)], old_form: bool) -> String {
    let mut out = String::new();
    for (kind, value) in subject {
        let _ = write!(out, "/{kind}="); // a String takes everything
        for byte in value.bytes() {
            match byte {
                b'/' | b'+' if !old_form => out.extend(['\\', char::from(byte)]),
                b' '..=b'~' => out.push(char::from(byte)),
                other => {
                    let _ = write!(out, "\\x{other:02X}");
                }
            }
        }
    }
    out
}

/// A number as openssl writes it: upper-case digits in pairs.
pub fn hexadecimal(number: u64) -> String {
    let digits = format!("{number:X}");
    let zero = if digits.len() % 2 == 1 { "0" } else { "" };
    format!("{zero}{digits}")
}

fn integer(number: u64) -> Result<Asn1Integer> {
    Ok(BigNum::from_slice(&number.to_be_bytes())?.to_asn1_integer()?)
}

fn name(entries: &[(&str, String)]) -> Result<X509Name> {
    let mut builder = X509NameBuilder::new()?;
    for (kind, value) in entries {
        builder.append_entry_by_text(kind, value).with_context(|| format!("{kind}={value}"))?;
    }
    Ok(builder.build())
}

fn p256() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

const CA_ENDS: &str = "20490329122949Z";

fn ca_certificate(
    key: &PKey<Private>,
    name: &X509NameRef,
    above: Option<&OldCa>,
    not_after: &str,
    digest: MessageDigest,
) -> Result<X509> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    // Not a serial that an index will have: the old roots' own is 0.
    builder.set_serial_number(&*integer(if above.is_some() { 0xA418A } else { 0 })?)?;
    builder.set_subject_name(name)?;
    builder.set_issuer_name(above.map_or(name, |above| above.certificate.subject_name()))?;
    builder.set_not_before(&*Asn1Time::from_str_x509("20030330122949Z")?)?;
    builder.set_not_after(&*Asn1Time::from_str_x509(not_after)?)?;
    builder.set_pubkey(key)?;
    let context = builder.x509v3_context(None, None);
    let key_identifier = SubjectKeyIdentifier::new().build(&context)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    builder.append_extension(key_identifier)?;
    let signer = above.map_or(key, |above| &above.key);
    builder.sign(signer, digest)?;
    Ok(builder.build())
}

/// A whole old tree: a class 1 root, a class 3 authority below it, and two small ones.
pub struct OldTree {
    /// The old `/etc/ssl`.
    pub ssl: PathBuf,
    /// Where the old signer was started.
    pub commmodule: PathBuf,
    /// By the old signer's numbers: `CA`, `class3`, `class3s`, `root3`.
    pub authorities: Vec<OldCa>,
}

impl OldTree {
    /// Grows one with so many lines under the root, with the configuration files where the old
    /// signer looked for them.
    pub fn grow(at: &Path, lines: u64) -> Result<Self> {
        let (ssl, commmodule) = (at.join("ssl"), at.join("CommModule"));
        fs::create_dir_all(&ssl)?;
        fs::create_dir_all(&commmodule)?;
        let kind = KeyKind::P256;
        let root = OldCa::found(&ssl, "CA", "CA Cert Signing Authority", kind, None)?;
        let class3 = OldCa::found(&ssl, "class3", "CAcert Class 3 Root", kind, Some(&root))?;
        let class3s = OldCa::found(&ssl, "class3s", "CAcert Class 3s", kind, Some(&root))?;
        let root3 = OldCa::found(&ssl, "root3", "Third Root", kind, None)?;
        root.fill((1..=lines).map(Leaf::numbered))?;
        class3.fill((1..=lines.min(200)).map(Leaf::numbered))?;
        class3s.fill((1..=5).map(Leaf::numbered))?;
        root3.fill((1..=7).map(Leaf::numbered))?;
        for (file, ca) in [
            ("openssl-client.cnf", &root),
            ("openssl-server.cnf", &root),
            ("class3-client.cnf", &class3),
            ("class3s-client.cnf", &class3s),
            ("root3/client.cnf", &root3),
        ] {
            fs::write(ssl.join(file), ca.configuration())?;
        }
        fs::write(commmodule.join("secring0.gpg"), "an OpenPGP key\n")?;
        fs::write(commmodule.join("pubring0.gpg"), "its public half\n")?;
        Ok(Self { ssl, commmodule, authorities: vec![root, class3, class3s, root3] })
    }

    /// The configuration file of each authority, by the old signer's numbers.
    pub fn configuration(&self, number: usize) -> PathBuf {
        let files =
            ["openssl-client.cnf", "class3-client.cnf", "class3s-client.cnf", "root3/client.cnf"];
        self.ssl.join(files[number])
    }

    /// Signs the CRL of an authority with `openssl ca`, and puts it where the old signer did.
    pub fn sign_crl(&self, number: usize) -> Result<PathBuf> {
        let pem = self.commmodule.join("new.pem");
        let configuration = self.configuration(number);
        let words = [
            "ca", "-md", "sha256", "-batch", "-gencrl", "-crldays", "7", "-crlexts", "crl_ext",
            "-config",
        ];
        let mut command = std::process::Command::new("openssl");
        command.args(words).arg(configuration).arg("-out").arg(&pem);
        let ended = command.output().context("openssl cannot be started")?;
        anyhow::ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let der = openssl::x509::X509Crl::from_pem(&fs::read(&pem)?)?.to_der()?;
        fs::remove_file(pem)?;
        let name: String = openssl::sha::sha1(&der).iter().map(|b| format!("{b:02x}")).collect();
        let folder = self.commmodule.join(format!("currentcrls/{number}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.crl")), &der)?;
        let current = self.commmodule.join(format!("revoke-root{number}.crl"));
        fs::write(&current, &der)?;
        Ok(current)
    }

    /// The SHA-256 of every file of the tree, by its path.
    pub fn digests(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        let mut folders = vec![self.ssl.clone(), self.commmodule.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let digest = openssl::sha::sha256(&fs::read(&path)?);
                    found.push((path, digest.iter().map(|b| format!("{b:02x}")).collect()));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
