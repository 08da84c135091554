//! Holds each copy in `newcerts` against its index line, on all cores.
//!
//! A copy is the certificate that the line speaks of, signed by this authority, or the tree is
//! refused. Nothing here writes.

use std::{
    cmp::Ordering,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
};

use openssl::{
    nid::Nid,
    pkey::{PKey, Public},
    x509::{X509, X509Name, X509NameRef, X509Ref},
};
use protocol::message::Serial;

use super::problems::{Kind, Problems};
use crate::{authority::asn1_time, calendar::UnixTime, fault::Fault, ledger::CertificateRow};

/// The longest copy that is read: openssl's text form before a certificate is a few kilobytes.
pub(crate) const COPY_MAX: u64 = 1 << 20;

/// Lines handed to a worker at once.
const CHUNK: usize = 128;

/// A line and its copy.
#[derive(Debug)]
pub(crate) struct Job {
    /// The line's number.
    pub(crate) line: u64,
    /// What the line says.
    pub(crate) row: CertificateRow,
    /// The copy's bytes.
    pub(crate) copy: Vec<u8>,
}

/// What every copy is held against.
pub(crate) struct Bench {
    /// The index, for messages.
    pub(crate) index: PathBuf,
    /// Where the copies are, for messages.
    pub(crate) newcerts: PathBuf,
    /// The authority's subject.
    pub(crate) issuer: X509Name,
    /// The authority's key.
    pub(crate) key: PKey<Public>,
    /// Now: what has expired may be as weak as it was.
    pub(crate) now: UnixTime,
    /// How many threads.
    pub(crate) cores: usize,
}

impl Bench {
    /// Runs `feed`, which hands over jobs in the order of their lines, and checks them meanwhile.
    pub(crate) fn run(
        &self,
        feed: impl FnOnce(&mut dyn FnMut(Job) -> Result<(), Fault>) -> Result<(), Fault>,
    ) -> Result<Problems, Fault> {
        let cores = self.cores.max(1);
        // Bounded: the reader must not run ahead of the workers into memory.
        let (sender, receiver) = mpsc::sync_channel::<Vec<Job>>(2 * cores);
        let receiver = Mutex::new(receiver);
        let gone = || Fault::Internal("a thread that checks copies ended early".into());
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..cores).map(|_| scope.spawn(|| self.work(&receiver))).collect();
            let mut chunk = Vec::with_capacity(CHUNK);
            let fed = feed(&mut |job| {
                chunk.push(job);
                if chunk.len() < CHUNK {
                    return Ok(());
                }
                sender.send(std::mem::take(&mut chunk)).map_err(|_| gone())
            });
            let fed = fed.and_then(|()| sender.send(chunk).map_err(|_| gone()));
            drop(sender);
            let mut problems = Problems::default();
            for worker in workers {
                problems.merge(worker.join().map_err(|_| gone())??);
            }
            fed.map(|()| problems)
        })
    }

    fn work(&self, receiver: &Mutex<mpsc::Receiver<Vec<Job>>>) -> Result<Problems, Fault> {
        let mut problems = Problems::default();
        loop {
            let received = match receiver.lock() {
                Ok(receiver) => receiver.recv(),
                Err(_) => break, // another worker panicked, which its join tells
            };
            let Ok(chunk) = received else { break };
            for job in chunk {
                self.check(&job, &mut problems)?;
            }
        }
        Ok(problems)
    }

    // AD-04, AD-05, AD-06, AW-03, AW-04
    fn check(&self, job: &Job, problems: &mut Problems) -> Result<(), Fault> {
        let path = path_of(&self.newcerts, &job.row.serial);
        let file = path.display();
        let Ok(certificate) = X509::from_pem(&job.copy) else {
            problems.with(Kind::CopyUnreadable, file, "it holds no certificate in PEM");
            return Ok(());
        };
        let index = self.index.display();
        match disagreement(&certificate, &job.row, &self.issuer)? {
            Some(why) => {
                let text = format!("{why}; its line is {index} line {}", job.line);
                problems.with(Kind::CopyDiffers, &file, text);
            }
            None if !certificate.verify(&self.key).unwrap_or(false) => {
                problems.with(Kind::CopyNotOurs, &file, "the signature is another key's");
            }
            None => {}
        }
        if subject_agrees(&job.row, certificate.subject_name()) == Agreement::OtherLabels {
            problems.at(Kind::SubjectLabels, index, job.line, job.row.subject.clone());
        }
        let digest = digest_of(&certificate);
        if job.row.not_after > self.now
            && let Some(digest) = digest.filter(|digest| is_weak(*digest))
        {
            let name = digest.long_name().unwrap_or("a weak digest");
            problems.with(Kind::CopyWeak, file, format!("signed with {name}"));
        }
        Ok(())
    }
}

/// Where openssl puts the copy of a certificate.
pub(crate) fn path_of(newcerts: &Path, serial: &Serial) -> PathBuf {
    newcerts.join(format!("{serial}.pem"))
}

/// The bytes of a copy; none if there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Fault::disk("read", path))?,
    };
    let mut bytes = Vec::new();
    // One byte more shows that there is more; what is cut there is no certificate.
    file.take(COPY_MAX + 1).read_to_end(&mut bytes).map_err(Fault::disk("read", path))?;
    Ok(Some(bytes))
}

/// The digest of a certificate's signature.
pub(crate) fn digest_of(certificate: &X509Ref) -> Option<Nid> {
    certificate.signature_algorithm().object().nid().signature_algorithms().map(|pair| pair.digest)
}

/// MD5, SHA-1 and what is older still.
pub(crate) fn is_weak(digest: Nid) -> bool {
    [Nid::MD5, Nid::SHA1, Nid::RIPEMD160].contains(&digest)
        || matches!(digest.short_name(), Ok("MD2" | "MD4" | "MDC2" | "SHA"))
}

/// In what a certificate is not the one that its line speaks of.
fn disagreement(
    certificate: &X509Ref,
    row: &CertificateRow,
    issuer: &X509NameRef,
) -> Result<Option<String>, Fault> {
    let number = certificate.serial_number().to_bn()?;
    let serial = Serial::from_magnitude(&number.to_vec());
    if number.is_negative() || serial.as_ref() != Ok(&row.serial) {
        let is = number.to_hex_str()?;
        return Ok(Some(format!("its serial is {is}, the line says {}", row.serial)));
    }
    if certificate.issuer_name().try_cmp(issuer)? != Ordering::Equal {
        let name = crate::name::from_x509(certificate.issuer_name());
        return Ok(Some(format!("its issuer is {name}")));
    }
    if asn1_time(certificate.not_after())? != row.not_after {
        let end = certificate.not_after();
        return Ok(Some(format!("it ends on {end}, the line says {}", row.not_after)));
    }
    if subject_agrees(row, certificate.subject_name()) == Agreement::Differs {
        let name = crate::name::from_x509(certificate.subject_name());
        return Ok(Some(format!("its subject is {name}, the line says {}", row.subject)));
    }
    Ok(None)
}

/// How a line's subject stands to the certificate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    Same,
    /// The values agree, the attributes' names do not: `Email` of openssl 0.9.6 and its like.
    OtherLabels,
    Differs,
}

fn subject_agrees(row: &CertificateRow, name: &X509NameRef) -> Agreement {
    if name.entries().next().is_none() {
        // openssl writes the serial in place of an empty subject.
        let stands_for_empty = row.subject.is_empty() || row.subject == row.serial.to_string();
        return if stands_for_empty { Agreement::Same } else { Agreement::Differs };
    }
    let mut rest = row.subject.as_str();
    let mut agreement = Agreement::Same;
    for entry in name.entries() {
        // OpenSSL 3 joins the parts of one RDN by `+`.
        let found = rest.strip_prefix(['/', '+']).and_then(|rest| rest.split_once('='));
        let Some((label, after)) = found else { return Agreement::Differs };
        let octets = entry.data().as_slice();
        // And it escapes both signs inside values, which older ones do not.
        let [new, old] = [true, false].map(|new| escaped(octets, new));
        let after = after.strip_prefix(new.as_str()).or_else(|| after.strip_prefix(old.as_str()));
        let Some(after) = after else { return Agreement::Differs };
        let object = entry.object();
        let known = match object.nid() {
            Nid::UNDEF => label == object.to_string(),
            nid => nid.short_name().is_ok_and(|name| name == label),
        };
        if !known {
            agreement = Agreement::OtherLabels;
        }
        rest = after;
    }
    if rest.is_empty() { agreement } else { Agreement::Differs }
}

/// The octets of a value as openssl's one-line form has them.
fn escaped(octets: &[u8], since_3: bool) -> String {
    let mut out = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'/' | b'+' if since_3 => out.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => out.push(char::from(*octet)),
            _ => out.push_str(&format!("\\x{octet:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509NameBuilder;

    use super::*;
    use crate::adopt::lines;

    fn name(entries: &[(&str, &str)]) -> X509Name {
        let mut builder = X509NameBuilder::new().unwrap();
        for (kind, value) in entries {
            builder.append_entry_by_text(kind, value).unwrap();
        }
        builder.build()
    }

    fn agreement(subject: &str, entries: &[(&str, &str)]) -> Agreement {
        let row = lines::read(format!("V\t270102030405Z\t\t0A\tunknown\t{subject}").as_bytes());
        subject_agrees(&row.unwrap(), &name(entries))
    }

    // AD-05, AW-04
    #[test]
    fn subject_is_compared_by_its_octets_and_old_labels_are_told_apart() {
        let entries = [("O", "Größe / Söhne=x"), ("emailAddress", "a@b.example")];
        let ours = "/O=Gr\\xC3\\xB6\\xC3\\x9Fe / S\\xC3\\xB6hne=x/emailAddress=a@b.example";
        assert_eq!(agreement(ours, &entries), Agreement::Same);
        let since_3 = ours.replace(" / ", " \\/ ");
        assert_eq!(agreement(&since_3, &entries), Agreement::Same);
        let old = ours.replace("emailAddress", "Email");
        assert_eq!(agreement(&old, &entries), Agreement::OtherLabels);
        for other in [
            "/O=Gr\\xC3\\xB6\\xC3\\x9Fe / S\\xC3\\xB6hne=x",
            &format!("{ours}/CN=more"),
            &ours.replace("b.example", "c.example"),
            "",
            "0A",
        ] {
            assert_eq!(agreement(other, &entries), Agreement::Differs, "{other}");
        }
    }

    #[test]
    fn empty_subject_is_an_empty_field_or_the_serial() {
        assert_eq!(agreement("", &[]), Agreement::Same);
        assert_eq!(agreement("0A", &[]), Agreement::Same);
        assert_eq!(agreement("0B", &[]), Agreement::Differs);
    }

    #[test]
    fn weak_digests_are_named() {
        for weak in [Nid::MD5, Nid::SHA1, Nid::RIPEMD160] {
            assert!(is_weak(weak), "{weak:?}");
        }
        for good in [Nid::SHA256, Nid::SHA384, Nid::SHA512, Nid::SHA224] {
            assert!(!is_weak(good), "{good:?}");
        }
    }
}
