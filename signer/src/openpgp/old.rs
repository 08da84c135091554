//! What programs before schema version 3 kept: one key without a name, and certificates whose
//! parts the ledger did not know.
//!
//! The key keeps its fingerprint and what it says; nothing is signed here.

use std::{fs, path::Path};

use protocol::message::{DEFAULT_POLICY, Name, Serial};
use sequoia_openpgp::Packet;
use serde::Deserialize;

use super::{Layout, UNNAMED, internal, policy};
use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    intake::openpgp::{
        one_packet,
        packets::{self, Raw, tag},
    },
    ledger::CertifiedUserId,
};

/// `openpgp/certification.toml` of an old store. // stored
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Terms {
    positive: bool,
    policy_uri: Option<String>,
    notation: Option<(String, String)>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { positive: true, policy_uri: None, notation: None }
    }
}

/// Moves the key of an old store, which had no name, to the directory of authority
/// [`UNNAMED`], with a policy that says what its terms said. It may be cut off anywhere: the key
/// moves last.
pub(super) fn give_name(store: &Path) -> Result<(), Fault> {
    let directory = store.join("openpgp");
    let secret = directory.join("secret.pgp");
    if !secret.exists() {
        return Ok(());
    }
    let name: Name = UNNAMED.parse().map_err(internal)?;
    let layout = Layout::new(store, &name);
    if layout.secret().exists() {
        return Err(Fault::Configuration(format!(
            "{} and {} are both there; move away the one that is not this store's",
            secret.display(),
            layout.secret().display()
        )));
    }
    durable::directory(layout.directory(), 0o700)?;
    durable::directory(&layout.policies(), 0o755)?;
    let terms = directory.join("certification.toml");
    let terms = match terms.exists() {
        true => toml::from_str(&durable::read_text(&terms)?).map_err(|error| {
            Fault::Configuration(format!("{} is wrong: {error}", terms.display()))
        })?,
        false => Terms::default(),
    };
    let file = layout.policies().join(format!("{DEFAULT_POLICY}.toml"));
    durable::replace(&file, policy_of(&terms).as_bytes(), 0o644)?;
    let public = directory.join("public.asc");
    if public.exists() {
        durable::replace(&layout.public(), &durable::read(&public)?, 0o644)?;
    }
    durable::crash_point("rename", &secret)?;
    fs::rename(&secret, layout.secret()).map_err(Fault::disk("rename", &secret))?;
    durable::sync_directory(&layout.secret())?;
    durable::sync_directory(&secret)
}

/// The shipped policy with what the old terms said.
fn policy_of(terms: &Terms) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = policy::DEFAULT.to_owned();
    if !terms.positive {
        text = text.replace("level = \"positive\"", "level = \"generic\"");
    }
    if let Some(uri) = &terms.policy_uri {
        text = text.replace(
            "#policy_uri = \"https://ca.example.org/openpgp-policy\"",
            &format!("policy_uri = {}", quoted(uri)),
        );
    }
    if let Some((name, value)) = &terms.notation {
        let example = "#[[notation]]\n#name = \"checked@ca.example.org\"\n#value = \"in person\"";
        let notation = format!("[[notation]]\nname = {}\nvalue = {}", quoted(name), quoted(value));
        text = text.replace(example, &notation);
    }
    text
}

//------------ Certificates --------------------------------------------------

/// The length of the primary key's part of a certificate that an old program stored, and its user
/// IDs, each with its self-signature and one certification; nothing if it is none.
pub fn parts(certificate: &[u8]) -> Option<(usize, Vec<CertifiedUserId>)> {
    let packets = packets::split(certificate, 1024).ok()?;
    let mut user_ids = Vec::new();
    let (mut at, mut head) = (0, None);
    let mut rest = packets.as_slice();
    while let [first, after @ ..] = rest {
        rest = after;
        if first.tag == tag::USER_ID {
            head.get_or_insert(at);
            let [own, ours, after @ ..] = rest else { return None };
            rest = after;
            user_ids.push(user_id(at, *first, *own, *ours)?);
            at += own.whole.len() + ours.whole.len();
        }
        at += first.whole.len();
    }
    Some((head?, user_ids))
}

fn user_id(at: usize, first: Raw<'_>, own: Raw<'_>, ours: Raw<'_>) -> Option<CertifiedUserId> {
    let Packet::Signature(signature) = one_packet(ours.whole)? else { return None };
    let made = signature.signature_creation_time()?;
    let seconds = made.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let lasts = signature.signature_validity_period()?.as_secs();
    Some(CertifiedUserId {
        user_id: std::str::from_utf8(first.body).ok()?.to_owned(),
        serial: None::<Serial>,
        expires: UnixTime(i64::try_from(seconds + lasts).ok()?),
        offset: at,
        own: first.whole.len() + own.whole.len(),
        ours: ours.whole.len(),
    })
}
