//! Takes over an authority that `openssl ca` has kept: the tree as CAcert's signer has it, with
//! its index, copies, serials, CRLs, keys and configuration files.
//!
//! First the whole tree is looked at and a [`Plan`] made: what is there, what will be written,
//! what is wrong. Then, if nothing refuses, everything is taken over at once. The old tree is only
//! read, never changed; where it does not fit together nothing is guessed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use protocol::message::{AUTHORITIES_MAX, Digest, Name};

use crate::{
    authority::{Layout, asn1_time},
    calendar::{DAY_S, UnixTime},
    fault::Fault,
    keys::Secret,
    ledger::Ledger,
};

mod copies;
mod crls;
mod lines;
pub mod problems;
mod profiles;
mod survey;
mod take;
mod tree;

pub use profiles::Taken;
pub use survey::{Counts, NewestCrl, Survey};
pub use take::{Done, finish, finished, take};
pub use tree::Wishes;

use problems::{Kind, Problems};
use tree::{Source, Tree};

/// Everything that would be taken over, and everything that is wrong with it.
#[derive(Debug)]
pub struct Plan {
    /// The old tree.
    pub ssl: PathBuf,
    /// One for each authority.
    pub authorities: Vec<Planned>,
    /// What is wrong.
    pub problems: Problems,
}

/// One authority that would be taken over.
#[derive(Debug)]
pub struct Planned {
    source: Source,
    /// Its name in our store.
    pub name: Name,
    /// What was found.
    pub survey: Survey,
    /// The profiles that will be written.
    pub profiles: Vec<Taken>,
    /// Whether it signs on the link's word alone afterwards.
    pub unattended: bool,
    /// How many days its CRLs are valid, as the newest old one was.
    pub crl_days: u32,
}

/// Days between this update and next where no old CRL says any: CAcert's own.
const CRL_DAYS_DEFAULT: u32 = 7;

impl Plan {
    /// Looks at the whole tree and at the store; changes neither.
    pub fn make(
        wishes: &Wishes,
        store: &Path,
        ledger: &Ledger,
        passphrase: Option<&Secret>,
        now: UnixTime,
        cores: usize,
    ) -> Result<Self, Fault> {
        let mut problems = Problems::default();
        let tree = Tree::find(wishes, passphrase, now, &mut problems)?;
        let mut authorities = Vec::new();
        for source in tree.sources {
            let survey = survey::survey(&source, now, cores, &mut problems)?;
            let profiles = profiles::take(&source, &mut problems)?;
            let unattended = !source.is_root() || wishes.unattended_roots.contains(&source.name);
            let crl_days = crl_days(&survey);
            let name = source.name.clone();
            authorities.push(Planned { source, name, survey, profiles, unattended, crl_days });
        }
        check_names(&authorities, store, ledger, &mut problems)?;
        check_switches(wishes, &authorities)?;
        for path in tree.rings {
            let text = "the OpenPGP key in it stays where it is: take it over with `signer \
                        openpgp import NAME --secring FILE --pubring FILE`";
            problems.with(Kind::NotTaken, path.display(), text);
        }
        Ok(Self { ssl: wishes.ssl.clone(), authorities, problems })
    }
}

/// As many days as the newest old CRL was good for.
fn crl_days(survey: &Survey) -> u32 {
    let newest = survey.newest_crl.as_ref();
    let span_s = newest.and_then(|newest| Some(newest.next_update?.0 - newest.this_update.0));
    let days = span_s.and_then(|span_s| u32::try_from((span_s + DAY_S - 1) / DAY_S).ok());
    days.filter(|days| (1..=366).contains(days)).unwrap_or(CRL_DAYS_DEFAULT)
}

// AD-19
fn check_names(
    authorities: &[Planned],
    store: &Path,
    ledger: &Ledger,
    problems: &mut Problems,
) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for planned in authorities {
        let place = planned.source.directory.display();
        let name = &planned.name;
        if !seen.insert(name) {
            problems.with(Kind::NameTaken, place, format!("{name} is the name of two directories"));
        } else if ledger.authority(name)?.is_some() {
            problems.with(Kind::NameTaken, place, format!("the store has an authority {name}"));
        } else if !take::may_replace(&Layout::new(store, name)) {
            let text = format!("the store has a directory {name} that is no take-over's");
            problems.with(Kind::NameTaken, place, text);
        }
    }
    if ledger.authorities()?.len() + authorities.len() > AUTHORITIES_MAX {
        let text = format!("with these the store would have more than {AUTHORITIES_MAX}");
        problems.with(Kind::NameTaken, store.display(), text);
    }
    Ok(())
}

/// `--unattended-root` must name a root that is taken over: a slip there is no small thing.
fn check_switches(wishes: &Wishes, authorities: &[Planned]) -> Result<(), Fault> {
    let is_root = |name: &Name| {
        authorities.iter().any(|planned| planned.name == *name && planned.source.is_root())
    };
    match wishes.unattended_roots.iter().find(|name| !is_root(name)) {
        None => Ok(()),
        Some(name) => Err(Fault::Configuration(format!(
            "--unattended-root names {name}, which is no root of this tree; `--plan` shows the \
             names"
        ))),
    }
}

impl Planned {
    /// Its directory in the old tree.
    pub fn directory(&self) -> &Path {
        &self.source.directory
    }

    /// Whether it signed itself.
    pub fn is_root(&self) -> bool {
        self.source.is_root()
    }

    /// What the page says of its certificate.
    pub fn certificate(&self) -> Result<Option<CertificateFacts>, Fault> {
        let Some((path, certificate)) = &self.source.certificate else { return Ok(None) };
        Ok(Some(CertificateFacts {
            file: path.clone(),
            subject: crate::name::from_x509(certificate.subject_name()),
            not_before: asn1_time(certificate.not_before())?,
            not_after: asn1_time(certificate.not_after())?,
            digest: Digest::of(&certificate.to_der()?),
            above: self.source.chain.len(),
        }))
    }

    /// Where its key lies, its kind, and whether it belongs to the certificate.
    pub fn key(&self) -> Result<Option<(PathBuf, String, bool)>, Fault> {
        let Some((path, key)) = &self.source.key else { return Ok(None) };
        let matches = match &self.source.certificate {
            Some((_, certificate)) => key.matches(certificate.public_key()?.as_ref()),
            None => false,
        };
        Ok(Some((path.clone(), key.kind().to_string(), matches)))
    }
}

/// What the page says of a CA certificate.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "RFC 5280's words")]
pub struct CertificateFacts {
    pub file: PathBuf,
    pub subject: String,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub digest: Digest,
    pub above: usize,
}

#[cfg(test)]
mod tests;
