//! Looks at one authority of the old tree: every index line, every copy, its serials, its CRLs.
//!
//! It streams; what stays in memory is 40 bytes for each line. It only reads.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use openssl::sha::Sha256;
use protocol::message::{Digest, Serial};

use super::{
    copies::{self, Bench, Job},
    crls::Crl,
    lines::{self, Line, Wrong},
    problems::{Kind, Problems},
    tree::Source,
};
use crate::{calendar::UnixTime, durable, fault::Fault, ledger::Status};

/// What was found at one authority.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// How many lines are V, R and E.
    pub counts: Counts,
    /// The lowest and the highest serial.
    pub serials: Option<(Serial, Serial)>,
    /// The first and the last day on which something expires.
    pub expiries: Option<(UnixTime, UnixTime)>,
    /// How many copies are in `newcerts`.
    pub copies: u64,
    /// The SHA-256 of the index.
    pub index_digest: Option<Digest>,
    /// The SHA-256 of all copies one after another, each after its length.
    pub copies_digest: Option<Digest>,
    /// The next serial by the old `serial` file.
    pub serial_file: Option<Serial>,
    /// The next CRL number by the old `crlnumber` file.
    pub crlnumber_file: Option<u64>,
    /// How many CRLs of this authority there are.
    pub crls: u64,
    /// The newest of them.
    pub newest_crl: Option<NewestCrl>,
    /// The last CRL number that counts as used: the next one is above it.
    pub crl_number: u64,
}

/// How many lines of each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "the words of the index")]
pub struct Counts {
    pub valid: u64,
    pub revoked: u64,
    pub expired: u64,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.valid + self.revoked + self.expired
    }
}

/// The newest CRL of an authority.
#[derive(Clone, Debug)]
pub struct NewestCrl {
    /// Where it lies.
    pub path: PathBuf,
    /// Its number, hexadecimal, where it has one.
    pub number: Option<String>,
    /// When it was signed.
    pub this_update: UnixTime,
    /// When the next one was promised.
    pub next_update: Option<UnixTime>,
    /// How many entries it has.
    pub entries: u64,
}

/// CRL numbers end here: a counter of 2^62 is never used up, and SQLite counts to 2^63.
const CRL_NUMBER_MAX: u64 = 1 << 62;

/// An index line in short, to look serials up by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    /// Right-aligned, so that the order is that of the numbers.
    serial: [u8; 20],
    line: u32,
    /// The revocation's time; `i64::MIN` where there is none.
    revoked_at: i64,
}

const NOT_REVOKED: i64 = i64::MIN;

fn aligned(magnitude: &[u8]) -> Option<[u8; 20]> {
    let mut serial = [0; 20];
    serial.get_mut(20_usize.checked_sub(magnitude.len())?..)?.copy_from_slice(magnitude);
    Some(serial)
}

/// Looks at everything.
pub(crate) fn survey(
    source: &Source,
    now: UnixTime,
    cores: usize,
    problems: &mut Problems,
) -> Result<Survey, Fault> {
    let mut survey = Survey::default();
    let mut known = match &source.certificate {
        Some((_, certificate)) => {
            let bench = Bench {
                index: source.file("index.txt"),
                newcerts: source.file("newcerts"),
                issuer: copy_of(certificate.subject_name())?,
                key: certificate.public_key()?,
                now,
                cores,
            };
            let mut known = Vec::new();
            let found = bench.run(|send| {
                known = read_index(source, &mut survey, problems, send)?;
                Ok(())
            })?;
            problems.merge(found);
            known
        }
        // Without the authority's own certificate no copy can be judged.
        None => read_index(source, &mut survey, problems, &mut |_| Ok(()))?,
    };
    known.sort_unstable();
    find_twins(source, &known, problems);
    find_strays(source, &known, problems)?;
    read_serial(source, &mut survey, problems)?;
    let numbers = read_crls(source, &known, &mut survey, problems)?;
    survey.crlnumber_file = read_crl_number(source, problems)?;
    let highest = numbers.into_iter().chain(survey.crlnumber_file).max();
    survey.crl_number = highest.unwrap_or(0);
    Ok(survey)
}

fn copy_of(name: &openssl::x509::X509NameRef) -> Result<openssl::x509::X509Name, Fault> {
    Ok(openssl::x509::X509Name::from_der(&name.to_der()?)?)
}

/// Reads every line, and hands over each copy to be judged.
// AD-01, AD-02, AW-01, AW-05
fn read_index(
    source: &Source,
    survey: &mut Survey,
    problems: &mut Problems,
    send: &mut dyn FnMut(Job) -> Result<(), Fault>,
) -> Result<Vec<Known>, Fault> {
    let path = source.file("index.txt");
    let newcerts = source.file("newcerts");
    let file = path.display();
    let mut known = Vec::new();
    let mut copies_hash = CopiesHash::default();
    lines::for_each(&path, |number, line| {
        let raw = match line {
            Line::Entry(raw) => raw,
            Line::Comment => {
                problems.at(Kind::Comment, &file, number, "it begins with #");
                return Ok(());
            }
            Line::TooLong => {
                problems.at(Kind::LineUnreadable, &file, number, "it is longer than 64 KiB");
                return Ok(());
            }
            Line::Cut => {
                problems.at(Kind::LineUnreadable, &file, number, "the file ends in mid-line");
                return Ok(());
            }
        };
        let row = match lines::read(raw) {
            Ok(row) => row,
            Err(Wrong::NoRevocationDate(why)) => {
                problems.at(Kind::RevokedWithoutDate, &file, number, why);
                return Ok(());
            }
            Err(Wrong::Unreadable(why)) => {
                problems.at(Kind::LineUnreadable, &file, number, why);
                return Ok(());
            }
        };
        let revoked_at = match &row.status {
            Status::Valid => {
                survey.counts.valid += 1;
                NOT_REVOKED
            }
            Status::Expired => {
                survey.counts.expired += 1;
                NOT_REVOKED
            }
            Status::Revoked { at, .. } => {
                survey.counts.revoked += 1;
                at.0
            }
        };
        let (low, high) = survey.expiries.unwrap_or((row.not_after, row.not_after));
        survey.expiries = Some((low.min(row.not_after), high.max(row.not_after)));
        let octets = row.serial.as_octets();
        let magnitude = octets.strip_prefix(&[0]).unwrap_or(octets);
        known.push(Known {
            serial: aligned(magnitude).unwrap_or_default(), // a serial has at most 20 octets
            line: u32::try_from(number).unwrap_or(u32::MAX),
            revoked_at,
        });
        let copy_path = copies::path_of(&newcerts, &row.serial);
        match copies::read(&copy_path)? {
            None => {
                let text = format!("the copy for {file} line {number} is not there");
                problems.with(Kind::CopyMissing, copy_path.display(), text);
                Ok(())
            }
            Some(copy) => {
                survey.copies += 1;
                copies_hash.add(&copy);
                send(Job { line: number, row, copy })
            }
        }
    })?;
    survey.index_digest = Some(digest_of_file(&path)?);
    survey.copies_digest = Some(copies_hash.finish());
    let serial = |known: &Known| Serial::from_magnitude(&known.serial).ok();
    let (low, high) = (known.iter().min().and_then(serial), known.iter().max().and_then(serial));
    survey.serials = low.zip(high);
    Ok(known)
}

/// The SHA-256 of all copies, each after its length.
#[derive(Default)]
pub(crate) struct CopiesHash(Sha256);

impl CopiesHash {
    pub(crate) fn add(&mut self, copy: &[u8]) {
        self.0.update(&(copy.len() as u64).to_be_bytes());
        self.0.update(copy);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finish())
    }
}

/// The SHA-256 of a file, streamed.
pub(crate) fn digest_of_file(path: &Path) -> Result<Digest, Fault> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(Fault::disk("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Fault::disk("read", path))? {
            0 => return Ok(Digest::from_bytes(hash.finish())),
            length => hash.update(&buffer[..length]),
        }
    }
}

// AD-03
fn find_twins(source: &Source, known: &[Known], problems: &mut Problems) {
    let path = source.file("index.txt");
    for pair in known.windows(2).filter(|pair| pair[0].serial == pair[1].serial) {
        let text = format!("serial {} is in line {} too", hex(&pair[0].serial), pair[0].line);
        problems.at(Kind::SerialTwice, path.display(), pair[1].line.into(), text);
    }
}

fn hex(serial: &[u8; 20]) -> String {
    Serial::from_magnitude(serial).map_or_else(|_| "0".into(), |serial| serial.to_string())
}

fn lookup(known: &[Known], magnitude: &[u8]) -> Option<usize> {
    let serial = aligned(magnitude)?;
    known.binary_search_by(|entry| entry.serial.cmp(&serial)).ok()
}

// AW-02
fn find_strays(source: &Source, known: &[Known], problems: &mut Problems) -> Result<(), Fault> {
    let newcerts = source.file("newcerts");
    if !newcerts.is_dir() {
        return Ok(()); // told line by line
    }
    let mut strays = BTreeSet::new();
    let mut more = 0;
    for entry in std::fs::read_dir(&newcerts).map_err(Fault::disk("read", &newcerts))? {
        let path = entry.map_err(Fault::disk("read", &newcerts))?.path();
        let serial = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
            let serial: Serial = name.strip_suffix(".pem")?.parse().ok()?;
            (format!("{serial}.pem") == name).then_some(serial)
        });
        let found = serial.and_then(|serial| {
            let octets = serial.as_octets();
            lookup(known, octets.strip_prefix(&[0]).unwrap_or(octets))
        });
        if found.is_none() {
            // The first by name are told, in whatever order the directory has them.
            strays.insert(path);
            if strays.len() > super::problems::TOLD_MAX {
                strays.pop_last();
                more += 1;
            }
        }
    }
    for path in strays {
        problems.with(Kind::CopyStray, path.display(), "no index line has its serial");
    }
    for _ in 0..more {
        problems.with(Kind::CopyStray, newcerts.display(), "one more");
    }
    Ok(())
}

//------------ serial and crlnumber ------------------------------------------

/// The number in a file such as `serial`, if the file is there.
fn read_number(path: &Path) -> Result<Option<String>, Fault> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::disk("read", path)(error)),
        // No number has a kilobyte.
        Ok(data) if data.len() > 1_024 => Ok(Some(String::new())),
        Ok(_) => {
            let bytes = durable::read(path)?;
            Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
        }
    }
}

// AD-13, AW-12
fn read_serial(source: &Source, survey: &mut Survey, problems: &mut Problems) -> Result<(), Fault> {
    let path = source.file("serial");
    let file = path.display();
    let Some(text) = read_number(&path)? else {
        // `openssl ca` with rand_serial keeps none.
        return Ok(());
    };
    let Ok(serial) = text.parse::<Serial>() else {
        let text = match text.is_empty() {
            true => "it is empty".to_owned(),
            false => format!("`{}` is no serial number", text.escape_debug()),
        };
        // A tree that never issued anything may well begin at 0.
        if survey.serials.is_some() || text == "it is empty" {
            problems.with(Kind::SerialFile, file, text);
        }
        return Ok(());
    };
    let number = |serial: &Serial| {
        let octets = serial.as_octets();
        aligned(octets.strip_prefix(&[0]).unwrap_or(octets)).unwrap_or_default()
    };
    if let Some((lowest, highest)) = &survey.serials {
        if number(&serial) <= number(highest) {
            let text = format!("it says {serial}, the index goes up to {highest}");
            problems.with(Kind::SerialFile, &file, text);
        } else if let (Some(next), Some(first)) = (small(&serial), small(lowest)) {
            // Only where serials were counted: random ones leave gaps everywhere.
            let missing = (next - first).saturating_sub(survey.counts.all());
            if missing > 0 && missing <= next {
                let text = format!("{missing} serials from {lowest} to {serial} have no line");
                problems.with(Kind::SerialGap, &file, text);
            }
        }
    }
    survey.serial_file = Some(serial);
    Ok(())
}

/// The value of a serial that can have been counted up to.
fn small(serial: &Serial) -> Option<u64> {
    let octets = serial.as_octets();
    let short = octets.len() <= 5;
    short.then(|| octets.iter().fold(0, |sum, octet| (sum << 8) | u64::from(*octet)))
}

fn read_crl_number(source: &Source, problems: &mut Problems) -> Result<Option<u64>, Fault> {
    let path = source.file("crlnumber");
    let Some(text) = read_number(&path)? else { return Ok(None) };
    match u64::from_str_radix(&text, 16) {
        Ok(number) if number < CRL_NUMBER_MAX => Ok(Some(number)),
        _ => {
            let text = format!("it says `{}`", text.escape_debug());
            problems.with(Kind::CrlNumberTooLarge, path.display(), text);
            Ok(None)
        }
    }
}

//------------ CRLs ----------------------------------------------------------

/// Holds every CRL against the index; answers the numbers that were used.
// AD-14 to AD-18, AW-06 to AW-08
fn read_crls(
    source: &Source,
    known: &[Known],
    survey: &mut Survey,
    problems: &mut Problems,
) -> Result<Vec<u64>, Fault> {
    let Some((_, certificate)) = &source.certificate else { return Ok(Vec::new()) };
    let key = certificate.public_key()?;
    let mut numbers = Vec::new();
    // Marks of the newest CRL so far: which lines it lists.
    let mut listed: Vec<bool> = Vec::new();
    let mut dates: Vec<(usize, i64)> = Vec::new();
    for path in &source.crls {
        let file = path.display();
        // What cannot be read was told when the CRLs were given out.
        let Ok(crl) = Crl::load(path)? else { continue };
        let head = crl.head();
        if !crl.is_signed_by(&key) {
            problems.with(Kind::CrlNotOurs, file, "its signature is not by this authority's key");
            continue;
        }
        survey.crls += 1;
        match head.number.as_deref().map(number_of) {
            Some(Some(number)) => numbers.push(number),
            Some(None) => problems.with(Kind::CrlNumberTooLarge, &file, "its number is"),
            None => {}
        }
        let newest = survey.newest_crl.as_ref().map(|newest| newest.this_update);
        let is_newest = newest.is_none_or(|newest| head.this_update > newest);
        if is_newest {
            listed = vec![false; known.len()];
            dates.clear();
        }
        let mut entries = 0;
        let readable = crl.for_each(|entry| {
            entries += 1;
            let serial = aligned(entry.serial).map_or_else(|| "?".into(), |serial| hex(&serial));
            match lookup(known, entry.serial) {
                None => problems.with(Kind::CrlUnknownSerial, &file, format!("serial {serial}")),
                Some(at) if known[at].revoked_at == NOT_REVOKED => {
                    let text = format!("serial {serial}, index line {}", known[at].line);
                    problems.with(Kind::CrlNotRevoked, &file, text);
                }
                Some(at) if is_newest => {
                    listed[at] = true;
                    dates.push((at, entry.at.0));
                }
                Some(_) => {}
            }
        });
        if !readable {
            problems.with(Kind::CrlUnreadable, &file, "one of its entries cannot be read");
        }
        if is_newest {
            survey.newest_crl = Some(NewestCrl {
                path: path.clone(),
                number: head.number.as_deref().map(hexadecimal),
                this_update: head.this_update,
                next_update: head.next_update,
                entries,
            });
        }
    }
    if let Some(newest) = &survey.newest_crl {
        compare_newest(newest, known, &listed, &dates, problems);
    }
    Ok(numbers)
}

fn compare_newest(
    newest: &NewestCrl,
    known: &[Known],
    listed: &[bool],
    dates: &[(usize, i64)],
    problems: &mut Problems,
) {
    let file = newest.path.display();
    for (entry, listed) in known.iter().zip(listed) {
        let before = entry.revoked_at != NOT_REVOKED && entry.revoked_at <= newest.this_update.0;
        if before && !listed {
            let text = format!("serial {}, index line {}", hex(&entry.serial), entry.line);
            problems.with(Kind::CrlIncomplete, &file, text);
        }
    }
    for (at, date) in dates.iter().filter(|(at, date)| known[*at].revoked_at != *date) {
        let (there, here) = (UnixTime(*date), UnixTime(known[*at].revoked_at));
        let serial = hex(&known[*at].serial);
        let text = format!("serial {serial} on {there}, by the index on {here}");
        problems.with(Kind::CrlDateDiffers, &file, text);
    }
}

/// A CRL number that can be counted up from.
fn number_of(magnitude: &[u8]) -> Option<u64> {
    let short = magnitude.len() <= 8;
    let value = magnitude.iter().fold(0_u64, |sum, octet| (sum << 8) | u64::from(*octet));
    (short && value < CRL_NUMBER_MAX).then_some(value)
}

fn hexadecimal(magnitude: &[u8]) -> String {
    match magnitude.is_empty() {
        true => "00".to_owned(),
        false => magnitude.iter().map(|octet| format!("{octet:02X}")).collect(),
    }
}
