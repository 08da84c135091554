//! `index.txt`, `newcerts/` and `serial` as `openssl ca` reads and writes them.
//!
//! Lines are made from ledger rows; lines that a person added are read back and adopted. A line
//! that cannot be read stops the work with its number: nothing is guessed, nothing is dropped.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use openssl::x509::X509;
use protocol::message::Serial;

use super::{Authority, Layout};
use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    ledger::{CertificateRow, Ledger, Status},
    vault::serial_counter,
};

/// One line of the index, with its line end.
pub fn line(row: &CertificateRow) -> String {
    let revoked = match &row.status {
        Status::Revoked { at, reason: Some(reason) } => format!("{},{reason}", at.index_form()),
        Status::Revoked { at, reason: None } => at.index_form(),
        Status::Valid | Status::Expired => String::new(),
    };
    let (letter, end) = (row.status.letter(), row.not_after.index_form());
    // openssl's TXT_DB escapes a tab, and nothing else.
    let subject = row.subject.replace('\t', "\\\t");
    format!("{letter}\t{end}\t{revoked}\t{}\t{}\t{subject}\n", row.serial, row.file)
}

/// The row that a line stands for; the text says what is wrong with it.
pub fn parse(line: &str) -> Result<CertificateRow, String> {
    let fields = split_fields(line);
    let [letter, end, revoked, serial, file, subject] = fields.as_slice() else {
        return Err(format!("it has {} fields where 6 belong", fields.len()));
    };
    let not_after =
        UnixTime::from_index(end).ok_or_else(|| format!("`{end}` is no expiry date"))?;
    let status = match letter.as_str() {
        "V" => Status::Valid,
        "E" => Status::Expired,
        "R" => {
            let (at, reason) = match revoked.split_once(',') {
                Some((at, reason)) => (at, Some(reason.to_owned())),
                None => (revoked.as_str(), None),
            };
            let at =
                UnixTime::from_index(at).ok_or_else(|| format!("`{at}` is no revocation date"))?;
            Status::Revoked { at, reason }
        }
        other => return Err(format!("`{other}` is no status V, R or E")),
    };
    let serial: Serial = serial.parse().map_err(|_| format!("`{serial}` is no serial number"))?;
    Ok(CertificateRow {
        seq: 0,
        serial,
        not_after,
        subject: subject.clone(),
        der: Vec::new(),
        status,
        file: file.clone(),
        profile: String::new(),
        line: None,
    })
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

/// What `index.txt` looked like when we left it: a change by somebody else shows.
pub fn stamp(layout: &Layout) -> Result<String, Fault> {
    let path = layout.file("index.txt");
    match std::fs::metadata(&path) {
        Ok(data) => Ok(format!("{}:{}.{:09}", data.len(), data.mtime(), data.mtime_nsec())),
        // It is written anew from the ledger.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok("absent".into()),
        Err(error) => Err(Fault::disk("read", &path)(error)),
    }
}

/// Adds lines for new rows. Not synced: the ledger holds it all, and the next start makes good
/// what a pulled plug took.
pub fn append(layout: &Layout, rows: &[CertificateRow]) -> Result<(), Fault> {
    let lines: String = rows.iter().map(line).collect();
    durable::append(&layout.file("index.txt"), lines.as_bytes(), 0o644)
}

/// Writes the copy in `newcerts/`. Not synced, for the same reason.
pub fn write_certificate(layout: &Layout, row: &CertificateRow) -> Result<(), Fault> {
    if row.der.is_empty() {
        return Ok(()); // adopted from an index line alone: there is no copy to write
    }
    let path = layout.newcert(&row.serial);
    durable::replace_lazily(&path, &X509::from_der(&row.der)?.to_pem()?, 0o644)
}

/// Writes the whole index from the ledger.
pub fn rewrite(authority: &Authority, ledger: &Ledger) -> Result<(), Fault> {
    let path = authority.layout().file("index.txt");
    let mut fault = None;
    let written = durable::replace_with(&path, 0o644, |out| {
        let visited = ledger.for_each_certificate(authority.id(), 0, |row| {
            out.write_all(line(&row).as_bytes()).map_err(Fault::disk("write", &path))
        });
        visited.map_err(|error| {
            fault = Some(error);
            std::io::Error::other("the ledger could not be read")
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => written,
    }
}

/// Writes the file with the next serial that `openssl ca` would use: the next counter, and random
/// octets below it.
pub fn write_serial(layout: &Layout, counter: u64, random: [u8; 8]) -> Result<(), Fault> {
    let next = crate::vault::serial(counter + 1, random)?;
    durable::replace_lazily(&layout.file("serial"), format!("{next}\n").as_bytes(), 0o644)
}

/// Whether the `serial` file is missing, damaged, or names a counter that is used already.
pub fn serial_is_behind(layout: &Layout, counter: u64) -> bool {
    let text = std::fs::read_to_string(layout.file("serial")).unwrap_or_default();
    let next = text.trim_end().parse().ok().and_then(|next: Serial| serial_counter(&next));
    next.is_none_or(|next| next <= counter)
}

/// How an index differs from the ledger.
#[derive(Debug, Default)]
pub struct Differences {
    /// Lines that a person or `openssl ca` added or changed.
    pub foreign: Vec<CertificateRow>,
    /// Whether lines are missing, behind, cut or there twice.
    pub behind: bool,
}

/// Compares `index.txt` with the ledger, line by line.
pub fn compare(authority: &Authority, ledger: &Ledger) -> Result<Differences, Fault> {
    let path = authority.layout().file("index.txt");
    let mut differences = Differences::default();
    let file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            differences.behind = true;
            return Ok(differences);
        }
        other => other.map_err(Fault::disk("read", &path))?,
    };
    let mut known_lines = 0;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(Fault::disk("read", &path))? == 0 {
            break;
        }
        let whole = text.pop_if(|last| *last == b'\n').is_some();
        // Without a line end nothing may be added behind it before it is written anew.
        differences.behind |= !whole;
        let row =
            std::str::from_utf8(&text).map_err(|_| "it is not UTF-8".to_owned()).and_then(parse);
        let row = match row {
            Ok(row) => row,
            // The last append was cut: if it was ours, the ledger has the whole line.
            Err(_) if !whole => break,
            Err(why) => return Err(damaged_line(&path, number, &why)),
        };
        let known = ledger.certificate(authority.id(), &row.serial)?;
        known_lines += u64::from(known.is_some());
        match known {
            None => differences.foreign.push(with_certificate(authority.layout(), row)?),
            Some(known) if known.status == row.status => {}
            // The ledger knows of a revocation that the file does not show yet.
            Some(known) if matches!(known.status, Status::Revoked { .. }) => {
                differences.behind = true;
            }
            Some(known) => differences.foreign.push(CertificateRow { der: known.der, ..row }),
        }
    }
    differences.behind |= known_lines != ledger.certificates(authority.id())?;
    Ok(differences)
}

fn damaged_line(path: &Path, number: usize, why: &str) -> Fault {
    Fault::Damaged { what: format!("{} line {number}", path.display()), why: why.to_owned() }
}

/// Adds the copy in `newcerts/`, which `openssl ca` names by the serial too.
fn with_certificate(layout: &Layout, row: CertificateRow) -> Result<CertificateRow, Fault> {
    let path = layout.newcert(&row.serial);
    let der = match std::fs::read(&path) {
        Ok(pem) => X509::from_pem(&pem).and_then(|certificate| certificate.to_der())?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Fault::disk("read", &path)(error)),
    };
    Ok(CertificateRow { der, ..row })
}

/// Writes every certificate copy above row `after` that is missing or differs; answers how many.
pub fn restore_certificates(
    authority: &Authority,
    ledger: &Ledger,
    after: i64,
) -> Result<u64, Fault> {
    durable::directory(&authority.layout().file("newcerts"), 0o755)?;
    let mut restored = 0;
    ledger.for_each_certificate(authority.id(), after, |row| {
        if !copy_is_right(authority.layout(), &row)? {
            write_certificate(authority.layout(), &row)?;
            restored += 1;
        }
        Ok(())
    })?;
    Ok(restored)
}

/// Whether `newcerts/` holds the certificate of this row.
pub fn copy_is_right(layout: &Layout, row: &CertificateRow) -> Result<bool, Fault> {
    if row.der.is_empty() {
        return Ok(true);
    }
    let Ok(pem) = std::fs::read(layout.newcert(&row.serial)) else { return Ok(false) };
    let stored = X509::from_pem(&pem).and_then(|certificate| certificate.to_der());
    Ok(stored.is_ok_and(|der| der == row.der))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Status) -> CertificateRow {
        CertificateRow {
            seq: 0,
            serial: "0A1B".parse().unwrap(),
            not_after: UnixTime::from_civil(2051, 1, 2, 3, 4, 5),
            subject: "/CN=tab\there/O=Gr\\xC3\\xB6\\xC3\\x9Fe".into(),
            der: Vec::new(),
            status,
            file: "unknown".into(),
            profile: String::new(),
            line: None,
        }
    }

    #[test]
    fn line_comes_back_as_the_same_row() {
        let at = UnixTime::from_civil(2026, 11, 22, 0, 0, 0);
        let reason = Some("keyCompromise".into());
        for status in [
            Status::Valid,
            Status::Expired,
            Status::Revoked { at, reason },
            Status::Revoked { at, reason: None },
        ] {
            let row = row(status);
            let text = line(&row);
            assert_eq!(parse(text.strip_suffix('\n').unwrap()), Ok(row), "{text}");
        }
    }

    #[test]
    fn line_cut_anywhere_is_never_read_as_another_row() {
        let row = row(Status::Valid);
        let text = line(&row);
        let whole = text.trim_end_matches('\n');
        for cut in 0..whole.len() {
            let read = parse(&whole[..cut]);
            // A cut inside the last field leaves a shorter subject: the missing line end tells.
            let in_subject = whole[..cut].matches('\t').count() >= 5;
            assert!(read.is_err() || in_subject, "cut at {cut}: {read:?}");
        }
    }

    #[test]
    fn damaged_lines_say_what_is_wrong() {
        for (text, why) in [
            ("V\t", "fields"),
            ("X\t510102030405Z\t\t01\tunknown\t/CN=a", "status"),
            ("V\tsoon\t\t01\tunknown\t/CN=a", "expiry"),
            ("R\t510102030405Z\tthen\t01\tunknown\t/CN=a", "revocation date"),
            ("V\t510102030405Z\t\tzz\tunknown\t/CN=a", "serial"),
        ] {
            assert!(parse(text).unwrap_err().contains(why), "{text}");
        }
    }
}
