//! A refusal: the rules say no, and asking again without a change gives the same answer.

use std::fmt;

use protocol::message::RefusalCode;

/// Which rule says no, and a sentence for a person: what, where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule.
    pub code: RefusalCode,
    /// The sentence.
    pub text: String,
}

impl Refusal {
    /// A refusal by the rule `code`.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Refusal {}
