//! OpenPGP user IDs: the form in which two that mean the same are the same text, and the tricks
//! that nobody should certify.
//!
//! Both ends use it: the frontend to choose the user IDs of an upload, the signer to judge them
//! again. Nothing here reads a key, and nothing is repaired: what deceives is refused.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};

use crate::message::ApprovedUserId;

mod letters;

/// A user ID in its one form: the name in Unicode's form NFC, the address with its domain in
/// lower-case A-labels, as `name <local@domain>`, `local@domain` or `name`.
///
/// ```
/// use protocol::user_id::UserId;
///
/// let user_id = UserId::parse("Zoë <zoe@BÜCHER.example>").unwrap();
/// assert_eq!(user_id.to_string(), "Zoë <zoe@xn--bcher-kva.example>");
/// assert_eq!(user_id, UserId::parse("Zoe\u{308} <zoe@xn--bcher-kva.example>").unwrap());
/// assert!(UserId::parse("Zoë <zoe@a.example> <mallory@b.example>").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId {
    name: String,
    address: Option<String>,
}

/// Why a text is no user ID that anybody should certify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdFault {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// It is longer than any user ID that is certified.
    #[error("has {0} bytes, at most {LENGTH_MAX} are certified")]
    TooLong(usize),
    /// Controls, changes of direction, what cannot be seen, and spaces that are no plain space.
    #[error("has the character U+{0:04X}, which cannot be seen or reorders what is seen")]
    Character(u32),
    /// Letters that stand for ASCII ones in another shape.
    #[error("has the character U+{0:04X}, which reads as plain ASCII and is not")]
    Disguise(u32),
    /// A space at an end, or two in a row.
    #[error("has a space at an end or two in a row")]
    Spaces,
    /// More marks over one letter than any language has.
    #[error("has more than {MARKS_MAX} marks on one letter")]
    Marks,
    /// The angle brackets are not one pair around the address at the end.
    #[error("has angle brackets elsewhere than around one address at the end")]
    Brackets,
    /// More than one address, or something like one in the name.
    #[error("has an @ beside its one address")]
    SeveralAddresses,
    /// What should be the address is none that is certified.
    #[error("has the address `{0}`, which is not of the form local@domain.example")]
    Address(String),
    /// A word with letters of several scripts.
    #[error("has the word `{0}` with letters of several scripts that look alike")]
    MixedScripts(String),
    /// A word of another script that reads as a Latin one.
    #[error("has the word `{0}`, which reads as Latin letters and is not")]
    LookAlike(String),
}

/// The most bytes of a user ID, as in [`ApprovedUserId::Exact`].
pub const LENGTH_MAX: usize = 256;
/// Marks on one letter after composition: Vietnamese and Hebrew with cantillation stay below.
const MARKS_MAX: usize = 4;
/// RFC 5321 4.5.3.1.1: octets of a local part.
const LOCAL_MAX: usize = 64;
/// RFC 5321 4.5.3.1.3: a path has 256 octets, two of them brackets.
const ADDRESS_MAX: usize = 254;

impl UserId {
    /// Judges `text` and brings it to its one form.
    pub fn parse(text: &str) -> Result<Self, UserIdFault> {
        match text.len() {
            0 => return Err(UserIdFault::Empty),
            1..=LENGTH_MAX => {}
            length => return Err(UserIdFault::TooLong(length)),
        }
        letters::check_characters(text)?;
        if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") {
            return Err(UserIdFault::Spaces);
        }
        let (name, address) = split(text)?;
        Self::of_parts(name, address)
    }

    /// The user ID with this name and this address, each judged.
    fn of_parts(name: &str, address: Option<&str>) -> Result<Self, UserIdFault> {
        letters::check_characters(name)?;
        let name = nfc(name);
        letters::check_marks(&name)?;
        let address = address.map(canonical_address).transpose()?;
        // Many programs repeat the address as the name; any other address in a name deceives.
        let repeats = || canonical_address(&name).ok() == address;
        if name.contains('@') && !(address.is_some() && repeats()) {
            return Err(UserIdFault::SeveralAddresses);
        }
        letters::check_name(&name)?;
        Ok(Self { name, address })
    }

    /// The name, with its comment if there is one; empty where the user ID is an address alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address, if there is one.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            None => f.write_str(&self.name),
            Some(address) if self.name.is_empty() => f.write_str(address),
            Some(address) => write!(f, "{} <{address}>", self.name),
        }
    }
}

impl ApprovedUserId {
    /// The user ID in its one form.
    pub fn user_id(&self) -> Result<UserId, UserIdFault> {
        match self {
            Self::Exact(text) => UserId::parse(text),
            // Written out and judged as a whole, so that no name holds an address of its own.
            Self::Address { name, address } if name.is_empty() => {
                let parsed = UserId::parse(address)?;
                match parsed.name.is_empty() {
                    true => Ok(parsed),
                    false => Err(UserIdFault::Address(address.to_string())),
                }
            }
            Self::Address { name, address } => {
                let parsed = UserId::parse(&format!("{} <{}>", &**name, &**address))?;
                match parsed.address.is_some() && parsed.name == nfc(name) {
                    true => Ok(parsed),
                    false => Err(UserIdFault::Brackets),
                }
            }
        }
    }
}

impl fmt::Display for ApprovedUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Address { name, address } if name.is_empty() => f.write_str(address),
            Self::Address { name, address } => write!(f, "{} <{}>", &**name, &**address),
        }
    }
}

//------------ Choosing from a key -------------------------------------------

/// Why the approved user IDs cannot be chosen from a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectFault {
    /// None was asked for.
    #[error("none was asked for")]
    None,
    /// One should not be certified by anybody.
    #[error("`{asked}` {fault}")]
    Form {
        /// What was asked for, with what cannot be seen written out.
        asked: String,
        /// What is wrong with it.
        fault: UserIdFault,
    },
    /// The same was asked for twice, perhaps in other words.
    #[error("`{0}` is asked for twice")]
    Twice(UserId),
    /// The key has two user IDs of this one form, and none of them letter by letter.
    #[error("`{0}` is in the key twice, written in different bytes; name one exactly")]
    Ambiguous(UserId),
    /// The key has no such user ID.
    #[error("`{0}` is not in the key")]
    Missing(UserId),
}

impl SelectFault {
    /// Whether it is the request that is wrong, whatever the key holds.
    pub fn is_form(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }
}

/// For each approved user ID, in their order, which one of `held` it is: the user IDs of a key,
/// as bytes. Those that nobody asked for may be anything.
pub fn select(asked: &[ApprovedUserId], held: &[&[u8]]) -> Result<Vec<usize>, SelectFault> {
    if asked.is_empty() {
        return Err(SelectFault::None);
    }
    let parsed: Vec<Option<UserId>> = held
        .iter()
        .map(|bytes| std::str::from_utf8(bytes).ok().and_then(|text| UserId::parse(text).ok()))
        .collect();
    let mut chosen = Vec::new();
    for approved in asked {
        let user_id = approved.user_id().map_err(|fault| SelectFault::Form {
            asked: approved.to_string().escape_debug().to_string(),
            fault,
        })?;
        let found: Vec<usize> =
            (0..held.len()).filter(|at| parsed[*at].as_ref() == Some(&user_id)).collect();
        let exact = found.iter().copied().find(|at| match approved {
            ApprovedUserId::Exact(text) => held[*at] == text.as_bytes(),
            ApprovedUserId::Address { .. } => false,
        });
        let at = match (exact, &found[..]) {
            (Some(at), _) | (None, &[at]) => at,
            (None, []) => return Err(SelectFault::Missing(user_id)),
            (None, _) => return Err(SelectFault::Ambiguous(user_id)),
        };
        if chosen.contains(&at) {
            return Err(SelectFault::Twice(user_id));
        }
        chosen.push(at);
    }
    Ok(chosen)
}

//------------ Parts ---------------------------------------------------------

/// The name and the address of a text whose characters are good.
fn split(text: &str) -> Result<(&str, Option<&str>), UserIdFault> {
    let Some((name, rest)) = text.split_once('<') else {
        return match text.contains('@') {
            _ if text.contains('>') => Err(UserIdFault::Brackets),
            true if text.contains(' ') => Err(UserIdFault::SeveralAddresses),
            true => Ok(("", Some(text))),
            false => Ok((text, None)),
        };
    };
    let address = rest.strip_suffix('>').ok_or(UserIdFault::Brackets)?;
    if address.contains(['<', '>']) || name.contains('>') {
        return Err(UserIdFault::Brackets);
    }
    Ok((name.strip_suffix(' ').unwrap_or(name), Some(address)))
}

/// The local part as it is but composed, the domain in lower-case A-labels.
fn canonical_address(address: &str) -> Result<String, UserIdFault> {
    let fault = || UserIdFault::Address(address.to_owned());
    let (local, domain) = address.split_once('@').ok_or_else(fault)?;
    if domain.contains('@') {
        return Err(UserIdFault::SeveralAddresses);
    }
    let local = nfc(local);
    let good = |c: char| c.is_ascii_alphanumeric() || ATOM.contains(c) || letters::is_letter(c);
    // RFC 5321 4.1.2, a dot-string; a quoted one only hides things.
    let atoms = local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(good));
    if !atoms || local.len() > LOCAL_MAX {
        return Err(fault());
    }
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    let ascii = ascii.map_err(|_| fault())?;
    let (unicode, checked) =
        Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    // One label, or a number as the last one, is no domain that mail goes to.
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if checked.is_err() || !ascii.contains('.') || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    letters::check_marks(&local)?;
    letters::check_domain(&unicode)?;
    letters::check_local(&local, ascii.is_ascii() && unicode.is_ascii())?;
    let address = format!("{local}@{ascii}");
    match address.len() {
        0..=ADDRESS_MAX => Ok(address),
        _ => Err(fault()),
    }
}

/// RFC 5322 3.2.3: what an atom may have beside letters and digits.
const ATOM: &str = "!#$%&'*+-/=?^_`{|}~";

fn nfc(text: &str) -> String {
    const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
    NFC.normalize(text).into_owned()
}

#[cfg(test)]
mod tests;
