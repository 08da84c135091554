//! Puts together what is handed out: keys with our certifications, for a keyring or for a Web Key
//! Directory.
//!
//! A certification that stands is exported with its user ID. One that was taken back goes into a
//! keyring as the revocation, for good, so that who has a certification learns of it, be it an
//! earlier and longer one; a directory drops the user ID. Nothing here writes a file.

use std::collections::{BTreeMap, BTreeSet};

use sequoia_openpgp::{
    Packet,
    cert::{Cert, amalgamation::UserIDAmalgamation},
    parse::Parse,
    serialize::Serialize,
};

use super::{
    register::{Entry, Register, TakenBack},
    wkd::Mailbox,
};
use crate::store::StoreError;

/// One key and what may be said of it.
#[derive(Clone, Debug)]
pub struct Exported {
    cert: Cert,
    entries: Vec<Entry>,
    /// Taken back, and told by no entry.
    untold: Vec<TakenBack>,
    unix_s: i64,
}

/// What there is to hand out at `unix_s`, by `authority` or by all: keys with a certification that
/// stands or was taken back, by fingerprint.
pub fn keys(
    register: &Register<'_>,
    authority: Option<&str>,
    unix_s: i64,
) -> Result<Vec<Exported>, StoreError> {
    let mut by_key: BTreeMap<String, (Vec<Entry>, Vec<TakenBack>)> = BTreeMap::new();
    let all = register.all()?.into_iter();
    let told = all.filter(|entry| entry.revocation.is_some() || unix_s < entry.expires_at);
    for entry in told.filter(|entry| authority.is_none_or(|name| entry.authority == name)) {
        by_key.entry(entry.fingerprint.clone()).or_default().0.push(entry);
    }
    for (fingerprint, one) in register.taken_back_untold(authority, unix_s)? {
        by_key.entry(fingerprint).or_default().1.push(one);
    }
    let mut exported = Vec::new();
    for (fingerprint, (entries, untold)) in by_key {
        let damaged = StoreError::Damaged { what: "OpenPGP key" };
        let cert = register.key(&fingerprint)?.ok_or(damaged)?;
        exported.push(Exported { cert, entries, untold, unix_s });
    }
    Ok(exported)
}

impl Exported {
    /// The primary key's fingerprint.
    pub fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex()
    }

    /// Whether any certification of it stands.
    pub fn is_certified(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_valid(self.unix_s))
    }

    /// When it was last certified.
    pub fn certified_at(&self) -> i64 {
        self.entries.iter().map(|entry| entry.created_at).max().unwrap_or_default()
    }

    /// The addresses of user IDs whose certification stands.
    pub fn mailboxes(&self) -> BTreeSet<Mailbox> {
        let valid = self.entries.iter().filter(|entry| entry.is_valid(self.unix_s));
        valid.filter_map(|entry| Mailbox::of_user_id(&entry.user_id)).collect()
    }

    /// The user IDs whose certification stands and that no directory can hold.
    pub fn without_address(&self) -> usize {
        let valid = self.entries.iter().filter(|entry| entry.is_valid(self.unix_s));
        valid.filter(|entry| Mailbox::of_user_id(&entry.user_id).is_none()).count()
    }

    /// For a keyring: every user ID that is certified or was, with our last word on it. Binary.
    pub fn for_keyring(&self) -> Result<Vec<u8>, StoreError> {
        self.write(|user_id| {
            let said = self.entries.iter().filter(|entry| entry.user_id.as_bytes() == user_id);
            let said = said.map(|entry| entry.revocation.as_ref().unwrap_or(&entry.certification));
            let untold = self.untold.iter().filter(|one| one.user_id.as_bytes() == user_id);
            said.chain(untold.map(|one| &one.revocation)).collect()
        })
    }

    /// For the directory of a domain: only certified user IDs of that domain. Binary.
    pub fn for_domain(&self, domain: &str) -> Result<Vec<u8>, StoreError> {
        self.write(|user_id| {
            let standing = self.entries.iter().filter(|entry| {
                entry.user_id.as_bytes() == user_id
                    && entry.is_valid(self.unix_s)
                    && Mailbox::of_user_id(&entry.user_id).is_some_and(|one| one.domain() == domain)
            });
            standing.map(|entry| &entry.certification).collect()
        })
    }

    /// The key with the user IDs of which `words` has any: signatures by the authorities.
    fn write<'w>(
        &'w self,
        words: impl Fn(&[u8]) -> Vec<&'w Vec<u8>>,
    ) -> Result<Vec<u8>, StoreError> {
        let damaged = |_| StoreError::Damaged { what: "OpenPGP key" };
        let mut bytes = Vec::new();
        let primary = self.cert.primary_key();
        put(&mut bytes, Packet::from(primary.key().clone())).map_err(damaged)?;
        let own = primary.self_revocations().chain(primary.self_signatures());
        own.cloned().try_for_each(|one| put(&mut bytes, one.into())).map_err(damaged)?;
        for user_id in self.cert.userids() {
            let words = words(user_id.userid().value());
            if !words.is_empty() {
                write_user_id(&mut bytes, &user_id, &words).map_err(damaged)?;
            }
        }
        for subkey in self.cert.keys().subkeys() {
            put(&mut bytes, Packet::from(subkey.key().clone())).map_err(damaged)?;
            let own = subkey.self_revocations().chain(subkey.self_signatures());
            own.cloned().try_for_each(|one| put(&mut bytes, one.into())).map_err(damaged)?;
        }
        Ok(bytes)
    }
}

fn write_user_id(
    bytes: &mut Vec<u8>,
    user_id: &UserIDAmalgamation<'_>,
    words: &[&Vec<u8>],
) -> sequoia_openpgp::Result<()> {
    put(bytes, Packet::from(user_id.userid().clone()))?;
    let own = user_id.self_revocations().chain(user_id.self_signatures());
    own.cloned().try_for_each(|one| put(bytes, one.into()))?;
    for word in words {
        // Read once more: what the store gives is written only if it is a signature.
        let packet = Packet::from_bytes(word)?;
        if !matches!(packet, Packet::Signature(_)) {
            return Err(sequoia_openpgp::Error::MalformedPacket(NO_SIGNATURE.into()).into());
        }
        put(bytes, packet)?;
    }
    Ok(())
}

const NO_SIGNATURE: &str = "a certification in the store is no signature";

fn put(bytes: &mut Vec<u8>, packet: Packet) -> sequoia_openpgp::Result<()> {
    packet.serialize(bytes)
}
