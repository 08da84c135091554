//! Reads an old index line by line, as strictly as `openssl ca` does before it works on one.
//!
//! It streams: one line in memory at a time. It never repairs a line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use crate::{
    authority::index,
    fault::Fault,
    ledger::{CertificateRow, Status},
};

/// The longest line that is read. openssl's own bound on a one-line name is a megabyte; a
/// certificate's subject of that size is refused by everything that would read it.
const LINE_MAX: usize = 64 * 1024;

/// A line as it stands in the file.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// An entry, without its line end.
    Entry(&'a [u8]),
    /// What openssl skips: a line that begins with `#`.
    Comment,
    /// More than [`LINE_MAX`] bytes.
    TooLong,
    /// The last line has no line end: its end may be missing too.
    Cut,
}

/// Visits every line of a file with its number, from 1.
pub(crate) fn for_each(
    path: &Path,
    mut visit: impl FnMut(u64, Line<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let file = File::open(path).map_err(Fault::disk("read", path))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let read = reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut text);
        if read.map_err(Fault::disk("read", path))? == 0 {
            break;
        }
        if text.last() == Some(&b'\n') {
            text.pop();
            match text.first() {
                Some(b'#') => visit(number, Line::Comment)?,
                _ => visit(number, Line::Entry(&text))?,
            }
        } else if text.len() == LINE_MAX {
            skip_line(&mut reader).map_err(Fault::disk("read", path))?;
            visit(number, Line::TooLong)?;
        } else {
            visit(number, Line::Cut)?;
        }
    }
    Ok(())
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Why a line is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// An R line without a date.
    NoRevocationDate(String),
    /// Anything else.
    Unreadable(String),
}

/// The row that a line stands for, with the line itself where ours would look different.
pub(crate) fn read(raw: &[u8]) -> Result<CertificateRow, Wrong> {
    let unreadable = |why: &str| Wrong::Unreadable(why.to_owned());
    let text = std::str::from_utf8(raw).map_err(|_| unreadable("it is not UTF-8"))?;
    if text.contains('\0') || text.contains('\r') {
        return Err(unreadable("it has a NUL or a carriage return"));
    }
    let mut columns = text.split('\t');
    let (letter, revoked) =
        (columns.next().unwrap_or_default(), columns.nth(1).unwrap_or_default());
    // openssl takes neither: "not revoked yet, but has a revocation date", and no R without one.
    if letter != "R" && !revoked.is_empty() {
        return Err(unreadable("it has a revocation date, but its status is not R"));
    }
    let row = index::parse(text).map_err(|why| match why.contains("revocation date") {
        true => Wrong::NoRevocationDate(why),
        false => Wrong::Unreadable(why),
    })?;
    let digits = columns.next().unwrap_or_default();
    if digits.len() % 2 == 1 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unreadable("its serial is not written in pairs of hexadecimal digits"));
    }
    if let Status::Revoked { reason: Some(reason), .. } = &row.status {
        check_reason(reason).map_err(Wrong::Unreadable)?;
    }
    let ours = index::line(&CertificateRow { line: None, ..row.clone() });
    let differs = ours.strip_suffix('\n') != Some(text);
    Ok(CertificateRow { line: differs.then(|| text.to_owned()), ..row })
}

/// The reasons that `openssl ca` writes, with what it adds to three of them after a comma.
fn check_reason(reason: &str) -> Result<(), String> {
    const PLAIN: [&str; 10] = [
        "unspecified",
        "keyCompromise",
        "CACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "certificateHold",
        "removeFromCRL",
        "privilegeWithdrawn",
        "AACompromise",
    ];
    let (word, addition) = match reason.split_once(',') {
        Some((word, addition)) => (word, Some(addition)),
        None => (reason, None),
    };
    let known = match (word, addition) {
        ("holdInstruction", Some(object)) => !object.is_empty(),
        ("keyTime" | "CAkeyTime", Some(time)) => {
            time.len() == 15 && crate::calendar::UnixTime::from_index(time).is_some()
        }
        (word, None) => PLAIN.iter().any(|plain| plain.eq_ignore_ascii_case(word)),
        _ => false,
    };
    if known { Ok(()) } else { Err(format!("`{reason}` is no revocation reason of openssl's")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: [&str; 9] = [
        "V\t270102030405Z\t\t01\tunknown\t/CN=a.example",
        "V\t20510102030405Z\t\t0A1B\tunknown\t/CN=far",
        "E\t100102030405Z\t\tFF\tunknown\t/C=DE/O=Gr\\xC3\\xB6\\xC3\\x9Fe/CN=x",
        "R\t270102030405Z\t080102030405Z\t02\tunknown\t/CN=no reason",
        "R\t270102030405Z\t080102030405Z,keyCompromise\t03\tunknown\t/CN=b",
        "R\t270102030405Z\t20080102030405Z,superseded\t04\tunknown\t/CN=15 digits",
        "R\t270102030405Z\t080102030405Z,keyTime,20080101000000Z\t05\tunknown\t/CN=c",
        "R\t270102030405Z\t080102030405Z,holdInstruction,holdInstructionReject\t06\tunknown\t/CN=d",
        "V\t270102030405Z\t\t07\tunknown\t/CN=tab\\\there",
    ];

    #[test]
    fn every_form_that_openssl_writes_is_read_and_written_back_as_it_stands() {
        for text in GOOD {
            let row = read(text.as_bytes()).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            let ours = index::line(&CertificateRow { line: None, ..row.clone() });
            let kept = row.line.unwrap_or_else(|| ours.trim_end_matches('\n').to_owned());
            assert_eq!(kept, text);
        }
    }

    #[test]
    fn form_that_we_would_write_otherwise_is_kept_verbatim() {
        assert_eq!(read(GOOD[0].as_bytes()).unwrap().line, None);
        // 15 digits where RFC 5280 has 13: the same moment in another form.
        assert_eq!(read(GOOD[5].as_bytes()).unwrap().line.as_deref(), Some(GOOD[5]));
    }

    // AD-01
    #[test]
    fn what_openssl_would_refuse_is_unreadable() {
        for (text, why) in [
            ("", "fields"),
            ("V\t270102030405Z\t\t01\tunknown", "fields"),
            ("V\t270102030405Z\t\t01\tunknown\t/CN=a\t", "fields"),
            ("X\t270102030405Z\t\t01\tunknown\t/CN=a", "status"),
            ("V\t270102030405\t\t01\tunknown\t/CN=a", "expiry"),
            ("V\t270132030405Z\t\t01\tunknown\t/CN=a", "expiry"),
            ("V\t270102030405Z\t080102030405Z\t01\tunknown\t/CN=a", "not R"),
            ("E\t270102030405Z\t080102030405Z\t01\tunknown\t/CN=a", "not R"),
            ("V\t270102030405Z\t\t1\tunknown\t/CN=a", "pairs"),
            ("V\t270102030405Z\t\t0x01\tunknown\t/CN=a", "pairs"),
            ("V\t270102030405Z\t\t00\tunknown\t/CN=a", "serial"),
            ("V\t270102030405Z\t\t-01\tunknown\t/CN=a", "serial"),
            ("R\t270102030405Z\t080102030405Z,boredom\t01\tunknown\t/CN=a", "reason"),
            ("R\t270102030405Z\t080102030405Z,keyTime,soon\t01\tunknown\t/CN=a", "reason"),
            ("V\t270102030405Z\t\t01\tunknown\t/CN=a\r", "carriage"),
        ] {
            match read(text.as_bytes()) {
                Err(Wrong::Unreadable(said)) => assert!(said.contains(why), "{text}: {said}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(read(b"V\t270102030405Z\t\t01\tunknown\t/CN=\xff").is_err());
    }

    // AD-02
    #[test]
    fn revoked_line_needs_its_date() {
        for text in [
            "R\t270102030405Z\t\t01\tunknown\t/CN=a",
            "R\t270102030405Z\tkeyCompromise\t01\tunknown\t/CN=a",
            "R\t270102030405Z\t,keyCompromise\t01\tunknown\t/CN=a",
        ] {
            assert!(matches!(read(text.as_bytes()), Err(Wrong::NoRevocationDate(_))), "{text}");
        }
    }

    #[test]
    fn lines_are_told_apart_whatever_their_length() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index.txt");
        let long = "x".repeat(3 * LINE_MAX);
        std::fs::write(&path, format!("first\n# remark\n{long}\nfourth\nlast")).unwrap();
        let mut seen = Vec::new();
        for_each(&path, |number, line| {
            seen.push(match line {
                Line::Entry(raw) => format!("{number} {}", String::from_utf8_lossy(raw)),
                Line::Comment => format!("{number} comment"),
                Line::TooLong => format!("{number} long"),
                Line::Cut => format!("{number} cut"),
            });
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["1 first", "2 comment", "3 long", "4 fourth", "5 cut"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_back(
            raw in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = read(&raw);
        }

        #[test]
        fn bent_line_never_panics_and_what_is_read_is_written_back(
            which in 0..GOOD.len(),
            at in 0..60usize,
            byte in any::<u8>(),
        ) {
            let mut raw = GOOD[which].as_bytes().to_vec();
            let at = at % raw.len();
            raw[at] = byte;
            if let Ok(row) = read(&raw) {
                let ours = index::line(&CertificateRow { line: None, ..row.clone() });
                let kept = row.line.unwrap_or_else(|| ours.trim_end_matches('\n').to_owned());
                prop_assert_eq!(kept.as_bytes(), &raw[..]);
            }
        }
    }
}
