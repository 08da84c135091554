//! Profiles: what an administrator writes as TOML, and what `openssl ca` was told before.

use protocol::message::Name;
use signer::profile::{Profile, import};

/// The first byte says which of the two it is.
pub fn run(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if choice % 2 == 0 {
        let name: Name = "strange".parse().expect("lower-case letters are a name");
        if let Err(faults) = Profile::parse(name, text) {
            assert!(!faults.to_string().is_empty());
        }
    } else if let Err(error) = import::from_openssl(text, None, None) {
        assert!(!error.to_string().is_empty());
    }
}
