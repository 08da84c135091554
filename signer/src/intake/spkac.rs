//! One SPKAC (Netscape's SignedPublicKeyAndChallenge) in DER becomes a
//! [`VettedCsr`] without any name.
//!
//! Browsers made them from `<keygen>`; `openssl spkac` makes them still. It holds a key, a
//! challenge and a signature, nothing else: subject and names come from the request's own fields,
//! where a person or the frontend put them. The base64 around it is the frontend's matter. That a
//! request is an SPKAC is declared with it and never guessed.

use protocol::message::{CSR_MAX, RefusalCode};

use crate::{
    intake::{
        csr::VettedCsr,
        der::{Reader, tag},
        key::PublicKey,
        possession,
    },
    refusal::Refusal,
};

/// Challenges were a few words or a nonce in base64; the tag sets no bound of its own.
const CHALLENGE_MAX: usize = 256;

/// Vets `spkac`: structure, key, possession.
pub fn vet(spkac: &[u8]) -> Result<VettedCsr, Refusal> {
    // `spkac-size`
    if spkac.len() > CSR_MAX {
        return Err(malformed(&format!("{} bytes, at most {CSR_MAX} are taken", spkac.len())));
    }
    // `spkac-der`: one SPKAC and nothing after it.
    if spkac.starts_with(b"SPKAC=") {
        return Err(malformed("it is text; send the DER inside"));
    }
    let mut outer = Reader::new("the SPKAC", spkac);
    let mut request = outer.inner("the SPKAC", tag::SEQUENCE)?;
    outer.finish()?;
    let signed = request.element("the key and challenge", tag::SEQUENCE)?;
    let algorithm = request.element("the signature algorithm", tag::SEQUENCE)?;
    let signature = request.bit_string("the signature")?;
    request.finish()?;

    let mut fields = Reader::new("the key and challenge", signed.content);
    let public_key = fields.element("the public key", tag::SEQUENCE)?.whole;
    let challenge = fields.element("the challenge", tag::IA5_STRING)?.content;
    fields.finish()?;

    let key = PublicKey::from_spki(public_key)?;
    possession::check(&key, algorithm.content, signature, signed.whole)?;
    check_challenge(challenge)?;
    Ok(VettedCsr::of_key(public_key, &key))
}

/// `spkac-challenge`: bounded, and printable ASCII. What it says is for whoever sent it out; an
/// empty one is what `openssl spkac` writes where none was given.
fn check_challenge(challenge: &[u8]) -> Result<(), Refusal> {
    if challenge.len() > CHALLENGE_MAX {
        let text = format!(
            "a challenge of {} characters, at most {CHALLENGE_MAX} are taken",
            challenge.len()
        );
        return Err(malformed(&text));
    }
    match challenge.iter().all(|octet| (b' '..=b'~').contains(octet)) {
        true => Ok(()),
        false => Err(malformed("its challenge is not printable ASCII")),
    }
}

fn malformed(text: &str) -> Refusal {
    Refusal::new(RefusalCode::CsrMalformed, format!("not an SPKAC: {text}"))
}

#[cfg(test)]
mod tests;
