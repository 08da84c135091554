//! The copies of issued certificates: files in `newcerts/`, old ones in packs below it.
//!
//! The ledger has every certificate's DER, so a lost copy can be written again. What cannot be
//! written again is the text that `openssl ca` put in front of a copy of its own: therefore packs
//! keep files byte for byte, and a copy that holds the right certificate is never replaced.

use std::path::{Path, PathBuf};

use openssl::x509::X509;
use protocol::message::Serial;

use super::{Layout, pack::Pack};
use crate::{
    durable,
    fault::Fault,
    ledger::{AuthorityId, CertificateRow, Ledger},
};

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const PEM_END: &str = "-----END CERTIFICATE-----\n";
/// RFC 7468 2: 64 characters a line, which are 48 octets.
const PEM_LINE_OCTETS: usize = 48;

/// A certificate in PEM, as `openssl x509` writes it.
pub fn pem(der: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(der.len() / 3 * 4 + der.len() / 40 + 64);
    text.push_str(PEM_BEGIN);
    for line in der.chunks(PEM_LINE_OCTETS) {
        text.push_str(&openssl::base64::encode_block(line));
        text.push('\n');
    }
    text.push_str(PEM_END);
    text.into_bytes()
}

/// Whether a copy holds this certificate, whatever text stands in front of it.
pub fn holds(copy: &[u8], der: &[u8]) -> bool {
    if copy.ends_with(&pem(der)) {
        // The first PEM block is the one that readers take; without another it is this one.
        let begin = PEM_BEGIN.as_bytes();
        let first = copy.windows(begin.len()).position(|window| window == begin);
        if first == Some(copy.len() - pem_length(der.len())) {
            return true;
        }
    }
    let stored = X509::from_pem(copy).and_then(|certificate| certificate.to_der());
    stored.is_ok_and(|stored| stored == der)
}

fn pem_length(der: usize) -> usize {
    let (whole, rest) = (der / PEM_LINE_OCTETS, der % PEM_LINE_OCTETS);
    let last = if rest == 0 { 0 } else { rest.div_ceil(3) * 4 + 1 };
    PEM_BEGIN.len() + whole * (PEM_LINE_OCTETS / 3 * 4 + 1) + last + PEM_END.len()
}

/// Writes the copy of a new certificate. Not synced: the ledger has it, and the next start looks
/// at every copy since the last sync.
pub fn write(layout: &Layout, serial: &Serial, der: &[u8]) -> Result<(), Fault> {
    if der.is_empty() {
        return Ok(()); // adopted from an index line alone: there is no copy to write
    }
    durable::write_lazily(&layout.newcert(serial), &pem(der), 0o644)
}

/// Where a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of its own.
    File(PathBuf),
    /// In this pack.
    Pack(PathBuf),
}

impl Place {
    /// The file that it is in.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Pack(path) => path,
        }
    }
}

/// All copies of an authority.
#[derive(Debug)]
pub struct Copies {
    layout: Layout,
    /// Newest first.
    packs: Vec<Pack>,
    /// Packs that cannot be opened, with what is wrong.
    damaged: Vec<(PathBuf, Fault)>,
}

impl Copies {
    /// Opens the packs of an authority; one that is damaged does not hide the others.
    pub fn open(layout: &Layout) -> Result<Self, Fault> {
        let mut copies = Self { layout: layout.clone(), packs: Vec::new(), damaged: Vec::new() };
        for number in pack_numbers(layout)?.into_iter().rev() {
            let path = layout.pack(number);
            match Pack::open(&path) {
                Ok(pack) => copies.packs.push(pack),
                Err(fault) => copies.damaged.push((path, fault)),
            }
        }
        Ok(copies)
    }

    /// The packs, newest first.
    pub fn packs(&mut self) -> &mut [Pack] {
        &mut self.packs
    }

    /// The packs that cannot be opened, with what is wrong.
    pub fn damaged(&self) -> &[(PathBuf, Fault)] {
        &self.damaged
    }

    /// The copy with this serial, and where it is.
    pub fn find(&mut self, serial: &Serial) -> Result<Option<(Place, Vec<u8>)>, Fault> {
        let path = self.layout.newcert(serial);
        match std::fs::read(&path) {
            Ok(bytes) => return Ok(Some((Place::File(path), bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::disk("read", &path)(error)),
        }
        let mut broken = None;
        for pack in &mut self.packs {
            match pack.find(serial) {
                Ok(Some(bytes)) => return Ok(Some((Place::Pack(pack.path().to_owned()), bytes))),
                Ok(None) => {}
                Err(fault) => broken = Some(fault),
            }
        }
        broken.map_or(Ok(None), Err)
    }

    /// How the copy of this row is.
    pub fn state(&mut self, row: &CertificateRow) -> Result<CopyState, Fault> {
        if row.der.is_empty() {
            return Ok(CopyState::Right); // adopted from an index line alone
        }
        match self.find(&row.serial) {
            Ok(Some((_, bytes))) if holds(&bytes, &row.der) => Ok(CopyState::Right),
            Ok(_) => Ok(CopyState::Wrong),
            Err(Fault::Damaged { .. }) => Ok(CopyState::Unreadable),
            Err(fault) => Err(fault),
        }
    }
}

/// How a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It holds the ledger's certificate.
    Right,
    /// It is missing or holds something else.
    Wrong,
    /// It is in a pack that is damaged.
    Unreadable,
}

/// The numbers of an authority's packs, lowest first.
pub fn pack_numbers(layout: &Layout) -> Result<Vec<u32>, Fault> {
    let mut numbers: Vec<u32> = files_of_packs(layout)?
        .iter()
        .filter_map(|name| name.strip_suffix(".pack")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A number that no pack has had, not even one that was set aside.
pub fn next_pack_number(layout: &Layout) -> Result<u32, Fault> {
    let taken = files_of_packs(layout)?
        .iter()
        .filter_map(|name| name.split('.').next()?.parse::<u32>().ok())
        .max();
    Ok(taken.unwrap_or(0) + 1)
}

fn files_of_packs(layout: &Layout) -> Result<Vec<String>, Fault> {
    let directory = layout.packs();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::disk("read", &directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Fault::disk("read", &directory))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Writes every certificate copy above row `after` that is nowhere right; answers how many.
pub fn restore(
    layout: &Layout,
    id: AuthorityId,
    ledger: &Ledger,
    after: i64,
) -> Result<u64, Fault> {
    durable::directory(&layout.file("newcerts"), 0o755)?;
    let mut copies = Copies::open(layout)?;
    let mut restored = 0;
    ledger.for_each_certificate(id, after, |row| {
        if copies.state(&row)? != CopyState::Right {
            write(layout, &row.serial, &row.der)?;
            restored += 1;
        }
        Ok(())
    })?;
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not certificates: PEM is the same for all bytes.
    #[test]
    fn pem_is_what_openssl_writes_for_every_length() {
        for length in (1..200).chain([1000, 1_271, 4_095]) {
            let der: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let base64 = openssl::base64::encode_block(&der);
            let lines: Vec<&str> = base64
                .as_bytes()
                .chunks(64)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let expected = format!("{PEM_BEGIN}{}\n{PEM_END}", lines.join("\n"));
            assert_eq!(String::from_utf8(pem(&der)).unwrap(), expected);
            assert_eq!(pem_length(der.len()), expected.len());
        }
    }

    #[test]
    fn copy_with_text_in_front_holds_its_certificate_and_no_other() {
        let (one, two) = (vec![1; 100], vec![2; 100]);
        let with_text = [b"Certificate:\n    Data:\n".as_slice(), &pem(&one)].concat();
        assert!(holds(&pem(&one), &one) && holds(&with_text, &one));
        assert!(!holds(&with_text, &two) && !holds(b"", &one));
        let both = [pem(&two), pem(&one)].concat();
        assert!(!holds(&both, &one), "readers take the first");
        for cut in 0..with_text.len() {
            assert!(!holds(&with_text[..cut], &one), "cut at {cut}");
        }
    }
}
