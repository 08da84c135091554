//! The same CSR, profile and issuer given to `openssl ca` and to the signer.
//!
//! Each kind of certificate is a configuration file: `openssl ca` reads it as it is, the signer the
//! profile that `signer profile import` makes of it. A case is a CSR drawn from one number. What is
//! compared, and where the two are known to differ, is in [`fields`]; nothing is left out of it but
//! the serial number and the moments of beginning and end.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{Seed, World};

pub mod fields;
pub mod kinds;

use fields::{Fields, Table};
use kinds::{KINDS, Kind, Place};

/// One CSR for one kind of certificate.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number, from which everything else follows.
    pub number: u64,
    /// The configuration file and what it wants.
    pub kind: &'static Kind,
    /// The subject's attributes in the order of the CSR.
    pub subject: Vec<(&'static str, String)>,
    /// The CSR's subject alternative names, as `-addext` takes them.
    pub names: Vec<String>,
    /// The CSR asks for this keyUsage too, which the configuration sets itself.
    pub key_usage: Option<&'static str>,
    /// Which of the keys.
    pub key: &'static str,
}

impl Case {
    /// The case of this number.
    pub fn draw(start: u64, number: u64) -> Self {
        // Each case has a generator of its own, so that one can be replayed without the others.
        let mut seed = Seed::new(start ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = &KINDS[(number % KINDS.len() as u64) as usize];
        let mut subject = Vec::new();
        for (attribute, place) in kind.subject {
            let count = match place {
                Place::Must => 1,
                Place::May => seed.below(2),
                Place::Several => seed.below(3),
            };
            for copy in 0..count {
                subject.push((*attribute, value(attribute, kind, number, copy, &mut seed)));
            }
        }
        shuffle(&mut subject, &mut seed);
        let mut names = Vec::new();
        if kind.takes_names {
            let mut all = names_of(number);
            shuffle(&mut all, &mut seed);
            all.truncate(seed.below(all.len() as u64 + 1) as usize);
            names = all;
        }
        let asks_usage = kind.takes_names && !kind.replaces && seed.below(3) == 0;
        Self {
            number,
            kind,
            subject,
            names,
            key_usage: asks_usage.then_some("critical,keyAgreement"),
            key: KEYS[seed.below(KEYS.len() as u64) as usize].0,
        }
    }

    /// The subject as `-subj` takes it.
    pub fn subject_text(&self) -> String {
        let attribute = |(kind, value): &(&str, String)| {
            let escaped = value.replace('\\', "\\\\").replace('/', "\\/").replace('+', "\\+");
            format!("/{kind}={escaped}")
        };
        self.subject.iter().map(attribute).collect()
    }

    /// Whether the subject has such an attribute.
    pub fn has(&self, attribute: &str) -> bool {
        self.subject.iter().any(|(kind, _)| *kind == attribute)
    }
}

/// Every stage of the comparison, in a world of its own.
pub struct Differential<'a> {
    world: &'a mut World,
    start: u64,
    cases: Vec<Case>,
    /// What the import left out, by profile.
    left_out: BTreeMap<&'static str, String>,
}

impl<'a> Differential<'a> {
    /// Founds the authorities and imports every configuration file.
    pub fn new(world: &'a mut World, start: u64, numbers: &[u64]) -> Result<Self> {
        world.found("rsa:2048")?;
        let second = ["authority", "create", SECOND, "--issued-by", "root", "--key", "ec:P-384"];
        world.signer(&[&second[..], &["--subject", "/C=AU/O=Test/CN=Second"]].concat())?.done()?;
        for (name, kind) in KEYS {
            world.key(name, kind)?;
        }
        for (file, mask) in [("utf8", "utf8only"), ("printable", "MASK:0x2002")] {
            let text = format!("[req]\nstring_mask = {mask}\ndistinguished_name = dn\n[dn]\n");
            world.write(&format!("{file}.req.cnf"), text)?;
        }
        let cases = numbers.iter().map(|number| Case::draw(start, *number)).collect();
        let mut this = Self { world, start, cases, left_out: BTreeMap::new() };
        for kind in KINDS {
            this.import(kind)?;
        }
        Ok(this)
    }

    /// Lays out an old authority for `openssl ca`, and imports its configuration.
    fn import(&mut self, kind: &'static Kind) -> Result<()> {
        let Kind { profile, authority, section, .. } = kind;
        let world = &self.world;
        let folder = world.file(&format!("old-{profile}"));
        fs::create_dir_all(format!("{folder}/private"))?;
        fs::create_dir_all(format!("{folder}/newcerts"))?;
        for file in ["ca.crt", "private/ca.key"] {
            fs::copy(world.authority(authority, file), format!("{folder}/{file}"))?;
        }
        fs::write(format!("{folder}/index.txt"), "")?;
        fs::write(format!("{folder}/serial"), "1000\n")?;
        let cnf = format!("{folder}/openssl.cnf");
        fs::write(&cnf, kind.cnf.replace("DIR", &folder))?;
        let out = world.authority(authority, &format!("profiles/{profile}.toml"));
        if fs::exists(&out)? {
            fs::remove_file(&out)?; // the subca profile that the authority was made with
        }
        let words = ["profile", "import", &cnf, "--authority", authority, "--out", &out];
        let named = section.map(|section| ["--section", section]);
        let words: Vec<&str> = words.into_iter().chain(named.into_iter().flatten()).collect();
        let left_out = world.signer(&words)?.done()?.stderr;
        for (_, _, listed) in kind.differs {
            ensure!(left_out.contains(listed), "{profile}: no line says {listed}\n{left_out}");
        }
        self.left_out.insert(profile, left_out);
        Ok(())
    }

    /// What the import of this profile left out.
    pub fn left_out(&self, profile: &str) -> &str {
        self.left_out.get(profile).map_or("", String::as_str)
    }

    /// Lets both make every certificate and compares them.
    pub fn compare(&mut self) -> Result<Table> {
        let mut theirs = Vec::new();
        for case in &self.cases {
            let csr = self.csr(case).with_context(|| self.replay(case))?;
            let made = self.by_openssl(case, &csr).with_context(|| self.replay(case))?;
            theirs.push((csr, made));
        }
        self.world.start()?;
        let mut ids = Vec::new();
        for (case, (csr, _)) in self.cases.iter().zip(&theirs) {
            let Kind { profile, authority, .. } = case.kind;
            let words = ["request", "--authority", authority, "--profile", profile, "--csr", csr];
            ids.push(self.world.queue(&words).with_context(|| self.replay(case))?);
        }
        self.world.run_until_idle(crate::world::COMMAND_MAX)?;
        let mut table = Table::default();
        for ((case, (_, theirs)), id) in self.cases.iter().zip(&theirs).zip(&ids) {
            let ours = self.world.frontend(&["get", id, "--der"])?;
            let ours = ours.done().with_context(|| self.replay(case))?.stdout;
            let (ours, theirs) = (Fields::of_ours(&ours)?, Fields::of_theirs(theirs)?);
            table.compare(case, &ours, &theirs).with_context(|| self.replay(case))?;
        }
        Ok(table)
    }

    /// The line that replays one case alone.
    pub fn replay(&self, case: &Case) -> String {
        format!(
            "replay with: DIFFERENTIAL_CASE={:#x}:{} cargo xtask test differential \
             ({}, key {}, subject {}, names {})",
            self.start,
            case.number,
            case.kind.profile,
            case.key,
            case.subject_text(),
            case.names.join(",")
        )
    }

    fn csr(&self, case: &Case) -> Result<String> {
        let file = self.world.file(&format!("case-{}.csr", case.number));
        let config = self.world.file(&format!("{}.req.cnf", case.kind.strings));
        let (key, subject) = (self.world.file(&format!("{}.key", case.key)), case.subject_text());
        let words = ["req", "-new", "-config", &config, "-key", &key, "-subj", &subject, "-utf8"];
        let mut words: Vec<&str> = words.into_iter().chain(["-out", &file]).collect();
        let names = format!("subjectAltName={}", case.names.join(","));
        if !case.names.is_empty() {
            words.extend(["-addext", &names]);
        }
        let usage = case.key_usage.map(|usage| format!("keyUsage={usage}"));
        if let Some(usage) = &usage {
            words.extend(["-addext", usage]);
        }
        self.world.openssl(&words)?;
        Ok(file)
    }

    /// The certificate that `openssl ca` makes, DER.
    fn by_openssl(&self, case: &Case, csr: &str) -> Result<Vec<u8>> {
        openssl_ca(self.world, case.kind, csr, &format!("case-{}.pem", case.number))
    }
}

fn openssl_ca(world: &World, kind: &Kind, csr: &str, name: &str) -> Result<Vec<u8>> {
    let cnf = world.file(&format!("old-{}/openssl.cnf", kind.profile));
    let out = world.file(name);
    let words = ["ca", "-batch", "-notext", "-config", &cnf, "-in", csr, "-out", &out];
    let named = kind.section.map(|section| ["-name", section]);
    let words: Vec<&str> = words.into_iter().chain(named.into_iter().flatten()).collect();
    world.openssl(&words)?;
    der_of_pem(&fs::read_to_string(&out)?)
}

/// Issuing authorities are made at the console alone: both sides certify the key of one that the
/// signer makes.
pub fn compare_issuing_authority(
    differential: &Differential<'_>,
    name: &str,
    key: &str,
    subject: &str,
) -> Result<Table> {
    let kind =
        KINDS.iter().find(|kind| kind.profile == "subca").context("there is a subca kind")?;
    let world = &differential.world;
    let words = ["authority", "create", name, "--issued-by", kind.authority, "--key", key];
    world.signer(&[&words[..], &["--subject", subject]].concat())?.done()?;
    let ours = der_of_pem(&fs::read_to_string(world.authority(name, "ca.crt"))?)?;
    let (csr, config) = (world.file(&format!("{name}.csr")), world.file("utf8.req.cnf"));
    let key = world.authority(name, "private/ca.key");
    let words = ["req", "-new", "-config", &config, "-key", &key, "-subj", subject, "-utf8"];
    world.openssl(&[&words[..], &["-out", &csr]].concat())?;
    let theirs = openssl_ca(world, kind, &csr, &format!("{name}.pem"))?;
    let mut table = Table::default();
    let case = Case {
        number: 0,
        kind,
        subject: Vec::new(),
        names: Vec::new(),
        key_usage: None,
        key: "its own",
    };
    table.compare(&case, &Fields::of_ours(&ours)?, &Fields::of_theirs(&theirs)?)?;
    Ok(table)
}

/// Whether the case of this number can be asked for over the link.
pub fn from_the_link(number: u64) -> bool {
    KINDS[(number % KINDS.len() as u64) as usize].profile != "subca"
}

/// `DIFFERENTIAL_CASE=SEED:NUMBER`, else the default seed and every number below `count`.
pub fn chosen(default: u64, count: u64) -> Result<(u64, Vec<u64>)> {
    let Ok(text) = std::env::var("DIFFERENTIAL_CASE") else {
        return Ok((default, (0..count).collect()));
    };
    let wrong = || anyhow!("DIFFERENTIAL_CASE is SEED or SEED:NUMBER, as a failure prints it");
    let (start, number) = text.split_once(':').unwrap_or((&text, ""));
    let start = u64::from_str_radix(start.trim_start_matches("0x"), 16).map_err(|_| wrong())?;
    match number {
        "" => Ok((start, (0..count).collect())),
        number => Ok((start, vec![number.parse().map_err(|_| wrong())?])),
    }
}

//------------ Drawing -------------------------------------------------------

fn value(attribute: &str, kind: &Kind, number: u64, copy: u64, seed: &mut Seed) -> String {
    let pick =
        |from: &[&str], seed: &mut Seed| from[seed.below(from.len() as u64) as usize].to_owned();
    match attribute {
        "C" => pick(&["DE", "AU", "AT", "NL", "JP"], seed),
        "O" if kind.profile == "member" => "Test".to_owned(), // the CA's own, by `match`
        "emailAddress" => format!("person{number}.{copy}@mail.example.org"),
        "DC" => format!("dc{number}"),
        "serialNumber" => format!("HRB {number}-{copy}"),
        "UID" => format!("u{number}"),
        "postalCode" => format!("{number:05}"),
        "CN" if kind.takes_names => format!("host-{number}.example.org"),
        _ => format!("{} {number}.{copy}", pick(&WORDS, seed)),
    }
}

fn names_of(number: u64) -> Vec<String> {
    vec![
        format!("DNS:host-{number}.example.org"),
        format!("DNS:*.wild-{number}.example.org"),
        format!("DNS:xn--grn-hoa.name-{number}.example.org"),
        format!("IP:192.0.2.{}", number % 250 + 1),
        format!("IP:2001:db8::{number:x}"),
        format!("email:person{number}@example.org"),
        format!("URI:http://www{number}.example.org/a?b=c#d"),
        format!("otherName:1.3.6.1.5.5.7.8.5;UTF8:person{number}@jabber.example.org"),
    ]
}

fn shuffle<T>(list: &mut [T], seed: &mut Seed) {
    for last in (1..list.len()).rev() {
        list.swap(last, seed.below(last as u64 + 1) as usize);
    }
}

/// The bytes between a PEM file's first pair of lines.
fn der_of_pem(text: &str) -> Result<Vec<u8>> {
    let body = text.split("-----BEGIN CERTIFICATE-----").nth(1).context("no PEM certificate")?;
    let body = body.split("-----END").next().unwrap_or_default();
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in body.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("no base64: {byte:#x}"),
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Ok(out)
}

/// Keys are reused: making one costs more than a certificate.
const KEYS: [(&str, &str); 5] = [
    ("rsa-1", "rsa:2048"),
    ("rsa-2", "rsa:2048"),
    ("p256-1", "ec:P-256"),
    ("p256-2", "ec:P-256"),
    ("p384-1", "ec:P-384"),
];

/// Values of attributes that may hold any text.
const WORDS: [&str; 12] = [
    "Example",
    "Gr\u{f6}\u{df}e \u{c4}nderung",
    "\u{41e}\u{440}\u{433}\u{430}\u{43d}\u{438}\u{437}\u{430}\u{446}\u{438}\u{44f}",
    "\u{682a}\u{5f0f}\u{4f1a}\u{793e}",
    "Smith, Sons; and \"Co\"",
    "a=b/c\\d+e#f<g>",
    "O'Neill (Test) - No. 5: x?",
    "under_score & star* @home",
    "\u{1f511} keys",
    "Stra\u{df}e",
    "plain",
    "50% $ [x] {y} ~z|",
];

/// The second issuing authority, with another kind of key.
pub const SECOND: &str = "second";
