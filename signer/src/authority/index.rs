//! `index.txt` and `serial` as `openssl ca` reads and writes them.
//!
//! Lines are made from ledger rows; lines that a person added are read back and adopted. A line
//! that cannot be read stops the work with its number: nothing is guessed, nothing is dropped.
//! Where another program spelled a line as we would not, its words are kept.

use std::{fs::Metadata, io::Write, os::unix::fs::MetadataExt, path::Path};

use protocol::message::Serial;

use super::{
    Layout,
    serial::{serial, serial_counter},
};
use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    ledger::{AuthorityId, CertificateRow, FilesAt, Ledger, Status},
};

mod compare;
mod stamp;

pub use compare::{Differences, compare};
pub use stamp::{Hash, Stamp};

/// How we left an index: what it was, and which rows it shows.
#[derive(Clone, Debug)]
pub struct Left {
    /// The file.
    pub stamp: Stamp,
    /// The number of the newest certificate that has its line.
    pub certificate: i64,
    /// The number of the newest revocation that it shows.
    pub revocation: i64,
}

impl Left {
    /// As the ledger notes it.
    pub fn noted(at: &FilesAt) -> Self {
        Self {
            stamp: Stamp::read(&at.index_stamp),
            certificate: at.certificate,
            revocation: at.revocation,
        }
    }

    /// For the ledger to note.
    pub fn to_note(&self) -> FilesAt {
        FilesAt {
            certificate: self.certificate,
            revocation: self.revocation,
            index_stamp: self.stamp.to_string(),
        }
    }
}

/// One line of the index, with its line end. Of a line that another program wrote, only status
/// and revocation are ours to change; the rest stays as it is spelled.
pub fn line(row: &CertificateRow) -> String {
    match &row.line {
        None => rendered(row),
        Some(verbatim) => with_status(verbatim, row),
    }
}

fn rendered(row: &CertificateRow) -> String {
    let (letter, end) = (row.status.letter(), row.not_after.index_form());
    let revoked = revocation_field(&row.status);
    // openssl's TXT_DB escapes a tab, and nothing else.
    let subject = row.subject.replace('\t', "\\\t");
    format!("{letter}\t{end}\t{revoked}\t{}\t{}\t{subject}\n", row.serial, row.file)
}

fn revocation_field(status: &Status) -> String {
    match status {
        Status::Revoked { at, reason: Some(reason) } => format!("{},{reason}", at.index_form()),
        Status::Revoked { at, reason: None } => at.index_form(),
        Status::Valid | Status::Expired => String::new(),
    }
}

fn with_status(verbatim: &str, row: &CertificateRow) -> String {
    let fields: Vec<&str> = verbatim.splitn(4, '\t').collect();
    let [letter, end, revoked, rest] = fields.as_slice() else {
        return rendered(row); // never stored so: a line is kept only after it was parsed
    };
    if status_of(letter, revoked).as_ref() == Ok(&row.status) {
        return format!("{verbatim}\n");
    }
    format!("{}\t{end}\t{}\t{rest}\n", row.status.letter(), revocation_field(&row.status))
}

/// The row that a line stands for; the text says what is wrong with it.
pub fn parse(line: &str) -> Result<CertificateRow, String> {
    if line.ends_with('\r') {
        return Err("it ends with CR LF as a text of another system does; \
                    `sed -i 's/\\r$//' index.txt` takes that away"
            .into());
    }
    let fields = split_fields(line);
    let [letter, end, revoked, serial, file, subject] = fields.as_slice() else {
        return Err(format!("it has {} fields where 6 belong", fields.len()));
    };
    let not_after =
        UnixTime::from_index(end).ok_or_else(|| format!("`{end}` is no expiry date"))?;
    let status = status_of(letter, revoked)?;
    let serial: Serial = serial.parse().map_err(|_| format!("`{serial}` is no serial number"))?;
    let mut row = CertificateRow {
        seq: 0,
        serial,
        not_after,
        subject: subject.clone(),
        der: Vec::new(),
        status,
        file: file.clone(),
        profile: String::new(),
        line: None,
    };
    if rendered(&row).strip_suffix('\n') != Some(line) {
        row.line = Some(line.to_owned());
    }
    Ok(row)
}

fn status_of(letter: &str, revoked: &str) -> Result<Status, String> {
    match letter {
        "V" => Ok(Status::Valid),
        "E" => Ok(Status::Expired),
        "R" => {
            let (at, reason) = match revoked.split_once(',') {
                // TXT_DB could escape one; no reason of openssl's has any.
                Some((_, reason)) if reason.contains('\t') => {
                    return Err(format!("`{reason}` is no reason: it has a tab"));
                }
                Some((at, reason)) => (at, Some(reason.to_owned())),
                None => (revoked, None),
            };
            let at =
                UnixTime::from_index(at).ok_or_else(|| format!("`{at}` is no revocation date"))?;
            Ok(Status::Revoked { at, reason })
        }
        other => Err(format!("`{other}` is no status V, R or E")),
    }
}

/// Tab-separated fields, where a backslash takes a following tab into the field.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("the list starts with one field");
        match character {
            '\\' if characters.peek() == Some(&'\t') => field.extend(characters.next()),
            '\t' => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

/// What the system says of `index.txt`; nothing where there is none.
pub fn metadata(layout: &Layout) -> Result<Option<Metadata>, Fault> {
    let path = layout.file("index.txt");
    match std::fs::metadata(&path) {
        Ok(data) => Ok(Some(data)),
        // It is written anew from the ledger.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::disk("read", &path)(error)),
    }
}

/// Adds lines for new rows behind what we left. Not synced: the ledger holds it all, and the next
/// start makes good what a pulled plug took.
pub fn append(layout: &Layout, rows: &[CertificateRow], left: &Stamp) -> Result<Stamp, Fault> {
    let lines: String = rows.iter().map(line).collect();
    durable::append(&layout.file("index.txt"), lines.as_bytes(), 0o644)?;
    let as_meant = metadata(layout)?
        .filter(|now| now.len() == left.length() + lines.len() as u64 && left.inode() == now.ino());
    // If another program wrote at the same moment, the next look compares every line.
    Ok(match (as_meant, left.hash()) {
        (Some(now), Some(hash)) => Stamp::of(&now, hash.then(lines.as_bytes())),
        _ => Stamp::unknown(),
    })
}

/// Writes the whole index from the ledger; answers how it was left.
pub fn rewrite(layout: &Layout, id: AuthorityId, ledger: &Ledger) -> Result<Left, Fault> {
    // Taken first: what is recorded meanwhile is for the next look.
    let (certificate, revocation) = (ledger.last_certificate(id)?, ledger.last_revocation(id)?);
    let path = layout.file("index.txt");
    let hash = write_to(&path, id, ledger)?;
    let stamp = metadata(layout)?.map_or_else(Stamp::unknown, |now| Stamp::of(&now, hash));
    Ok(Left { stamp, certificate, revocation })
}

/// Writes an index from the ledger to `path`; answers the hash of its bytes.
pub fn write_to(path: &Path, id: AuthorityId, ledger: &Ledger) -> Result<Hash, Fault> {
    let mut fault = None;
    let mut hash = Hash::EMPTY;
    let written = durable::replace_with(path, 0o644, |out| {
        let visited = ledger.for_each_index_row(id, 0, |row| {
            let line = line(&row);
            hash = hash.then(line.as_bytes());
            out.write_all(line.as_bytes()).map_err(Fault::disk("write", path))
        });
        visited.map_err(|error| {
            fault = Some(error);
            std::io::Error::other("the ledger could not be read")
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => written.map(|()| hash),
    }
}

/// Writes the file with the next serial that `openssl ca` would use: the next counter, and random
/// octets below it.
pub fn write_serial(layout: &Layout, counter: u64, random: [u8; 8]) -> Result<(), Fault> {
    let next = serial(counter + 1, random)?;
    durable::replace_lazily(&layout.file("serial"), format!("{next}\n").as_bytes(), 0o644)
}

/// What is wrong with the `serial` file, of which `openssl ca` takes its next serial: it is
/// missing or damaged, or names a counter that is used already.
pub fn serial_fault(layout: &Layout, counter: u64) -> Option<String> {
    let text = match std::fs::read_to_string(layout.file("serial")) {
        Ok(text) => text,
        Err(_) => return Some("it is missing or unreadable".into()),
    };
    let text = text.trim_end();
    if text.is_empty() {
        return Some("it is empty".into());
    }
    let next = text.parse().ok().and_then(|next: Serial| serial_counter(&next));
    match next {
        None => Some(format!("`{text}` is no serial of this authority")),
        Some(next) if next <= counter => Some(format!("{text} is behind the serials in use")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
