//! `signer pair`: shows this signer's key to a person, and takes the frontend's from one.
//!
//! Nothing on the cable can pair or unpair. A key that is there is replaced only when a person
//! says so, and a running signer takes a new one by itself, see `run`.

use std::path::Path;

use clap::Args;
use protocol::secure::{Entropy, PublicKey};
use serde_json::json;

use super::Failure;
use crate::{durable::Lock, fault::Fault, link_key};

/// `signer pair`
#[derive(Debug, Args)]
pub(super) struct PairArguments {
    /// Show this signer's key, and with whom it is paired; the same without any option
    #[arg(long)]
    show: bool,
    /// The key that `frontend pair --show` prints at the other machine
    #[arg(long, value_name = "KEY")]
    peer: Option<PublicKey>,
    /// Give up the frontend that this signer is paired with now
    #[arg(long, requires = "peer")]
    replace: bool,
}

/// Pairs, if asked to, then shows both keys.
pub(super) fn pair(
    store: &Path,
    arguments: &PairArguments,
    entropy: &Entropy,
    as_json: bool,
) -> Result<(), Failure> {
    let lock = Lock::wait(&store.join("console.lock"))?;
    let own = link_key::own(store, entropy)?.public();
    let mut changed = false;
    if let Some(key) = &arguments.peer {
        changed = take(store, &own, key, arguments.replace)?;
    }
    drop(lock);
    let peer = link_key::peer(store)?;
    // The running signer holds this lock.
    let running = Lock::is_taken(&store.join("lock"))?;
    if as_json {
        let key = |key: &PublicKey| json!({ "key": key.to_string(), "fingerprint": key.fingerprint().to_string() });
        say!("{}", json!({ "signer": key(&own), "frontend": peer.as_ref().map(key) }));
        return Ok(());
    }
    say!("this signer's key   {own}");
    say!("  fingerprint       {}", own.fingerprint());
    match &peer {
        Some(peer) => {
            say!("the frontend's key  {peer}");
            say!("  fingerprint       {}", peer.fingerprint());
            say!("");
            say!("Compare both fingerprints with those of `frontend pair --show`, by telephone.");
        }
        None => {
            say!("the frontend's key  none: not paired, so this signer talks to nobody");
            say!("");
            say!("Type the key above at the frontend: frontend pair --peer KEY");
            say!("and the frontend's here:            signer pair --peer KEY");
        }
    }
    if changed && running {
        say!("The running signer takes the new key within a few seconds.");
    }
    Ok(())
}

/// Stores the frontend's key; false if it is the one that is there.
fn take(store: &Path, own: &PublicKey, key: &PublicKey, replace: bool) -> Result<bool, Fault> {
    if key == own {
        return Err(Fault::Configuration(
            "that is this signer's own key; type the one that `frontend pair --show` prints at \
             the other machine"
                .into(),
        ));
    }
    match link_key::peer(store) {
        Ok(Some(known)) if known == *key => return Ok(false),
        Ok(Some(known)) if !replace => {
            return Err(Fault::Configuration(format!(
                "this signer is paired with the frontend of fingerprint {}; add --replace if that \
                 one is to be given up",
                known.fingerprint()
            )));
        }
        // A damaged file is replaced like another key.
        Err(fault) if !replace => return Err(fault),
        _ => {}
    }
    link_key::set_peer(store, key)?;
    tracing::info!(fingerprint = %key.fingerprint(), "paired");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use protocol::secure::SecretKey;

    use super::*;

    fn key(seed: u64) -> PublicKey {
        SecretKey::generate(&Entropy::seeded(seed)).public()
    }

    fn typed(store: &Path, peer: Option<PublicKey>, replace: bool) -> Result<(), Failure> {
        let arguments = PairArguments { show: false, peer, replace };
        pair(store, &arguments, &Entropy::seeded(1), true)
    }

    #[test]
    fn a_key_is_taken_once_and_replaced_only_on_a_person_s_word() {
        let store = tempfile::tempdir().unwrap();
        typed(store.path(), None, false).unwrap();
        assert_eq!(link_key::peer(store.path()).unwrap(), None);
        typed(store.path(), Some(key(2)), false).unwrap();
        typed(store.path(), Some(key(2)), false).unwrap();
        let refused = typed(store.path(), Some(key(3)), false).unwrap_err().to_string();
        assert!(refused.contains("add --replace"), "{refused}");
        assert!(refused.contains(&key(2).fingerprint().to_string()), "{refused}");
        assert_eq!(link_key::peer(store.path()).unwrap(), Some(key(2)));
        typed(store.path(), Some(key(3)), true).unwrap();
        assert_eq!(link_key::peer(store.path()).unwrap(), Some(key(3)));
    }

    #[test]
    fn a_signer_is_not_paired_with_itself() {
        let store = tempfile::tempdir().unwrap();
        let own = link_key::own(store.path(), &Entropy::seeded(1)).unwrap().public();
        let refused = typed(store.path(), Some(own), true).unwrap_err().to_string();
        assert!(refused.contains("own key"), "{refused}");
        assert_eq!(link_key::peer(store.path()).unwrap(), None);
    }
}
