//! Reads one uploaded public key and leaves out what nobody certifies: signatures by others,
//! photos and other attributes.
//!
//! It works packet by packet and checks no signature, so its time and memory follow the upload's
//! length, which is bounded before. Secret key material is refused whatever else is wrong.

use protocol::message::RefusalCode;
use sequoia_openpgp::{
    Cert, KeyHandle, Packet,
    armor::{Kind, Reader, ReaderMode},
    packet::{Signature, Tag},
    parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse},
    serialize::SerializeInto,
};

use crate::refusal::Refusal;

/// One public key with its owner's own signatures and nothing else.
#[derive(Clone, Debug)]
pub struct Stripped {
    cert: Cert,
}

/// Packets of one key that its owner made. Those with more exist only to hurt their readers.
pub const PACKETS_MAX: usize = 1024;

impl Stripped {
    /// Reads the only key in `bytes`, armoured or binary; `from` is how to call it in a sentence.
    pub fn read(bytes: &[u8], from: &str) -> Result<Self, Refusal> {
        let binary = without_armour(bytes, from)?;
        let packets = own_packets(&binary, from)?;
        let cert = Cert::from_packets(packets.into_iter())
            .map_err(|error| malformed(format!("{from} is no OpenPGP key: {error}")))?;
        Ok(Self { cert })
    }

    /// The key.
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// The key, binary.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.cert.to_vec().ok()
    }
}

/// What is inside the armour, if there is one.
pub fn without_armour(bytes: &[u8], from: &str) -> Result<Vec<u8>, Refusal> {
    let decoded = without_mark(bytes);
    // RFC 9580 4.2: the first bit of every packet is 1.
    if decoded.is_none() && bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(bytes.to_vec());
    }
    let bytes = decoded.as_deref().unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err(secret(from));
    }
    match text.matches("-----BEGIN PGP ").count() {
        0 => return Err(malformed(format!("{from} holds no OpenPGP key"))),
        1 => {}
        _ => return Err(several(format!("{from} holds more than one armoured block"))),
    }
    let mut reader = Reader::from_bytes(bytes, ReaderMode::Tolerant(Some(Kind::PublicKey)));
    let mut binary = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut binary).map_err(|error| {
        let error = error.to_string();
        malformed(format!("the armour of {from} is damaged: {}", error.trim_end_matches('.')))
    })?;
    Ok(binary)
}

/// The text behind a byte order mark, which some editors and shells write before armour; in UTF-16
/// too. No key begins with such a mark.
fn without_mark(bytes: &[u8]) -> Option<Vec<u8>> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let text =
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        text.collect::<String>().into_bytes()
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(rest.to_vec()),
        [0xff, 0xfe, rest @ ..] => Some(utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Some(utf16(rest, u16::from_be_bytes)),
        _ => None,
    }
}

/// Whether every packet in `binary` is of a kind that a public key has. What cannot be read may
/// hold anything, a secret key too.
pub fn only_public(binary: &[u8], from: &str) -> Result<(), Refusal> {
    let unreadable = |error| malformed(format!("{from} is no OpenPGP key: {error}"));
    let builder = PacketParserBuilder::from_bytes(binary).map_err(unreadable)?;
    let mut next = builder.dearmor(Dearmor::Disabled).build().map_err(unreadable)?;
    while let PacketParserResult::Some(parser) = next {
        let (packet, rest) = parser.next().map_err(unreadable)?;
        next = rest;
        match packet.tag() {
            Tag::SecretKey | Tag::SecretSubkey => return Err(secret(from)),
            Tag::PublicKey
            | Tag::PublicSubkey
            | Tag::UserID
            | Tag::UserAttribute
            | Tag::Signature
            | Tag::Trust
            | Tag::Marker
            | Tag::Padding => {}
            other => return Err(malformed(format!("{from} holds a packet of type {other}"))),
        }
    }
    Ok(())
}

/// The packets of exactly one key that are the owner's.
fn own_packets(binary: &[u8], from: &str) -> Result<Vec<Packet>, Refusal> {
    let unreadable = |error| malformed(format!("{from} is no OpenPGP key: {error}"));
    let builder = PacketParserBuilder::from_bytes(binary).map_err(unreadable)?;
    let mut next = builder.dearmor(Dearmor::Disabled).build().map_err(unreadable)?;
    let mut owner: Option<KeyHandle> = None;
    let (mut own, mut in_attribute, mut keys) = (Vec::new(), false, 0);
    while let PacketParserResult::Some(parser) = next {
        let (packet, rest) = parser.next().map_err(unreadable)?;
        next = rest;
        match (packet.tag(), &packet) {
            // To the end: a secret key behind anything else is one too.
            (Tag::SecretKey | Tag::SecretSubkey, _) => return Err(secret(from)),
            (Tag::PublicKey, _) => {
                keys += 1;
                owner = match &packet {
                    Packet::PublicKey(key) => Some(key.fingerprint().into()),
                    _ => None,
                };
            }
            _ if keys == 0 => {
                return Err(malformed(format!("{from} does not begin with a public key")));
            }
            (Tag::UserID | Tag::PublicSubkey, _) => in_attribute = false,
            (Tag::UserAttribute, _) => in_attribute = true,
            (Tag::Signature, Packet::Signature(signature)) => {
                if in_attribute || !is_by(owner.as_ref(), signature) {
                    continue;
                }
            }
            // Left by programs that manage keyrings, and by nobody's hand.
            (Tag::Trust | Tag::Marker | Tag::Padding | Tag::Signature, _) => continue,
            (other, _) => {
                return Err(malformed(format!("{from} holds a packet of type {other}")));
            }
        }
        if packet.tag() == Tag::UserAttribute || keys > 1 {
            continue;
        }
        if own.len() == PACKETS_MAX {
            return Err(malformed(format!(
                "{from} has more than {PACKETS_MAX} packets by its owner"
            )));
        }
        own.push(packet);
    }
    match (own.first(), keys) {
        (_, 2..) => Err(several(format!("{from} holds more than one key"))),
        // Versions that nobody reads any more come as unknown packets.
        (Some(Packet::Unknown(_)), _) => Err(Refusal::new(
            RefusalCode::OpenPgpVersion,
            format!("the version of the key in {from} is none of 4 and 6"),
        )),
        (Some(_), _) => Ok(own),
        (None, _) => Err(malformed(format!("{from} holds no OpenPGP key"))),
    }
}

/// Whether `signature` says that the owner made it, or does not say who did.
fn is_by(owner: Option<&KeyHandle>, signature: &Signature) -> bool {
    let issuers = signature.get_issuers();
    issuers.is_empty() || owner.is_some_and(|owner| issuers.iter().any(|one| one.aliases(owner)))
}

fn malformed(fact: String) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpMalformed, fact)
}

fn several(fact: String) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpSeveral, fact)
}

fn secret(from: &str) -> Refusal {
    Refusal::new(RefusalCode::OpenPgpSecret, format!("{from} holds secret key material"))
}
