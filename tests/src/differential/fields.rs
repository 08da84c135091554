//! A certificate as a list of named fields, and the table of what was compared.
//!
//! Every byte of the TBSCertificate is in a field but those of the serial number and of the two
//! moments, of which the distance in days is compared.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, bail, ensure};

use super::{Case, kinds::Difference};

/// What a certificate says, field by field.
#[derive(Debug)]
pub struct Fields {
    /// In hexadecimal; an extension with `critical` in front where it is.
    values: BTreeMap<String, String>,
    /// The extensions in their order.
    order: Vec<String>,
}

impl Fields {
    /// Of a certificate of ours: n days end one second before the same second, n days later.
    pub fn of_ours(certificate: &[u8]) -> Result<Self> {
        Self::read(certificate, 1)
    }

    /// Of a certificate of openssl's: n days end at the same second, n days later; or one second
    /// after it, since it asks the clock once for each end.
    pub fn of_theirs(certificate: &[u8]) -> Result<Self> {
        Self::read(certificate, 0).or_else(|_| Self::read(certificate, -1))
    }

    fn read(certificate: &[u8], missing_seconds: i64) -> Result<Self> {
        let mut outer = Der(certificate);
        let mut whole = Der(outer.take(0x30)?.content);
        ensure!(outer.0.is_empty(), "something follows the certificate");
        let mut tbs = Der(whole.take(0x30)?.content);
        let mut values = BTreeMap::new();
        let version =
            if tbs.next() == Some(0xa0) { hex(tbs.take(0xa0)?.content) } else { "v1".into() };
        values.insert("version".to_owned(), version);
        tbs.take(0x02)?; // the serial number
        for field in ["signature", "issuer"] {
            values.insert(field.to_owned(), hex(tbs.take(0x30)?.content));
        }
        let mut validity = Der(tbs.take(0x30)?.content);
        let (from, to) = (seconds(&validity.any()?)?, seconds(&validity.any()?)?);
        let length = to - from + missing_seconds;
        ensure!(length % 86_400 == 0, "{length} s are no number of days");
        values.insert("validity, days".to_owned(), (length / 86_400).to_string());
        for field in ["subject", "subjectPublicKeyInfo"] {
            values.insert(field.to_owned(), hex(tbs.take(0x30)?.content));
        }
        let mut order = Vec::new();
        if tbs.next() == Some(0xa3) {
            let mut wrapper = Der(tbs.take(0xa3)?.content);
            let mut list = Der(wrapper.take(0x30)?.content);
            ensure!(wrapper.0.is_empty(), "something follows the extensions");
            while !list.0.is_empty() {
                let mut extension = Der(list.take(0x30)?.content);
                let name = format!("extension {}", dotted(extension.take(0x06)?.content));
                let critical =
                    extension.next() == Some(0x01) && extension.take(0x01)?.content == [0xff];
                let value = hex(extension.take(0x04)?.content);
                ensure!(extension.0.is_empty(), "something follows the value of {name}");
                let value = if critical { format!("critical {value}") } else { value };
                ensure!(values.insert(name.clone(), value).is_none(), "{name} is there twice");
                order.push(name);
            }
        }
        ensure!(tbs.0.is_empty(), "the TBSCertificate has further fields");
        Ok(Self { values, order })
    }
}

/// How often each field was compared, and how it came out.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<String, Row>,
    cases: usize,
    same_order: usize,
}

/// One field.
#[derive(Debug, Default)]
struct Row {
    equal: usize,
    /// How often it differed as it must, by profile.
    differs: BTreeMap<&'static str, usize>,
}

impl Table {
    /// Compares two certificates; an error names every field that differs against expectation.
    pub fn compare(&mut self, case: &Case, ours: &Fields, theirs: &Fields) -> Result<()> {
        let mut wrong = Vec::new();
        let names = ours.values.keys().chain(theirs.values.keys());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let found = match (ours.values.get(name), theirs.values.get(name)) {
                (Some(ours), Some(theirs)) if ours == theirs => None,
                (Some(_), Some(_)) => Some(Difference::Value),
                (None, _) => Some(Difference::OnlyTheirs),
                (_, None) => Some(Difference::OnlyOurs),
            };
            let row = self.rows.entry(name.clone()).or_default();
            match (found, expected(case, name)) {
                (None, None) => row.equal += 1,
                (Some(found), Some(expected)) if found == expected => {
                    *row.differs.entry(case.kind.profile).or_default() += 1;
                }
                (found, expected) => wrong.push(format!(
                    "{name}: {found:?} and not {expected:?}, ours {:?}, theirs {:?}",
                    ours.values.get(name),
                    theirs.values.get(name)
                )),
            }
        }
        self.cases += 1;
        self.same_order += usize::from(ours.order == theirs.order);
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(())
    }

    /// How many pairs of certificates were compared.
    pub fn cases(&self) -> usize {
        self.cases
    }

    /// How often this field was equal.
    pub fn equal(&self, field: &str) -> usize {
        self.rows.get(field).map_or(0, |row| row.equal)
    }

    /// How often this field differed as it must in this profile.
    pub fn differs(&self, field: &str, profile: &str) -> usize {
        self.rows.get(field).and_then(|row| row.differs.get(profile)).copied().unwrap_or(0)
    }
}

/// The table for people.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} pairs; extensions in the same order in {}", self.cases, self.same_order)?;
        for (name, Row { equal, differs }) in &self.rows {
            write!(f, "  {name:38} equal {equal:4}")?;
            for (profile, count) in differs {
                write!(f, ", differs as it must in {profile}: {count}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How this field of this case must differ.
fn expected(case: &Case, field: &str) -> Option<Difference> {
    // openssl writes an empty list where the subject has no address to copy; RFC 5280 4.2.1.6
    // forbids that.
    let copies_nothing = case.kind.profile == "cacert-client" && !case.has("emailAddress");
    if copies_nothing && field == "extension 2.5.29.17" {
        return Some(Difference::OnlyTheirs);
    }
    let known = case.kind.differs.iter().find(|(name, _, _)| *name == field);
    known.map(|(_, difference, _)| *difference)
}

//------------ DER -----------------------------------------------------------

/// What is left to read.
struct Der<'a>(&'a [u8]);

/// One element.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Der<'a> {
    fn next(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, tag: u8) -> Result<Element<'a>> {
        let element = self.any()?;
        ensure!(element.tag == tag, "tag {:#04x} where {tag:#04x} belongs", element.tag);
        Ok(element)
    }

    fn any(&mut self) -> Result<Element<'a>> {
        let [tag, first, rest @ ..] = self.0 else { bail!("the DER ends too soon") };
        let octets = if *first < 0x80 { 0 } else { usize::from(*first - 0x80) };
        ensure!(octets <= 3 && rest.len() >= octets, "a length that no certificate has");
        let long = rest[..octets].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
        let length = if octets == 0 { usize::from(*first) } else { long };
        let rest = &rest[octets..];
        let content = rest.get(..length).context("the DER ends too soon")?;
        self.0 = &rest[length..];
        Ok(Element { tag: *tag, content })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dotted(content: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0;
    for octet in content {
        arc = arc << 7 | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            match arcs.is_empty() {
                true => arcs.extend([(arc / 40).min(2), arc - (arc / 40).min(2) * 40]),
                false => arcs.push(arc),
            }
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// UTCTime or GeneralizedTime in seconds (RFC 5280 4.1.2.5).
fn seconds(time: &Element<'_>) -> Result<i64> {
    let text = std::str::from_utf8(time.content)?;
    let text = match time.tag {
        0x17 if text.as_bytes()[0] < b'5' => format!("20{text}"),
        0x17 => format!("19{text}"),
        0x18 => text.to_owned(),
        other => bail!("tag {other:#04x} is no time"),
    };
    let number = |from: usize, to: usize| -> Result<i64> {
        Ok(text.get(from..to).context("a time that is too short")?.parse()?)
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // Days from the civil calendar: the year begins in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (153 * month + 2) / 5 + day;
    Ok(days * 86_400 + number(8, 10)? * 3_600 + number(10, 12)? * 60 + number(12, 14)?)
}
