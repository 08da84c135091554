//! One signature over a key and a user ID, from what it says to the packet (RFC 9580 5.2.3).
//!
//! A [`Statement`] holds every byte that is hashed beside the key and the user ID, the salt
//! included, so what is signed after a crash is what was intended before it. What is released was
//! read back and verified by sequoia first.

use protocol::{
    bounded::{Bytes, Text},
    message::{OpenPgpReason, Serial},
};
use sequoia_openpgp::{
    Packet,
    crypto::hash::Hash,
    packet::{
        Key, Signature, UserID,
        key::{PrimaryRole, PublicParts},
        signature::subpacket::{
            NotationData, NotationDataFlags, Subpacket, SubpacketArea, SubpacketValue,
        },
    },
    serialize::MarshalInto,
    types::{HashAlgorithm, ReasonForRevocation, Timestamp},
};
use serde::{Deserialize, Serialize};

use super::{CERTIFICATION_MAX, Policy, internal, key::CaKey, system_time};
use crate::{calendar::UnixTime, fault::Fault, intake::openpgp::one_packet, keys::SignatureDigest};

/// What is hashed of a signature itself. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The signature type: 0x10, 0x13 or 0x30.
    kind: u8,
    /// The public-key algorithm of the signing key.
    algorithm: u8,
    /// The hash algorithm.
    digest: u8,
    /// The hashed subpackets, without their length.
    hashed: Bytes<HASHED_MAX>,
}

/// Hashed subpackets; with the longest policy they have 620 bytes.
const HASHED_MAX: usize = 720;
/// A signature packet beside the hashed subpackets and the signature's own numbers: header,
/// fields, lengths, issuer, digest prefix.
const AROUND: usize = 3 + 4 + 2 + 2 + 10 + 2;

const _: () = assert!(HASHED_MAX + AROUND + 516 <= CERTIFICATION_MAX);

/// The name of the notation that makes a version 4 signature unpredictable, as others write it.
pub(super) const SALT: &str = "salt@notations.sequoia-pgp.org";

/// The revocation of a certification (RFC 9580 5.2.1).
const REVOCATION: u8 = 0x30;

impl Statement {
    /// What a certification by `policy` says that is made at `at` and ends at `expires`.
    pub fn certification(
        key: &CaKey,
        policy: &Policy,
        serial: &Serial,
        at: UnixTime,
        expires: UnixTime,
        salt: [u8; 16],
    ) -> Result<Self, Fault> {
        let lifetime = u32::try_from(expires.0.saturating_sub(at.0)).map_err(internal)?;
        let mut values = common(key, at)?;
        values.push((SubpacketValue::SignatureExpirationTime(lifetime.into()), true));
        if let Some(uri) = policy.policy_uri() {
            values.push((SubpacketValue::PolicyURI(uri.as_bytes().to_vec()), false));
        }
        if let Some(name) = policy.serial_notation() {
            values.push(notation(&name, serial.to_string().as_bytes(), true));
        }
        for (name, value) in policy.notations() {
            values.push(notation(name, value.as_bytes(), true));
        }
        values.push(notation(SALT, &salt, false));
        let (kind, digest) = (policy.level().signature_type(), policy.digest());
        Self::of(key, kind, digest, values)
    }

    /// What takes a certification back.
    pub fn revocation(
        key: &CaKey,
        reason: OpenPgpReason,
        at: UnixTime,
        salt: [u8; 16],
    ) -> Result<Self, Fault> {
        let mut values = common(key, at)?;
        let code = ReasonForRevocation::from(reason.code());
        values.push((SubpacketValue::ReasonForRevocation { code, reason: Vec::new() }, false));
        values.push(notation(SALT, &salt, false));
        Self::of(key, REVOCATION, SignatureDigest::Sha512, values)
    }

    fn of(
        key: &CaKey,
        kind: u8,
        digest: SignatureDigest,
        values: Vec<(SubpacketValue, bool)>,
    ) -> Result<Self, Fault> {
        let subpackets =
            values.into_iter().map(|(value, critical)| Subpacket::new(value, critical));
        let subpackets: Vec<_> = subpackets.collect::<Result<_, _>>().map_err(internal)?;
        let hashed = SubpacketArea::new(subpackets).and_then(|area| area.to_vec());
        Ok(Self {
            kind,
            algorithm: key.cert().primary_key().key().pk_algo().into(),
            digest: hash_algorithm(digest).into(),
            hashed: hashed.map_err(internal)?.try_into().map_err(internal)?,
        })
    }

    /// The longest packet that it can become.
    pub fn length_max(&self, key: &CaKey) -> usize {
        self.hashed.len() + AROUND + key.signature_max()
    }

    /// Signs it over a key and a user ID: the whole signature packet. Called again for the same,
    /// RSA and Ed25519 keys give the same bytes.
    pub fn sign(
        &self,
        ours: &CaKey,
        key: &Key<PublicParts, PrimaryRole>,
        user_id: &Text<256>,
    ) -> Result<Vec<u8>, Fault> {
        let user_id = UserID::from(&**user_id);
        let value = self.hash(key, &user_id).map_err(internal)?;
        let numbers = ours.sign(self.digest()?, &value)?;
        let packet = self.packet(ours, [value[0], value[1]], &numbers)?;
        self.read_back(ours, &packet, key, &user_id, &value)?;
        match packet.len() {
            0..=CERTIFICATION_MAX => Ok(packet),
            length => Err(internal(format!("a certification of {length} bytes"))),
        }
    }

    fn digest(&self) -> Result<SignatureDigest, Fault> {
        match HashAlgorithm::from(self.digest) {
            HashAlgorithm::SHA256 => Ok(SignatureDigest::Sha256),
            HashAlgorithm::SHA384 => Ok(SignatureDigest::Sha384),
            HashAlgorithm::SHA512 => Ok(SignatureDigest::Sha512),
            other => Err(internal(format!("a certification with digest {other}"))),
        }
    }

    /// `pair-assertion`: what we release is what a reader will accept. Sequoia reads the packet,
    /// says what it would hash of it, and verifies that.
    fn read_back(
        &self,
        ours: &CaKey,
        packet: &[u8],
        key: &Key<PublicParts, PrimaryRole>,
        user_id: &UserID,
        signed: &[u8],
    ) -> Result<(), Fault> {
        let Some(Packet::Signature(signature)) = one_packet(packet) else {
            return Err(internal("a signature that cannot be parsed"));
        };
        let by = ours.cert().primary_key().key();
        let says = (u8::from(signature.typ()), u8::from(signature.pk_algo()));
        if signature.version() != 4 || says != (self.kind, self.algorithm) {
            return Err(internal("a signature that says another type or algorithm"));
        }
        if signature.signature_creation_time().is_none_or(|at| at < by.creation_time()) {
            return Err(internal("a signature from before its key"));
        }
        let read = hash_of(&signature, key, user_id).map_err(internal)?;
        if read != signed || !read.starts_with(signature.digest_prefix()) {
            return Err(internal("a signature of something else than what it says"));
        }
        if !ours.verifies(self.digest()?, &read, signature.mpis())? {
            return Err(internal("a signature that does not verify"));
        }
        Ok(())
    }

    /// The fields that are hashed (RFC 9580 5.2.4), as they stand in the packet too.
    fn fields(&self) -> Vec<u8> {
        let length = u16::try_from(self.hashed.len()).unwrap_or(u16::MAX); // below HASHED_MAX
        let mut fields = vec![4, self.kind, self.algorithm, self.digest];
        fields.extend_from_slice(&length.to_be_bytes());
        fields.extend_from_slice(&self.hashed);
        fields
    }

    fn hash(
        &self,
        key: &Key<PublicParts, PrimaryRole>,
        user_id: &UserID,
    ) -> sequoia_openpgp::Result<Vec<u8>> {
        let mut context = HashAlgorithm::from(self.digest).context()?.for_signature(4);
        key.hash(&mut context)?;
        user_id.hash(&mut context)?;
        let fields = self.fields();
        context.update(&fields);
        context.update(&[4, 0xff]);
        context.update(&u32::try_from(fields.len())?.to_be_bytes());
        context.into_digest()
    }

    fn packet(&self, ours: &CaKey, prefix: [u8; 2], numbers: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut body = self.fields();
        // The only unhashed subpacket: old programs find the issuer by it.
        let issuer = SubpacketValue::Issuer(ours.cert().keyid());
        let issuer = Subpacket::new(issuer, false).and_then(|issuer| issuer.to_vec());
        let issuer = issuer.map_err(internal)?;
        body.extend_from_slice(&u16::try_from(issuer.len()).map_err(internal)?.to_be_bytes());
        body.extend_from_slice(&issuer);
        body.extend_from_slice(&prefix);
        body.extend_from_slice(numbers);
        // RFC 9580 4.2.1: one octet, or two.
        let mut packet = vec![0xc2];
        match body.len() {
            short @ 0..192 => packet.push(u8::try_from(short).map_err(internal)?),
            long => {
                let rest = u16::try_from(long - 192).map_err(internal)?;
                packet.extend_from_slice(&(rest + (192 << 8)).to_be_bytes());
            }
        }
        packet.extend_from_slice(&body);
        Ok(packet)
    }
}

fn common(key: &CaKey, at: UnixTime) -> Result<Vec<(SubpacketValue, bool)>, Fault> {
    let made = Timestamp::try_from(system_time(at)).map_err(internal)?;
    Ok(vec![
        (SubpacketValue::SignatureCreationTime(made), true),
        (SubpacketValue::IssuerFingerprint(key.cert().fingerprint()), false),
    ])
}

fn notation(name: &str, value: &[u8], readable: bool) -> (SubpacketValue, bool) {
    let flags = match readable {
        true => NotationDataFlags::empty().set_human_readable(),
        false => NotationDataFlags::empty(),
    };
    (SubpacketValue::NotationData(NotationData::new(name, value, flags)), false)
}

/// What a reader hashes of a signature of this user ID. Sequoia is asked for each step by itself:
/// its verification of a whole signature remembers each for the life of the process.
pub(super) fn hash_of(
    signature: &Signature,
    key: &Key<PublicParts, PrimaryRole>,
    user_id: &UserID,
) -> sequoia_openpgp::Result<Vec<u8>> {
    let mut context = signature.hash_algo().context()?.for_signature(signature.version());
    signature.hash_userid_binding(&mut context, key, user_id)?;
    context.into_digest()
}

pub(super) fn hash_algorithm(digest: SignatureDigest) -> HashAlgorithm {
    match digest {
        SignatureDigest::Sha256 => HashAlgorithm::SHA256,
        SignatureDigest::Sha384 => HashAlgorithm::SHA384,
        SignatureDigest::Sha512 => HashAlgorithm::SHA512,
    }
}
