//! What is wrong with an old tree: collected with its place, never more than a screenful a kind.
//!
//! A refusal stops the take-over; a warning is for the operator to read. Nothing here decides
//! which is which by circumstance: each kind is one or the other, for ever.

use std::collections::BTreeMap;

use serde::Serialize;

/// So many of a kind are told in full; the rest are counted.
pub const TOLD_MAX: usize = 50;

/// A kind of problem. Each has a control id, which its tests name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// AD-01
    LineUnreadable,
    /// AD-02
    RevokedWithoutDate,
    /// AD-03
    SerialTwice,
    /// AD-04
    CopyUnreadable,
    /// AD-05
    CopyDiffers,
    /// AD-06
    CopyNotOurs,
    /// AD-07
    CertificateUnclear,
    /// AD-08
    KeyUnusable,
    /// AD-09
    KeyDiffers,
    /// AD-10
    CaOutOfDate,
    /// AD-11
    CaWeak,
    /// AD-12
    ChainMissing,
    /// AD-13
    SerialFile,
    /// AD-14
    CrlUnreadable,
    /// AD-15
    CrlNotOurs,
    /// AD-16
    CrlUnknownSerial,
    /// AD-17
    CrlNotRevoked,
    /// AD-18
    CrlNumberTooLarge,
    /// AD-19
    NameTaken,
    /// AD-20
    NothingFound,
    /// AW-01
    CopyMissing,
    /// AW-02
    CopyStray,
    /// AW-03
    CopyWeak,
    /// AW-04
    SubjectLabels,
    /// AW-05
    Comment,
    /// AW-06
    CrlIncomplete,
    /// AW-07
    CrlDateDiffers,
    /// AW-08
    CrlOfNobody,
    /// AW-09
    ProfileNotTaken,
    /// AW-10
    ProfileLess,
    /// AW-11
    RootWeak,
    /// AW-12
    SerialGap,
    /// AW-13
    NotTaken,
}

impl Kind {
    /// Whether nothing is taken over while there is one of these.
    pub fn refuses(self) -> bool {
        self < Self::CopyMissing
    }

    /// The word in JSON.
    pub fn word(self) -> &'static str {
        self.texts().0
    }

    /// What it is and what to do about it, in one sentence.
    pub fn advice(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::LineUnreadable => (
                "line-unreadable",
                "an index line cannot be read; correct the line in a copy of the tree, from the \
                 certificate itself or a backup",
            ),
            Self::RevokedWithoutDate => (
                "revoked-without-date",
                "an R line has no readable revocation date; write the date from the last CRL into \
                 the line",
            ),
            Self::SerialTwice => (
                "serial-twice",
                "two lines have one serial; find out which of them is the certificate that was \
                 issued, and take the other out",
            ),
            Self::CopyUnreadable => (
                "copy-unreadable",
                "a copy in newcerts cannot be read; restore it from a backup, or take it away: \
                 then its index line alone is adopted",
            ),
            Self::CopyDiffers => (
                "copy-differs",
                "a copy in newcerts is not the certificate that its index line speaks of; find out \
                 which is right before anything is taken over",
            ),
            Self::CopyNotOurs => (
                "copy-not-signed-by-this-ca",
                "a copy in newcerts was not signed by this authority's key; find out how it came \
                 there",
            ),
            Self::CertificateUnclear => (
                "ca-certificate-unclear",
                "it is not clear which file is the authority's certificate; name it with \
                 --certificate DIR=FILE, or leave the directory out with --without DIR",
            ),
            Self::KeyUnusable => (
                "key-unusable",
                "the authority's private key cannot be used; name it with --key DIR=FILE and its \
                 passphrase with --key-passphrase DIR=FILE, or leave the directory out with \
                 --without DIR",
            ),
            Self::KeyDiffers => (
                "key-differs",
                "the private key does not belong to the certificate; put the right pair there, or \
                 name them with --certificate DIR=FILE and --key DIR=FILE",
            ),
            Self::CaOutOfDate => (
                "ca-out-of-date",
                "the authority's certificate is not valid now, so it can sign nothing; leave the \
                 directory out with --without DIR, or put its renewed certificate there",
            ),
            Self::CaWeak => (
                "ca-weak",
                "the authority itself is too weak to sign on; renew it first, or leave the \
                 directory out with --without DIR",
            ),
            Self::ChainMissing => (
                "chain-missing",
                "the certificate of the authority above is nowhere in the tree; put it beside the \
                 authority's own as chain.pem",
            ),
            Self::SerialFile => (
                "serial-file",
                "the serial file does not stand above the index, so one of them is of another day; \
                 find out which, and restore the other",
            ),
            Self::CrlUnreadable => {
                ("crl-unreadable", "a CRL cannot be read; take it away if it is a cut copy")
            }
            Self::CrlNotOurs => (
                "crl-not-signed-by-this-ca",
                "a CRL names this authority but its key did not sign it; find out how it came there",
            ),
            Self::CrlUnknownSerial => (
                "crl-unknown-serial",
                "a CRL lists a serial that the index does not have; the index has lost a line: \
                 restore it from a backup",
            ),
            Self::CrlNotRevoked => (
                "crl-not-revoked",
                "a CRL lists a serial that the index shows as not revoked; the index is older than \
                 the CRL, or was changed: restore it",
            ),
            Self::CrlNumberTooLarge => (
                "crl-number-too-large",
                "the CRL numbers end at 2^62 here; renew the authority's key, so that its CRLs \
                 begin anew",
            ),
            Self::NameTaken => (
                "name-taken",
                "the name cannot be used in this store; choose another with --name DIR=NAME",
            ),
            Self::NothingFound => (
                "nothing-found",
                "there is nothing to take over: no directory below has an index.txt",
            ),
            Self::CopyMissing => (
                "copy-missing",
                "newcerts has no copy: the certificate is adopted from its index line alone and \
                 can be revoked, but not shown",
            ),
            Self::CopyStray => (
                "copy-without-line",
                "newcerts has a file that no index line speaks of; it is not taken over, and what \
                 it certifies can be revoked only after `openssl ca -revoke FILE` in the old tree \
                 has added its line",
            ),
            Self::CopyWeak => (
                "copy-weak",
                "a certificate that is still valid was signed with MD5 or SHA-1; it is taken over \
                 as it is; replace it",
            ),
            Self::SubjectLabels => (
                "subject-labels",
                "an index line names attributes as an older openssl did; the values agree, and the \
                 line stays as it is",
            ),
            Self::Comment => (
                "comment",
                "a comment in the index is not taken over; openssl drops it too when it writes next",
            ),
            Self::CrlIncomplete => (
                "crl-incomplete",
                "the newest CRL does not list a serial that was revoked before it; the first CRL \
                 here will",
            ),
            Self::CrlDateDiffers => (
                "crl-date-differs",
                "the newest CRL has another revocation date than the index; the first CRL here \
                 follows the index",
            ),
            Self::CrlOfNobody => (
                "crl-of-nobody",
                "a CRL is of none of the authorities that are taken over; it is left where it is",
            ),
            Self::ProfileNotTaken => (
                "profile-not-taken",
                "a configuration file became no profile; write the profile by hand if it is used",
            ),
            Self::ProfileLess => (
                "profile-less",
                "something of a configuration file could not be carried over; read the profile \
                 before the first request",
            ),
            Self::RootWeak => (
                "root-weak",
                "a self-signed certificate is signed with MD5 or SHA-1; no reader checks that \
                 signature, but some refuse the sight of it",
            ),
            Self::SerialGap => (
                "serial-gap",
                "serials below the serial file have no index line; they may be certificates that \
                 nobody can revoke",
            ),
            Self::NotTaken => ("not-taken", "something is not taken over"),
        }
    }
}

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line in it, from 1; 0 where it is the whole file.
    pub line: u64,
    /// What is seen there.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{} line {line}: {}", self.file, self.text),
        }
    }
}

/// The problems of one kind: the first of them, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The first, in the order of their places.
    pub told: Vec<Problem>,
    /// All of them.
    pub count: u64,
}

/// Everything that is wrong with a tree, by kind.
#[derive(Clone, Debug, Default)]
pub struct Problems(BTreeMap<Kind, Group>);

impl Problems {
    /// Adds a problem at a line of a file.
    pub fn at(
        &mut self,
        kind: Kind,
        file: impl std::fmt::Display,
        line: u64,
        text: impl Into<String>,
    ) {
        let group = self.0.entry(kind).or_default();
        group.count += 1;
        if group.told.len() < TOLD_MAX {
            group.told.push(Problem { file: file.to_string(), line, text: text.into() });
        }
    }

    /// Adds a problem with a whole file.
    pub fn with(&mut self, kind: Kind, file: impl std::fmt::Display, text: impl Into<String>) {
        self.at(kind, file, 0, text);
    }

    /// Takes in what another reader of the same tree found.
    pub fn merge(&mut self, other: Self) {
        for (kind, found) in other.0 {
            let group = self.0.entry(kind).or_default();
            group.count += found.count;
            group.told.extend(found.told);
            group.told.sort();
            group.told.truncate(TOLD_MAX);
        }
    }

    /// The groups, refusals first.
    pub fn groups(&self) -> impl Iterator<Item = (Kind, &Group)> {
        self.0.iter().map(|(kind, group)| (*kind, group))
    }

    /// How many refusals there are.
    pub fn refusals(&self) -> u64 {
        self.groups().filter(|(kind, _)| kind.refuses()).map(|(_, group)| group.count).sum()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> u64 {
        self.groups().filter(|(kind, _)| !kind.refuses()).map(|(_, group)| group.count).sum()
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let group = |(kind, group): (Kind, &Group)| {
            serde_json::json!({
                "kind": kind.word(),
                "refuses": kind.refuses(),
                "advice": kind.advice(),
                "count": group.count,
                "told": group.told,
            })
        };
        self.groups().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_fifty_of_a_kind_are_told_and_all_are_counted() {
        let (mut even, mut odd) = (Problems::default(), Problems::default());
        for line in 1..=200 {
            let half = if line % 2 == 0 { &mut even } else { &mut odd };
            half.at(Kind::LineUnreadable, "index.txt", line, "it is cut");
        }
        even.merge(odd);
        let (kind, group) = even.groups().next().unwrap();
        assert_eq!((kind, group.count, even.refusals()), (Kind::LineUnreadable, 200, 200));
        let lines: Vec<u64> = group.told.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, (1..=50).collect::<Vec<u64>>(), "two readers, one list");
    }

    #[test]
    fn warnings_refuse_nothing() {
        let mut problems = Problems::default();
        problems.with(Kind::CopyMissing, "newcerts/01.pem", "it is not there");
        assert_eq!((problems.refusals(), problems.warnings()), (0, 1));
    }
}
