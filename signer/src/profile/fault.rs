//! What is wrong with a written profile: every fault, each with its line, key and clause.
//!
//! Nothing here judges a request; a request that breaks a rule gets a `Refusal`.

use std::fmt;

/// One fault of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileFault {
    /// The line of the file, from 1; nothing where the whole file or the authority is meant.
    pub line: Option<usize>,
    /// The key, as `validity.max[1].days`; empty where the file is no TOML.
    pub key: String,
    /// What is wrong, and what to do.
    pub text: String,
    /// The rule that says so; empty where it is this program's own.
    pub clause: &'static str,
}

impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        match self.clause {
            "" => Ok(()),
            clause => write!(f, " ({clause})"),
        }
    }
}

/// Every fault of a profile, in the order of the file and then those without a line; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentence(.0))]
pub struct Faults(Vec<ProfileFault>);

impl Faults {
    /// The faults in the order of the file, or nothing where there are none.
    pub(super) fn of(mut faults: Vec<ProfileFault>) -> Result<(), Self> {
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The first, and how many more there are: for where one sentence must do.
    pub fn first(&self) -> String {
        match self.0.as_slice() {
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
            [] => String::new(),
        }
    }

    /// Each fault.
    pub fn iter(&self) -> impl Iterator<Item = &ProfileFault> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// All in one sentence, for where only one fits.
fn sentence(faults: &[ProfileFault]) -> String {
    faults.iter().map(ProfileFault::to_string).collect::<Vec<_>>().join("; ")
}
