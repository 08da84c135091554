//! Compares `index.txt` with the ledger, and finds what another program wrote.
//!
//! Lines that are exactly the ledger's are not even parsed. What is known to be as we left it is
//! hashed, not compared. Nothing here changes the file or the ledger.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{File, Metadata},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use openssl::x509::X509;
use protocol::message::Serial;

use super::{Hash, Left, Stamp, line, parse};
use crate::{
    authority::Layout,
    fault::Fault,
    ledger::{AuthorityId, CertificateRow, Ledger, Status},
};

/// The longest line: openssl writes subjects of a few hundred characters.
const LINE_MAX: usize = 1 << 16;

/// How an index differs from the ledger.
#[derive(Debug)]
pub struct Differences {
    /// Lines that a person or `openssl ca` added or changed, with their certificates.
    pub foreign: Vec<CertificateRow>,
    /// Whether lines are missing, behind, cut or there twice.
    pub behind: bool,
    /// What was read.
    pub stamp: Stamp,
    /// How many lines were compared, not only hashed.
    pub compared: u64,
}

/// Compares the index with the ledger. Where `left` tells how we left it, only lines behind that
/// are compared while the rest is unchanged.
pub fn compare(
    layout: &Layout,
    id: AuthorityId,
    ledger: &Ledger,
    left: Option<&Left>,
) -> Result<Differences, Fault> {
    let mut differences =
        Differences { foreign: Vec::new(), behind: false, stamp: Stamp::unknown(), compared: 0 };
    let Some(mut lines) = Lines::open(&layout.file("index.txt"))? else {
        return Ok(Differences { behind: true, ..differences });
    };
    let mut desk = Desk {
        layout,
        id,
        ledger,
        foreign: Vec::new(),
        unknown: HashMap::new(),
        missing: BTreeSet::new(),
        behind: false,
    };
    match left {
        Some(left) if lines.skip_unchanged(&left.stamp)? => {
            // All rows up to there have their lines; those since may not.
            desk.behind = ledger.last_revocation(id)? > left.revocation;
            ledger.for_each_index_row(id, left.certificate, |row| {
                desk.missing.insert(row.seq);
                Ok(())
            })?;
        }
        _ => desk.compare_in_step(&mut lines)?,
    }
    while let Some(text) = lines.next()? {
        if let Some(found) = desk.look_up(&mut lines, text)? {
            desk.judge(found)?;
        }
    }
    differences.behind = desk.behind || lines.cut || !desk.missing.is_empty();
    differences.foreign = desk.foreign;
    differences.compared = lines.compared;
    differences.stamp = lines.stamp()?;
    Ok(differences)
}

/// A line of the index, and the row that the ledger has for its serial.
struct Found {
    number: u64,
    text: String,
    row: CertificateRow,
    known: Option<CertificateRow>,
}

impl Found {
    fn seq(&self) -> Option<i64> {
        self.known.as_ref().map(|known| known.seq)
    }
}

struct Desk<'a> {
    layout: &'a Layout,
    id: AuthorityId,
    ledger: &'a Ledger,
    foreign: Vec<CertificateRow>,
    /// The lines of serials that the ledger does not know.
    unknown: HashMap<Serial, String>,
    /// The numbers of rows that should have a line further down.
    missing: BTreeSet<i64>,
    behind: bool,
}

impl Desk<'_> {
    /// Walks through rows and lines side by side, as far as there are rows.
    fn compare_in_step(&mut self, lines: &mut Lines) -> Result<(), Fault> {
        let ledger = self.ledger;
        // The line of a later row, until that row comes.
        let mut held: Option<Found> = None;
        ledger.for_each_index_row(self.id, 0, |row| {
            let expected = line(&row);
            loop {
                if let Some(found) = &held {
                    if found.seq() == Some(row.seq) {
                        self.missing.insert(row.seq);
                        return held.take().map_or(Ok(()), |found| self.judge(found));
                    }
                    self.missing.insert(row.seq);
                    return Ok(());
                }
                let Some(text) = lines.next()? else {
                    self.missing.insert(row.seq);
                    return Ok(());
                };
                if Some(text.as_str()) == expected.strip_suffix('\n') {
                    return Ok(());
                }
                match self.look_up(lines, text)? {
                    Some(found) if found.seq().is_some_and(|seq| seq >= row.seq) => {
                        held = Some(found);
                    }
                    // Another program's line, or one out of its place.
                    Some(found) => self.judge(found)?,
                    None => {}
                }
            }
        })?;
        held.map_or(Ok(()), |found| self.judge(found))
    }

    /// Reads a line and looks its serial up; nothing when it is the cut end of the file.
    fn look_up(&mut self, lines: &mut Lines, text: String) -> Result<Option<Found>, Fault> {
        lines.compared += 1;
        match parse(&text) {
            Ok(row) => {
                let known = self.ledger.index_row(self.id, &row.serial)?;
                Ok(Some(Found { number: lines.number, text, row, known }))
            }
            // The last append was cut: if it was ours, the ledger has the whole line.
            Err(_) if lines.cut => Ok(None),
            Err(why) => Err(lines.damaged(&why)),
        }
    }

    fn judge(&mut self, found: Found) -> Result<(), Fault> {
        let Found { number, text, row, known } = found;
        let Some(known) = known else {
            match self.unknown.get(&row.serial) {
                Some(before) if *before == text => self.behind = true,
                Some(_) => {
                    let why = format!("serial {} stands above it with other words", row.serial);
                    return Err(damaged_line(&self.layout.file("index.txt"), number, &why));
                }
                None => {
                    self.unknown.insert(row.serial.clone(), text);
                    self.foreign.push(with_certificate(self.layout, row)?);
                }
            }
            return Ok(());
        };
        // A second line of the same row.
        self.behind |= !self.missing.remove(&known.seq);
        match (&known.status, &row.status) {
            (ours, theirs) if ours == theirs => {}
            // The ledger knows of a change that the file does not show yet.
            (Status::Revoked { .. }, _) | (Status::Expired, Status::Valid) => self.behind = true,
            _ => self.foreign.push(row),
        }
        Ok(())
    }
}

/// Adds the copy in `newcerts/`, which `openssl ca` names by the serial too.
fn with_certificate(layout: &Layout, row: CertificateRow) -> Result<CertificateRow, Fault> {
    let path = layout.newcert(&row.serial);
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(row),
        Err(error) => return Err(Fault::disk("read", &path)(error)),
    };
    let damaged =
        |why: &str| Fault::Damaged { what: path.display().to_string(), why: why.to_owned() };
    let certificate =
        X509::from_pem(&pem).map_err(|_| damaged("it holds no certificate in PEM"))?;
    let serial = certificate.serial_number().to_bn()?.to_vec();
    if Serial::from_magnitude(&serial).ok().as_ref() != Some(&row.serial) {
        return Err(damaged("it holds a certificate with another serial"));
    }
    Ok(CertificateRow { der: certificate.to_der()?, ..row })
}

/// The lines of an index, with the hash of what was read.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    before: Metadata,
    number: u64,
    length: u64,
    hash: Hash,
    /// Whether the last line has no end.
    cut: bool,
    compared: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Option<Self>, Fault> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Fault::disk("read", path))?,
        };
        Ok(Some(Self {
            path: path.to_owned(),
            before: file.metadata().map_err(Fault::disk("read", path))?,
            reader: BufReader::with_capacity(1 << 16, file),
            number: 0,
            length: 0,
            hash: Hash::EMPTY,
            cut: false,
            compared: 0,
        }))
    }

    /// Passes what we left, if it is all there as we left it; else stands at the first line.
    fn skip_unchanged(&mut self, stamp: &Stamp) -> Result<bool, Fault> {
        let Some(hash) = stamp.hash().filter(|_| self.before.len() >= stamp.length()) else {
            return Ok(false);
        };
        let mut left = stamp.length();
        while left > 0 {
            let bytes = self.reader.fill_buf().map_err(Fault::disk("read", &self.path))?;
            let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                break;
            }
            self.hash = self.hash.then(&bytes[..count]);
            self.number += bytes[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.reader.consume(count);
            left -= count as u64;
        }
        if left == 0 && self.hash == hash {
            self.length = stamp.length();
            return Ok(true);
        }
        self.reader.seek(SeekFrom::Start(0)).map_err(Fault::disk("read", &self.path))?;
        (self.hash, self.number) = (Hash::EMPTY, 0);
        Ok(false)
    }

    fn next(&mut self) -> Result<Option<String>, Fault> {
        let mut text = Vec::new();
        let limited = &mut (&mut self.reader).take(LINE_MAX as u64);
        let count = limited.read_until(b'\n', &mut text);
        if count.map_err(Fault::disk("read", &self.path))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.length += text.len() as u64;
        self.hash = self.hash.then(&text);
        if text.pop_if(|last| *last == b'\n').is_none() {
            if text.len() == LINE_MAX {
                return Err(self.damaged(&format!("it has more than {LINE_MAX} characters")));
            }
            // Nothing may be added behind it before it is written anew.
            self.cut = true;
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) if self.cut => Ok(None),
            Err(_) => Err(self.damaged("it is not UTF-8")),
        }
    }

    fn damaged(&self, why: &str) -> Fault {
        damaged_line(&self.path, self.number, why)
    }

    /// What was read, unless it changed meanwhile.
    fn stamp(&self) -> Result<Stamp, Fault> {
        let now = self.reader.get_ref().metadata().map_err(Fault::disk("read", &self.path))?;
        let stamp = Stamp::of(&now, self.hash);
        let still = stamp.is_of(&self.before) && now.len() == self.length;
        Ok(if still { stamp } else { Stamp::unknown() })
    }
}

fn damaged_line(path: &Path, number: u64, why: &str) -> Fault {
    Fault::Damaged { what: format!("{} line {number}", path.display()), why: why.to_owned() }
}
