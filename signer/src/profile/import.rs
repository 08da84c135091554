//! Turns what `openssl ca` was told by its configuration file into a profile.
//!
//! The profile is never silently wider than the file: what a profile cannot say is listed with
//! its line and the reason, and what the rules of today forbid is lifted to them and listed too.
//! Nothing here reads another file, the environment or a key.

use std::collections::BTreeMap;

use openssl::x509::X509Ref;
use protocol::{
    bounded::{List, Text},
    message::{ATTRIBUTES_MAX, Attribute, AttributeType, Subject},
};

use self::{
    ca::CaSection,
    conf::{At, Conf, ConfFault},
    extensions::Extensions,
};
use super::{Profile, ProfileConfig};

mod ca;
pub mod conf;
mod extensions;
mod names;
mod write;

/// What is imported from a configuration file, and what is known beside it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The section that `openssl ca -name` would take; absent means `default_ca` in `[ca]`.
    pub section: Option<&'a str>,
    /// The section that `openssl ca -extensions` would take; absent means `x509_extensions`.
    pub extensions: Option<&'a str>,
    /// The issuer's subject, which `match` in a policy compares with.
    pub ca_subject: Option<&'a Subject>,
    /// The values of `$ENV::NAME`; this process's own environment is never read.
    pub environment: &'a BTreeMap<String, String>,
}

/// A profile made from a configuration file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The profile as a person reviews it, with comments.
    pub toml: String,
    /// The same, read back and without faults.
    pub config: ProfileConfig,
    /// What is not in it, or not as it was, in the order of the file.
    pub left_out: Vec<LeftOut>,
}

/// Something that the profile does not say, or says differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The line in the configuration file; for what is absent there, its section's.
    pub line: u32,
    /// The key.
    pub key: String,
    /// Its value; empty if the key is absent.
    pub value: String,
    /// What became of it, and why.
    pub why: String,
    /// Something that the old configuration forbade is possible by the profile.
    pub wider: bool,
}

/// One sentence for a person.
impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wider = if self.wider { "WIDER than before: " } else { "" };
        let Self { line, key, value, why, .. } = self;
        match value.is_empty() {
            true => write!(f, "line {line}: {wider}{key} is not set: {why}"),
            // `\n` in a value must not break the sentence.
            false => write!(f, "line {line}: {wider}{key} = {}: {why}", value.escape_debug()),
        }
    }
}

/// Why no profile can be made, and the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ImportError {
    /// The line in the configuration file.
    pub line: u32,
    /// What is wrong there.
    pub fault: ImportFault,
}

/// Why no profile can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// The file cannot be read as a configuration.
    #[error(transparent)]
    Conf(ConfFault),
    /// No section was named, and the file names none.
    #[error("the file has no default_ca in [ca]; name the section with --section")]
    NoDefault,
    /// A section is named but not there.
    #[error("{key} names the section [{section}], which is not in the file; correct the name")]
    NoSection {
        /// Who names it.
        key: String,
        /// Which.
        section: String,
    },
    /// A key that `openssl ca` needs is absent.
    #[error(
        "[{section}] has no {key}, without which `openssl ca` issues nothing; name another \
             section with --section"
    )]
    Missing {
        /// Where it is looked for.
        section: String,
        /// What.
        key: &'static str,
    },
    /// A value that openssl does not take either.
    #[error("{key} = {value}: {why}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// `match` cannot be kept without the CA's name.
    #[error("{0} = match compares with the CA's own subject; add --authority NAME")]
    MatchNeedsCa(String),
    /// `match` on something that the CA's name lacks: openssl refuses every request.
    #[error(
        "{0} = match, but the CA's own subject has none, so nothing could ever be issued; \
             correct the policy"
    )]
    MatchNotInCa(String),
    /// The file restricts certificates in a way that a profile cannot keep.
    #[error(
        "{key} has `{value}`, a restriction that a profile cannot say; without it the profile \
             would be wider, so take it out by hand if that is meant"
    )]
    Restriction {
        /// The extension.
        key: &'static str,
        /// The part of its value.
        value: String,
    },
    /// What came out is against a rule that cannot be broken by name.
    #[error("no profile can be made of [{section}]: {why}")]
    Profile {
        /// The section of the CA.
        section: String,
        /// The rule.
        why: String,
    },
}

impl From<At<ConfFault>> for ImportError {
    fn from(at: At<ConfFault>) -> Self {
        Self { line: at.line, fault: ImportFault::Conf(at.what) }
    }
}

/// The profile of `section`, or of the file's default; `$ENV` in what is needed is a fault.
pub fn from_openssl(
    text: &str,
    section: Option<&str>,
    ca_subject: Option<&Subject>,
) -> Result<Imported, ImportError> {
    let environment = BTreeMap::new();
    let source = Source { section, extensions: None, ca_subject, environment: &environment };
    import(text.as_bytes(), &source)
}

/// The profile that a configuration file makes, with everything that can be said beside it.
pub fn import(bytes: &[u8], source: &Source<'_>) -> Result<Imported, ImportError> {
    let conf = Conf::read(bytes, source.environment)?;
    let mut report = Report::default();
    let ca = CaSection::read(&conf, source, &mut report)?;
    let extensions = Extensions::read(&conf, &ca, &mut report)?;
    let config = write::Draft::new(&ca, &extensions, &mut report);
    report.left_out.sort_by_key(|left| left.line);
    let toml = config.toml(&report.left_out);
    let unusable = |why: String| ImportError {
        line: ca.line,
        fault: ImportFault::Profile { section: ca.name.clone(), why },
    };
    let config: ProfileConfig = toml::from_str(&toml)
        .map_err(|error| unusable(error.to_string().trim().replace('\n', " ")))?;
    let name = "imported".parse().map_err(|_| unusable("it has no name".into()))?;
    Profile::parse(name, &toml).map_err(|why| unusable(why.to_string()))?;
    Ok(Imported { toml, config, left_out: report.left_out })
}

/// The subject of a CA certificate, as `match` compares with it. Attributes that subjects here
/// cannot have are left out: no policy compares with them either.
pub fn subject_of(certificate: &X509Ref) -> Subject {
    let mut attributes = Vec::new();
    for entry in certificate.subject_name().entries() {
        let kind = entry.object().nid().short_name().ok().and_then(AttributeType::from_short_name);
        let value =
            entry.data().to_string().ok().and_then(|text| Text::try_from(text.as_str()).ok());
        attributes.extend(kind.zip(value).map(|(kind, value)| Attribute { kind, value }));
    }
    attributes.truncate(ATTRIBUTES_MAX);
    List::try_from(attributes).expect("truncated to what fits")
}

/// What is said about the import on the way.
#[derive(Debug, Default)]
struct Report {
    left_out: Vec<LeftOut>,
}

impl Report {
    fn left(&mut self, line: u32, key: &str, value: &str, why: impl Into<String>) {
        self.add(line, key, value, why.into(), false);
    }

    fn wider(&mut self, line: u32, key: &str, value: &str, why: impl Into<String>) {
        self.add(line, key, value, why.into(), true);
    }

    fn add(&mut self, line: u32, key: &str, value: &str, why: String, wider: bool) {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.left_out.push(LeftOut { line, key, value, why, wider });
    }
}

#[cfg(test)]
mod tests;
