//! rPGP, an OpenPGP program that shares no code with ours: it makes keys of version 6 (RFC 9580),
//! which no program of Debian 12 can, and keys that none of them agrees to make.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Process, judges::judge, world::COMMAND_MAX};

/// A key that rPGP is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'w> {
    /// 4 or 6.
    pub version: u8,
    /// `ed25519`, `ed448`, `p256`, `rsa1024`, `rsa3072`; `ed25519-legacy` for version 4.
    pub kind: &'static str,
    /// Its user IDs, at least one.
    pub user_ids: &'w [&'w str],
    /// Whether its key flags let it certify.
    pub certifies: bool,
    /// Whether it has a subkey to encrypt to.
    pub encrypts: bool,
    /// When it is made, in seconds since 1970-01-01 UTC; absent means now.
    pub created: Option<u32>,
}

impl<'w> Wish<'w> {
    /// A key of version 6 as people would have it.
    pub fn version_6(user_ids: &'w [&'w str]) -> Self {
        Self {
            version: 6,
            kind: "ed25519",
            user_ids,
            certifies: true,
            encrypts: true,
            created: None,
        }
    }
}

/// A key that rPGP made.
#[derive(Clone, Debug)]
pub struct Made {
    /// In upper-case hexadecimal.
    pub fingerprint: String,
    /// The public key, binary.
    pub public: Vec<u8>,
    /// The secret key, binary and without a passphrase.
    pub secret: Vec<u8>,
}

/// Makes a key.
pub fn make(wish: Wish<'_>) -> Result<Made> {
    make_all(&[wish])?.pop().context("one key")
}

/// Makes many keys in one process, in this order.
pub fn make_all(wishes: &[Wish<'_>]) -> Result<Vec<Made>> {
    let wishes = wishes.iter().map(|wish| {
        json!({
            "version": wish.version,
            "kind": wish.kind,
            "user_ids": wish.user_ids,
            "certifies": wish.certifies,
            "encrypts": wish.encrypts,
            "created": wish.created,
        })
    });
    let made = ask(wishes.collect())?;
    made.iter()
        .map(|made| {
            let fingerprint = made["fingerprint"].as_str().context("a fingerprint")?.to_owned();
            let (public, secret) = (octets(&made["public"])?, octets(&made["secret"])?);
            Ok(Made { fingerprint, public, secret })
        })
        .collect()
}

/// What rPGP reads in these public keys, binary.
pub fn read(keys: &[u8]) -> Result<Vec<Value>> {
    let text: String = keys.iter().map(|octet| format!("{octet:02x}")).collect();
    let said = ask(vec![json!({ "read": text })])?;
    Ok(said[0]["keys"].as_array().context("a list of keys")?.clone())
}

/// The answers to these wishes, one for each.
fn ask(wishes: Vec<Value>) -> Result<Vec<Value>> {
    let input = serde_json::to_vec(&wishes)?;
    let words = ["-c", include_str!("../../judges/rpgp.py")];
    let said = Process::run(&judge("python")?, words, &[], Some(&input), COMMAND_MAX)?.done()?;
    let answers: Vec<Value> = serde_json::from_slice(&said.stdout)?;
    ensure!(answers.len() == wishes.len(), "{} of {} answers", answers.len(), wishes.len());
    Ok(answers)
}

fn octets(text: &Value) -> Result<Vec<u8>> {
    let text = text.as_str().context("octets in hexadecimal")?;
    (0..text.len() / 2)
        .map(|at| Ok(u8::from_str_radix(text.get(2 * at..2 * at + 2).context("no ASCII")?, 16)?))
        .collect()
}
