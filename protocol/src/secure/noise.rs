//! Noise with the system's libcrypto underneath, and with the randomness that is passed in.
//!
//! `snow` keeps the order of the handshake; X25519, ChaCha20-Poly1305 and BLAKE2s come from
//! libcrypto, as all cryptography here does, so that the system's fixes reach them too. Nothing
//! is decided here: what a message that does not open means, the rooms above say.

use std::sync::Mutex;

use openssl::{
    derive::Deriver,
    hash::{Hasher, MessageDigest},
    pkey::{Id, PKey, Private},
    symm,
};
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice, NoiseParams},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::{
    Failure,
    key::{Entropy, KEY_LEN, Pairing},
};

/// The handshake of a session: both ends know each other's static key.
pub(super) const SESSION: &str = "Noise_KK_25519_ChaChaPoly_BLAKE2s";
/// The same for what travels one way only.
pub(super) const FILE: &str = "Noise_K_25519_ChaChaPoly_BLAKE2s";

/// What sealing adds to a message.
pub(super) const TAG_LEN: usize = 16;
/// The length of every handshake message used here: an ephemeral key, and a tag.
pub(super) const MESSAGE_LEN: usize = KEY_LEN + TAG_LEN;

/// Which part an end takes in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Initiator,
    Responder,
}

/// The beginning of a handshake; it draws what it needs from `entropy` now. Who sends nothing
/// needs none.
pub(super) fn begin(
    pattern: &str,
    part: Part,
    pairing: &Pairing,
    entropy: Option<&Entropy>,
    prologue: &[u8],
) -> Result<Box<HandshakeState>, Failure> {
    let params: NoiseParams = pattern.parse().map_err(|_| Failure::Unable)?;
    let seed = entropy.map(|entropy| {
        let mut seed = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(&mut *seed);
        seed
    });
    let resolver = Libcrypto { seed: Mutex::new(seed) };
    let build = || {
        let builder = Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(pairing.secret.bytes())?
            .remote_public_key(&pairing.peer.0)?
            .prologue(prologue)?;
        match part {
            Part::Initiator => builder.build_initiator(),
            Part::Responder => builder.build_responder(),
        }
    };
    build().map(Box::new).map_err(|_| Failure::Unable)
}

/// The next message of a handshake, which carries nothing else.
pub(super) fn write(handshake: &mut HandshakeState) -> Result<[u8; MESSAGE_LEN], Failure> {
    let mut message = [0; MESSAGE_LEN];
    // It fails if a key of the peer is none: then no message of its would open either.
    let length = handshake.write_message(&[], &mut message).map_err(|_| Failure::Stranger)?;
    debug_assert_eq!(length, MESSAGE_LEN);
    Ok(message)
}

/// Takes the peer's message of a handshake.
pub(super) fn read(handshake: &mut HandshakeState, message: &[u8]) -> Result<(), Failure> {
    let mut payload = [0; MESSAGE_LEN];
    match handshake.read_message(message, &mut payload) {
        Ok(0) => Ok(()),
        // A payload of the right peer is no payload of this version.
        Ok(_) | Err(_) => Err(Failure::Stranger),
    }
}

/// What the static keys of the two have in common, as nobody else can compute it.
pub(super) fn shared(pairing: &Pairing) -> Result<Zeroizing<[u8; KEY_LEN]>, Failure> {
    let (mut own, mut shared) = (X25519::default(), Zeroizing::new([0; KEY_LEN]));
    own.set(pairing.secret.bytes());
    own.dh(&pairing.peer.0, &mut *shared).map_err(|_| Failure::Stranger)?;
    Ok(shared)
}

//------------ What libcrypto does -------------------------------------------

struct Libcrypto {
    /// The randomness of one handshake, which is one ephemeral key.
    seed: Mutex<Option<Zeroizing<[u8; KEY_LEN]>>>,
}

impl CryptoResolver for Libcrypto {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneKey(self.seed.lock().ok()?.take())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let digest = match choice {
            HashChoice::Blake2s => MessageDigest::from_name("blake2s256")?,
            _ => return None,
        };
        Some(Box::new(Blake2s(Hasher::new(digest).ok()?)))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let fits = matches!(choice, CipherChoice::ChaChaPoly);
        fits.then(|| Box::<ChaChaPoly>::default() as Box<dyn Cipher>)
    }
}

/// Gives its bytes once.
struct OneKey(Option<Zeroizing<[u8; KEY_LEN]>>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let seed = self.0.take().filter(|seed| seed.len() == dest.len()).ok_or(Error::Rng)?;
        dest.copy_from_slice(&*seed);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    private: Zeroizing<[u8; KEY_LEN]>,
    public: [u8; KEY_LEN],
    /// The same key in libcrypto's form; none before it is set.
    key: Option<PKey<Private>>,
}

impl X25519 {
    fn load(&mut self) -> Option<()> {
        let key = PKey::private_key_from_raw_bytes(&*self.private, Id::X25519).ok()?;
        self.public = key.raw_public_key().ok()?.try_into().ok()?;
        self.key = Some(key);
        Some(())
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, privkey: &[u8]) {
        self.private.copy_from_slice(privkey);
        // Without a key `dh` fails, and with it the handshake.
        let _ = self.load();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(&mut *self.private)?;
        self.load().ok_or(Error::Dh)
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    /// Fails also for a public key of small order, with which everybody would share the secret.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        let mut shared = || {
            let peer = PKey::public_key_from_raw_bytes(&pubkey[..KEY_LEN], Id::X25519)?;
            let mut deriver = Deriver::new(key)?;
            deriver.set_peer(&peer)?;
            deriver.derive(&mut out[..KEY_LEN])
        };
        match shared() {
            Ok(KEY_LEN) => Ok(()),
            Ok(_) | Err(_) => Err(Error::Dh),
        }
    }
}

#[derive(Default)]
struct ChaChaPoly {
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl ChaChaPoly {
    /// The nonce as Noise writes it for this cipher.
    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.key.copy_from_slice(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (cipher, nonce) = (symm::Cipher::chacha20_poly1305(), Self::nonce(nonce));
        let (text, rest) = out.split_at_mut(plaintext.len());
        let tag = &mut rest[..TAG_LEN];
        let sealed = symm::encrypt_aead(cipher, &*self.key, Some(&nonce), authtext, plaintext, tag);
        // The lengths of key, nonce and tag are the cipher's own, so only memory could lack, and
        // Rust ends the process for that as well.
        text.copy_from_slice(&sealed.expect("libcrypto seals"));
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let length = ciphertext.len().checked_sub(TAG_LEN).ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at(length);
        let (cipher, nonce) = (symm::Cipher::chacha20_poly1305(), Self::nonce(nonce));
        let opened = symm::decrypt_aead(cipher, &*self.key, Some(&nonce), authtext, text, tag);
        let opened = Zeroizing::new(opened.map_err(|_| Error::Decrypt)?);
        out[..length].copy_from_slice(&opened);
        Ok(length)
    }
}

struct Blake2s(Hasher);

/// The digest is libcrypto's own and the hasher was made, so an update can lack memory only.
const HASHES: &str = "libcrypto hashes";

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        // Finishing makes the next update begin anew.
        self.0.finish().expect(HASHES);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data).expect(HASHES);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.finish().expect(HASHES);
        out[..digest.len()].copy_from_slice(&digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::key::{PublicKey, SecretKey};

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = (0..hex.len()).step_by(2);
        digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn pairing(secret: &str, peer: &str) -> Pairing {
        let secret = SecretKey::from_file(&format!("isolated signer link secret 1\n{secret}\n"));
        let peer = PublicKey(bytes(peer).try_into().unwrap());
        Pairing { secret: secret.unwrap(), peer }
    }

    fn fixed(hex: &'static str) -> Entropy {
        Entropy::new(move |out| out.copy_from_slice(&bytes(hex)))
    }

    // The vectors of cacophony, an implementation of Noise in Haskell, as other implementations
    // have them in their tests too.
    const PROLOGUE: &[u8] = b"John Galt";
    const INITIATOR: [&str; 2] = [
        "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
    ];
    const RESPONDER: [&str; 2] = [
        "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "6bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a",
    ];
    const EPHEMERALS: [&str; 2] = [
        "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
    ];
    const PAYLOADS: [&[u8]; 5] = [
        b"Ludwig von Mises",
        b"Murray Rothbard",
        b"F. A. Hayek",
        b"Carl Menger",
        b"Jean-Baptiste Say",
    ];

    fn both(pattern: &str) -> [Box<HandshakeState>; 2] {
        let parts = [(Part::Initiator, INITIATOR), (Part::Responder, RESPONDER)];
        let mut number = 0;
        parts.map(|(part, [secret, peer])| {
            let entropy = fixed(EPHEMERALS[number]);
            number += 1;
            begin(pattern, part, &pairing(secret, peer), Some(&entropy), PROLOGUE).unwrap()
        })
    }

    /// One message of a handshake, from `writer` to `reader`.
    fn crosses(
        writer: &mut HandshakeState,
        reader: &mut HandshakeState,
        payload: &[u8],
        expected: &str,
    ) {
        let (mut message, mut read) = ([0; 256], [0; 256]);
        let length = writer.write_message(payload, &mut message).unwrap();
        assert_eq!(message[..length], bytes(expected));
        let length = reader.read_message(&message[..length], &mut read).unwrap();
        assert_eq!(&read[..length], payload);
    }

    #[test]
    fn kk_gives_the_bytes_of_the_published_vector() {
        let [mut initiator, mut responder] = both(SESSION);
        let first = "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944266a5f53784a\
                     a3becb0f7485c2759c328937867a4cbaafef07422b0725e098be";
        let second = "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843008aeea5d76d\
                      6abcbab87a18502c8a8352d9933ac11e2a7d228038d721e31e";
        crosses(&mut initiator, &mut responder, PAYLOADS[0], first);
        crosses(&mut responder, &mut initiator, PAYLOADS[1], second);
        let hash = bytes("1362b8627a00907ce11e558aba8ce7cbca88e83f0e84ce7db5159b1c3e25ab59");
        assert_eq!(initiator.get_handshake_hash(), hash);
        let initiator = initiator.into_stateless_transport_mode().unwrap();
        let responder = responder.into_stateless_transport_mode().unwrap();
        for (ends, nonce, payload, expected) in [
            (
                [&initiator, &responder],
                0,
                PAYLOADS[2],
                "5f92113edf78c3e56e6d67201f5f9e0c8f2930c3e1ffb64ede0358",
            ),
            (
                [&responder, &initiator],
                0,
                PAYLOADS[3],
                "30ebbd9cdcef7f40d99c8cd11e880dac28f5c9e5032c1059b3b56a",
            ),
            (
                [&initiator, &responder],
                1,
                PAYLOADS[4],
                "b011620dc31f88abd1788db50912952fe45da56e9d0907ab2cbce5f609b58b1cf2",
            ),
        ] {
            let (mut message, mut read) = ([0; 256], [0; 256]);
            let length = ends[0].write_message(nonce, payload, &mut message).unwrap();
            assert_eq!(message[..length], bytes(expected));
            let length = ends[1].read_message(nonce, &message[..length], &mut read).unwrap();
            assert_eq!(&read[..length], payload);
        }
    }

    #[test]
    fn k_gives_the_bytes_of_the_published_vector() {
        let [mut initiator, mut responder] = both(FILE);
        let first = "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79443ab57eb07c96\
                     791ebddff95c2ed2ccfe412d87270c753c0a5b5fe46164087647";
        crosses(&mut initiator, &mut responder, PAYLOADS[0], first);
        let initiator = initiator.into_stateless_transport_mode().unwrap();
        let mut message = [0; 256];
        let length = initiator.write_message(0, PAYLOADS[1], &mut message).unwrap();
        let expected = "3e7b4d83fa0cca62cc0b6d202da416c0b59289e518982742851e534f1916f8";
        assert_eq!(message[..length], bytes(expected));
    }

    #[test]
    fn two_ends_share_what_a_third_does_not() {
        let (frontend, signer) = Pairing::both(1);
        let (stranger, _) = Pairing::both(2);
        let misled = Pairing { peer: stranger.secret.public(), ..frontend.clone() };
        let ours = shared(&frontend).unwrap();
        assert_eq!(shared(&signer), Ok(ours.clone()));
        assert_ne!(shared(&misled), Ok(ours));
        let null = Pairing { peer: PublicKey([0; KEY_LEN]), ..frontend };
        assert_eq!(shared(&null), Err(Failure::Stranger));
    }

    #[test]
    fn a_key_of_small_order_opens_nothing_and_panics_nowhere() {
        // With these everybody would compute the same secret.
        for peer in [[0; KEY_LEN], std::array::from_fn(|i| u8::from(i == 0))] {
            let (mut ours, _) = Pairing::both(1);
            ours.peer = PublicKey(peer);
            let entropy = Entropy::seeded(1);
            let mut handshake =
                begin(SESSION, Part::Initiator, &ours, Some(&entropy), b"").unwrap();
            assert_eq!(write(&mut handshake), Err(Failure::Stranger));
        }
    }

    #[test]
    fn randomness_is_drawn_once_for_each_handshake_and_by_nobody_else() {
        let (ours, _) = Pairing::both(1);
        let drawn = std::sync::Arc::new(Mutex::new(0));
        let counter = drawn.clone();
        let entropy = Entropy::new(move |out| {
            *counter.lock().unwrap() += out.len();
            out.fill(7);
        });
        let mut handshake = begin(SESSION, Part::Initiator, &ours, Some(&entropy), b"").unwrap();
        write(&mut handshake).unwrap();
        assert_eq!(*drawn.lock().unwrap(), KEY_LEN);
    }
}
