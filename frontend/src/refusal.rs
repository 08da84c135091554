//! A rule that says no, in the words of the signer's refusals.
//!
//! Nothing here decides; every room that checks something refuses with this.

use protocol::message::RefusalCode;

/// A rule says no: an answer with a public code, not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused ({code}): {text}")]
pub struct Refusal {
    /// Which rule.
    pub code: RefusalCode,
    /// What, where and what to do, for a person.
    pub text: String,
}

impl Refusal {
    /// A refusal by `code` because of `fact`; the code's remedy is added.
    pub fn new(code: RefusalCode, fact: impl std::fmt::Display) -> Self {
        Self { code, text: format!("{fact}; {}", code.remedy()) }
    }
}
