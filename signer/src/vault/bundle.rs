//! Which bundles of requests are taken: each number once and rising, and the last one again.
//!
//! The numbers come from the gate, which opened the bundle with the link's key; nothing here sees
//! the file. A refusal is a sentence for the person at the console.

use protocol::message::Digest;
use serde::{Deserialize, Serialize};

use super::{Vault, ready};
use crate::{clock::Moment, fault::Fault, ledger::BundleRow};

/// The longest jump of a bundle's number on the frontend's word: one past it would leave no
/// numbers for those to come.
pub const BUNDLE_JUMP_MAX: u64 = 1 << 20;

/// What a bundle says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFacts {
    /// The frontend's public key.
    pub peer: [u8; 32],
    /// The bundle's number.
    pub number: u64,
    /// The last bundle of answers that the frontend took in; 0 before the first.
    pub taken_in: u64,
    /// The SHA-256 of what is in it.
    pub digest: Digest,
}

/// Whether a bundle is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleVerdict {
    /// It is; under this number it is answered.
    Taken {
        /// The number of the answers.
        answer: u64,
        /// Whether the same bundle was answered before.
        again: bool,
    },
    /// It is not, for this reason.
    Refused(String),
}

impl Vault {
    /// Decides about a bundle, and notes it before anything in it is looked at.
    pub fn take_bundle(
        &mut self,
        now: Moment,
        facts: &BundleFacts,
    ) -> Result<BundleVerdict, Fault> {
        let last = self.ledger.last_bundle(&facts.peer)?;
        let verdict = judge(facts, last.as_ref());
        if let BundleVerdict::Taken { answer, .. } = verdict {
            ready::check_clock(now, self.ledger.time_floor()?)?;
            let time = self.signing_time(now)?;
            let answered = last.map_or(0, |last| last.answer);
            if facts.taken_in > answered {
                self.warn(format!(
                    "the webdb has taken in answers number {}, and this store knows of {answered}: \
                     it was restored from a backup, see hsm-docs/daily.md",
                    facts.taken_in
                ));
            }
            let mut tx = self.ledger.begin(time)?;
            tx.note_bundle(&facts.peer, facts.number, facts.digest, answer)?;
            tx.commit()?;
            self.follow_audit()?;
        }
        Ok(verdict)
    }

    /// Signs the CRLs for which revocations wait, however short ago the last was signed: the next
    /// medium may come in weeks.
    pub fn sign_crls_of_bundle(&mut self, now: Moment) -> Result<(), Fault> {
        let mut names = Vec::new();
        for authority in self.authorities.values().filter(|one| one.signs_unattended()) {
            if self.ledger.lacks_changes(authority.id())? {
                names.push(authority.name().clone());
            }
        }
        names.iter().try_for_each(|name| self.sign_crl(name, now))
    }

    /// What the operator should hear of.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn judge(facts: &BundleFacts, last: Option<&BundleRow>) -> BundleVerdict {
    let (number, taken_in) = (facts.number, facts.taken_in);
    let (last_number, last_answer) = last.map_or((0, 0), |last| (last.number, last.answer));
    let refused = |text: String| BundleVerdict::Refused(text);
    if number == 0 || number - last_number.min(number) > BUNDLE_JUMP_MAX {
        return refused(format!(
            "bundle {number} does not come after bundle {last_number}: the numbers jump too far; \
             pair the webdb anew"
        ));
    }
    if taken_in.saturating_sub(last_answer) > BUNDLE_JUMP_MAX {
        return refused(format!(
            "bundle {number} says that answers number {taken_in} were taken in, and {last_answer} \
             were given: the numbers jump too far; pair the webdb anew"
        ));
    }
    let answer = last_answer.max(taken_in) + 1;
    match last {
        Some(last) if number < last.number => refused(format!(
            "bundle {number} is old: bundle {} was answered at {}; whatever has no answer yet is \
             in the newest, so write another with `frontend bundle export`",
            last.number, last.at
        )),
        Some(last) if number == last.number && facts.digest != last.digest => refused(format!(
            "another bundle with the number {number} was answered at {}: the webdb was restored \
             from a backup; write a new one there with `frontend bundle export --after {number}`",
            last.at
        )),
        _ => BundleVerdict::Taken { answer, again: number == last_number },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::UnixTime;

    fn facts(number: u64, taken_in: u64) -> BundleFacts {
        BundleFacts { peer: [1; 32], number, taken_in, digest: Digest::of(&number.to_le_bytes()) }
    }

    fn row(number: u64, answer: u64) -> BundleRow {
        let digest = Digest::of(&number.to_le_bytes());
        BundleRow { number, digest, answer, at: UnixTime(0) }
    }

    fn taken(answer: u64, again: bool) -> BundleVerdict {
        BundleVerdict::Taken { answer, again }
    }

    // MEDIA-4: numbers rise; the last bundle may be answered again, under a new number.
    #[test]
    fn numbers_rise_and_the_last_bundle_may_come_again() {
        assert_eq!(judge(&facts(1, 0), None), taken(1, false));
        assert_eq!(judge(&facts(9, 0), None), taken(1, false));
        assert_eq!(judge(&facts(10, 1), Some(&row(9, 1))), taken(2, false));
        assert_eq!(judge(&facts(9, 0), Some(&row(9, 3))), taken(4, true));
    }

    #[test]
    fn old_bundle_and_another_of_the_same_number_are_refused_with_what_to_do() {
        let told = |facts, row| match judge(&facts, Some(&row)) {
            BundleVerdict::Refused(text) => text,
            taken => panic!("{taken:?}"),
        };
        let text = told(facts(8, 0), row(9, 3));
        assert!(text.starts_with("bundle 8 is old: bundle 9 was answered at 1970"), "{text}");
        let other = BundleFacts { digest: Digest::of(b"other"), ..facts(9, 0) };
        assert!(told(other, row(9, 3)).contains("--after 9"));
        assert!(told(facts(0, 0), row(9, 3)).contains("jump"));
        assert!(told(facts(10 + BUNDLE_JUMP_MAX, 0), row(9, 3)).contains("jump"));
        assert!(told(facts(10, 4 + BUNDLE_JUMP_MAX), row(9, 3)).contains("jump"));
        assert!(told(facts(u64::MAX, u64::MAX), row(9, 3)).contains("jump"));
    }

    // A signer restored from a backup goes on above what the webdb has seen.
    #[test]
    fn answers_are_numbered_above_what_the_frontend_has_seen() {
        assert_eq!(judge(&facts(20, 12), Some(&row(9, 3))), taken(13, false));
    }
}
