//! The key of a connection's frames: with it nobody but the two ends can make a frame.
//!
//! A tag takes the place of the CRC and is as long, so a frame costs no byte more, and of broken
//! frames as few pass. It guards no secret and no meaning, which the records above do with tags of
//! sixteen bytes: whoever forges one of its four wins a delay.

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use super::CRC_LEN;
use crate::link::Side;

/// The length of a key.
pub const FRAME_KEY_LEN: usize = 32;
/// What SHA-256 takes at once: RFC 2104 pads a key to that.
const BLOCK_LEN: usize = 64;
/// What the derivation of every frame key begins with.
const LABEL: &[u8] = b"isolated signer link frames 1";

/// The key of the frames of one direction of one connection.
pub struct FrameKey(Zeroizing<[u8; FRAME_KEY_LEN]>);

impl FrameKey {
    /// The key of what `sender` sends: from a secret that only the two ends have, and a hash that
    /// only this connection has.
    pub fn derive(secret: &[u8; FRAME_KEY_LEN], sender: Side, connection: &[u8]) -> Self {
        Self(Zeroizing::new(hmac_sha_256(secret, &[LABEL, &[sender.code()], connection])))
    }

    /// The first bytes of the HMAC-SHA-256 of prefix and body.
    pub(super) fn tag(&self, prefix: &[u8], body: &[u8]) -> [u8; CRC_LEN] {
        let mac = hmac_sha_256(&self.0, &[prefix, body]);
        std::array::from_fn(|at| mac[at])
    }
}

impl std::fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameKey")
    }
}

/// The keys of both directions, as one end has them.
#[derive(Debug)]
pub struct FrameKeys {
    /// For what we send.
    pub sending: FrameKey,
    /// For what we receive.
    pub receiving: FrameKey,
}

/// RFC 2104.
fn hmac_sha_256(key: &[u8; FRAME_KEY_LEN], text: &[&[u8]]) -> [u8; FRAME_KEY_LEN] {
    let hash_of = |pad: u8, text: &[&[u8]]| {
        let mut block = Zeroizing::new([pad; BLOCK_LEN]);
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        let mut hash = Sha256::new();
        hash.update(&*block);
        text.iter().for_each(|part| hash.update(part));
        hash.finish()
    };
    let inner = hash_of(0x36, text);
    hash_of(0x5c, &[&inner])
}

const _: () = assert!(FRAME_KEY_LEN <= BLOCK_LEN && CRC_LEN <= FRAME_KEY_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_hmac_of_libcrypto_whatever_the_pieces() {
        use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
        for length in [0, 1, 55, 56, 63, 64, 65, 1000] {
            let key: [u8; FRAME_KEY_LEN] = std::array::from_fn(|at| (at * 7 + length) as u8);
            let text: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let libcrypto_key = PKey::hmac(&key).unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &libcrypto_key).unwrap();
            let expected = signer.sign_oneshot_to_vec(&text).unwrap();
            let (one, two) = text.split_at(length / 3);
            assert_eq!(hmac_sha_256(&key, &[one, two])[..], expected);
            let key = FrameKey(Zeroizing::new(key));
            assert_eq!(key.tag(one, two)[..], expected[..CRC_LEN]);
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = FrameKey::derive(&[0x5a; FRAME_KEY_LEN], Side::Signer, b"");
        assert_eq!(format!("{key:?}"), "FrameKey");
    }
}
