//! Turns the old authority's configuration files into profiles.
//!
//! A file that becomes no profile is a warning, not a refusal: the certificates of the old tree do
//! not depend on it, and nothing is issued by a profile that is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use protocol::message::Name;

use super::{
    problems::{Kind, Problems},
    tree::{self, Source},
};
use crate::{
    durable,
    fault::Fault,
    profile::{Profile, import},
};

/// A profile that will be written.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its name.
    pub name: Name,
    /// The file that it was made from.
    pub from: PathBuf,
    /// Its text.
    pub toml: String,
    /// What the file says and the profile does not, one sentence each.
    pub left_out: Vec<String>,
}

/// The profiles of one authority.
// AW-09, AW-10
pub(crate) fn take(source: &Source, problems: &mut Problems) -> Result<Vec<Taken>, Fault> {
    let subject = source.certificate.as_ref().and_then(|(_, own)| tree::subject_of(own));
    let environment = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut taken = Vec::new();
    for (kind, path) in &source.configurations {
        let request = import::Source {
            section: None,
            extensions: None,
            ca_subject: subject.as_ref(),
            environment: &environment,
        };
        let made = make(kind, path, &request);
        match made.filter_name(&mut names) {
            Ok(profile) => {
                for sentence in &profile.left_out {
                    problems.with(Kind::ProfileLess, path.display(), sentence.clone());
                }
                taken.push(profile);
            }
            Err(why) => problems.with(Kind::ProfileNotTaken, path.display(), why),
        }
    }
    Ok(taken)
}

/// What became of a file.
struct Made(Result<Taken, String>);

impl Made {
    /// Two files of one kind are one too many.
    fn filter_name(self, names: &mut BTreeSet<Name>) -> Result<Taken, String> {
        let taken = self.0?;
        match names.insert(taken.name.clone()) {
            true => Ok(taken),
            false => Err(format!("there is another file for the profile {}", taken.name)),
        }
    }
}

fn make(kind: &str, path: &Path, request: &import::Source<'_>) -> Made {
    let make = || {
        let name: Name = kind
            .to_ascii_lowercase()
            .replace(['_', '.'], "-")
            .parse()
            .map_err(|_| format!("`{kind}` is no name of a profile"))?;
        let bytes = durable::read(path).map_err(|fault| fault.to_string())?;
        let imported = import::import(&bytes, request).map_err(|error| error.to_string())?;
        // What is written is loaded at the next start: it must be without fault now.
        Profile::check(name.clone(), imported.config).map_err(|why| why.to_string())?;
        let left_out = imported.left_out.iter().map(ToString::to_string).collect();
        Ok(Taken { name, from: path.to_owned(), toml: imported.toml, left_out })
    };
    Made(make())
}
