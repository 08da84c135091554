//! What an authority is willing to sign: reviewed data in, checked rules out.
//!
//! [`ProfileConfig`] is the TOML that a person wrote; [`Profile`] is the same after every fault
//! was found, with private fields. [`Profile::permit`] is the only way to a [`Permit`]. No rule
//! here can be widened by anything that arrives over the link.

use std::path::Path;

use protocol::{
    bounded::{List, Text},
    message::{Name, ProfileEntry},
};

use crate::{calendar::UnixTime, durable, fault::Fault, keys::SignatureDigest, tbs::Issuer};

mod check;
mod config;
mod constraint;
mod deviation;
mod document;
mod fault;
pub mod import;
mod permit;
pub mod show;
mod subject;
mod syntax;

use check::Checked;
pub(crate) use check::DAYS_MAX;
pub use config::{
    CrlRuleConfig, Encoding, ExtensionsConfig, KeysConfig, NameConstraintsConfig, NamesConfig,
    Order, PolicyConfig, Presence, ProfileConfig, SubjectConfig, Unlisted, ValidityCap,
    ValidityConfig,
};
pub use constraint::{Subtree, Subtrees};
pub use deviation::{DEVIATIONS, Deviation};
use document::Document;
pub use fault::{Faults, ProfileFault};
pub use permit::{Permit, Wish};

/// The profiles that `authority create` installs, by file name.
pub const DEFAULTS: [(&str, &str); 8] = [
    ("server", include_str!("../profiles/server.toml")),
    ("client", include_str!("../profiles/client.toml")),
    ("client-codesign", include_str!("../profiles/client-codesign.toml")),
    ("client-org", include_str!("../profiles/client-org.toml")),
    ("server-org", include_str!("../profiles/server-org.toml")),
    ("ocsp", include_str!("../profiles/ocsp.toml")),
    ("timestamp", include_str!("../profiles/timestamp.toml")),
    ("subca", include_str!("../profiles/subca.toml")),
];

/// A URL of `crl_urls` with the number of a shard in the place of `{shard}`.
pub fn shard_url(template: &str, shard: u16) -> String {
    template.replace(SHARD_PLACE, &shard.to_string())
}

/// What becomes the number of the shard in a URL of `crl_urls`.
pub const SHARD_PLACE: &str = "{shard}";

//------------ Profile -------------------------------------------------------

/// A profile without faults.
#[derive(Clone, Debug)]
pub struct Profile {
    name: Name,
    config: ProfileConfig,
    checked: Checked,
}

impl Profile {
    /// Loads and checks `path`; the profile's name is the file's. Deviations are logged.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let name = name_of(path)?;
        let profile = Self::parse(name, &durable::read_text(path)?).map_err(|faults| {
            Fault::Configuration(format!(
                "{path}: {}; correct the profile: `signer profile check {path}` names every fault",
                faults.first(),
                path = path.display()
            ))
        })?;
        for deviation in profile.deviations() {
            tracing::warn!(
                profile = %path.display(),
                deviation = deviation.name,
                "the profile deviates from {}: {}", deviation.clause, deviation.says
            );
        }
        Ok(profile)
    }

    /// Reads and checks a written profile; every fault has its line.
    pub fn parse(name: Name, text: &str) -> Result<Self, Faults> {
        Self::parse_for(name, text, None)
    }

    /// As [`Profile::parse`], for use by `issuer`.
    pub fn parse_for(name: Name, text: &str, issuer: Option<&Issuer>) -> Result<Self, Faults> {
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(faults) => return Err(Faults::of(faults).expect_err("no TOML is a fault")),
        };
        let (config, mut faults) = document.config();
        let Some(config) = config else {
            return Err(Faults::of(faults).expect_err("what could not be read is a fault"));
        };
        let (checked, mut found) = check::check(&config);
        found.extend(issuer.into_iter().flat_map(|issuer| check::check_issuer(&config, issuer)));
        // What was left out because it could not be read is not also missing.
        let is_new = |fault: &ProfileFault| {
            let causes = |unread: &ProfileFault| {
                unread.key.starts_with(&fault.key) && !unread.text.starts_with("unknown field")
            };
            !faults.iter().any(causes)
        };
        let found: Vec<ProfileFault> = found
            .into_iter()
            .filter(is_new)
            .map(|fault| ProfileFault { line: document.line_of(&fault.key), ..fault })
            .collect();
        faults.extend(found);
        Faults::of(faults)?;
        Ok(Self { name, config, checked })
    }

    /// Checks what a person wrote, or a program made; faults have no lines.
    pub fn check(name: Name, config: ProfileConfig) -> Result<Self, Faults> {
        let (checked, faults) = check::check(&config);
        Faults::of(faults)?;
        Ok(Self { name, config, checked })
    }

    /// Finds what does not fit an authority, such as shards in a URL where it has none.
    pub fn check_issuer(&self, issuer: &Issuer) -> Result<(), Faults> {
        Faults::of(check::check_issuer(&self.config, issuer))
    }

    /// The profile's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether only the console may use it.
    pub fn console_only(&self) -> bool {
        self.config.console_only
    }

    /// The longest validity at `now`, in days; before the first cap begins, the first.
    pub fn days_max(&self, now: UnixTime) -> u32 {
        let begun = self.checked.caps.iter().rev().find(|cap| cap.0 <= now);
        begun.unwrap_or(&self.checked.caps[0]).1
    }

    /// Whether nothing is signed by it as long as no list of weak keys is loaded.
    pub fn demands_blocklist(&self) -> bool {
        self.config.keys.blocklist
    }

    /// How many days past expiry a revoked certificate stays in CRLs; nothing means until one CRL
    /// past expiry has listed it.
    pub fn crl_keep_days(&self) -> Option<u32> {
        self.config.crl.keep_days
    }

    /// The rules that it breaks by name.
    pub fn deviations(&self) -> &[&'static Deviation] {
        &self.checked.deviations
    }

    /// What is written into the certificate.
    pub fn extensions(&self) -> &ExtensionsConfig {
        &self.config.extensions
    }

    /// In which string type subjects are written.
    pub fn encoding(&self) -> Encoding {
        self.config.subject.encoding
    }

    /// The digest that the issuer signs with; nothing means the one that belongs to its key.
    pub fn digest(&self) -> Option<SignatureDigest> {
        self.checked.digest
    }

    /// The purposes of extKeyUsage as object identifiers.
    pub fn extended_key_usage_oids(&self) -> &[String] {
        &self.checked.purposes
    }

    fn protects_mail(&self) -> bool {
        self.checked.purposes.iter().any(|oid| oid == check::EMAIL_PROTECTION)
    }

    /// The nameConstraints of a CA.
    pub fn name_constraints(&self) -> Option<&Subtrees> {
        self.checked.name_constraints.as_ref()
    }

    /// Whether its certificates name the shard of the CRL that would list them.
    pub fn names_shard(&self) -> bool {
        self.config.extensions.crl_urls.iter().any(|url| url.contains(SHARD_PLACE))
    }

    /// The URLs of the CRL in a certificate of shard `shard`.
    pub fn crl_urls(&self, shard: u16) -> Vec<String> {
        self.config.extensions.crl_urls.iter().map(|url| shard_url(url, shard)).collect()
    }

    /// What the frontend may know of it.
    pub fn entry(&self, now: UnixTime) -> ProfileEntry {
        let types = self.config.names.types.iter();
        let types: Vec<Text<8>> = types.map(|kind| Text::truncated(kind)).collect();
        ProfileEntry {
            name: self.name.clone(),
            console_only: self.config.console_only,
            days_default: self.config.validity.days_default.min(self.days_max(now)),
            days_max: self.days_max(now),
            name_types: List::try_from(types).expect("check_names allows each of five types once"),
            subject_as_asked: self.config.subject.unlisted == Unlisted::Refuse
                && self.config.subject.order != Order::AsAllowed,
        }
    }
}

/// The name of the profile in the file `path`.
pub fn name_of(path: &Path) -> Result<Name, Fault> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.parse::<Name>().map_err(|error| {
        Fault::Configuration(format!("{}: {error}; rename the file", path.display()))
    })
}

#[cfg(test)]
mod tests;
