//! `pair`: shows this frontend's key to a person, and takes the signer's from one.
//!
//! A key that is there is replaced only when a person says so, and a running carrier takes a new
//! one by itself.

use protocol::secure::{Entropy, PublicKey};
use serde_json::json;

use super::show;
use crate::{
    cli::{Cli, Pair},
    error::Failure,
    home::Home,
    link_key::LinkKeys,
};

/// `frontend pair`
pub(super) fn pair(cli: &Cli, home: &Home, pair: &Pair, entropy: &Entropy) -> Result<(), Failure> {
    let keys = home.link_keys();
    let own = keys.own(entropy)?.public();
    let mut changed = false;
    if let Some(key) = &pair.peer {
        changed = take(&keys, &own, key, pair.replace)?;
    }
    let peer = keys.peer()?;
    let mut lines = vec![
        format!("this frontend's key  {own}"),
        format!("  fingerprint        {}", own.fingerprint()),
    ];
    match &peer {
        Some(peer) => lines.extend([
            format!("the signer's key     {peer}"),
            format!("  fingerprint        {}", peer.fingerprint()),
            String::new(),
            "Compare both fingerprints with those of `signer pair --show`, by telephone.".into(),
        ]),
        None => lines.extend([
            "the signer's key     none: not paired, so this frontend talks to nobody".into(),
            String::new(),
            "Type the key above at the signer: signer pair --peer KEY".into(),
            "and the signer's here:            frontend pair --peer KEY".into(),
        ]),
    }
    if changed && home.is_running() {
        lines.push("The running carrier takes the new key within a few seconds.".into());
    }
    let key = |key: &PublicKey| json!({ "key": key.to_string(), "fingerprint": key.fingerprint().to_string() });
    let value = json!({ "frontend": key(&own), "signer": peer.as_ref().map(key) });
    show(cli, &lines.join("\n"), &value)
}

/// Stores the signer's key; false if it is the one that is there.
fn take(keys: &LinkKeys, own: &PublicKey, key: &PublicKey, replace: bool) -> Result<bool, Failure> {
    if key == own {
        return Err(Failure::Usage(
            "that is this frontend's own key; type the one that `signer pair --show` prints at \
             the other machine"
                .into(),
        ));
    }
    match keys.peer() {
        Ok(Some(known)) if known == *key => return Ok(false),
        Ok(Some(known)) if !replace => {
            return Err(Failure::Usage(format!(
                "this frontend is paired with the signer of fingerprint {}; add --replace if that \
                 one is to be given up",
                known.fingerprint()
            )));
        }
        // A damaged file is replaced like another key.
        Err(error) if !replace => return Err(error.into()),
        _ => {}
    }
    keys.set_peer(key)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use protocol::secure::SecretKey;

    use super::*;

    #[test]
    fn a_key_is_taken_once_and_replaced_only_on_a_person_s_word() {
        let dir = tempfile::tempdir().unwrap();
        let keys = LinkKeys::new(dir.path());
        let key = |seed| SecretKey::generate(&Entropy::seeded(seed)).public();
        assert!(take(&keys, &key(1), &key(2), false).unwrap());
        assert!(!take(&keys, &key(1), &key(2), false).unwrap());
        let refused = take(&keys, &key(1), &key(3), false).unwrap_err();
        assert_eq!(refused.exit_code(), 4);
        assert!(refused.to_string().contains(&key(2).fingerprint().to_string()), "{refused}");
        assert!(take(&keys, &key(1), &key(3), true).unwrap());
        assert_eq!(keys.peer().unwrap(), Some(key(3)));
        let refused = take(&keys, &key(1), &key(1), true).unwrap_err().to_string();
        assert!(refused.contains("own key"), "{refused}");
    }
}
