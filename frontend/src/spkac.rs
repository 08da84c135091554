//! Reads the SPKAC (SignedPublicKeyAndChallenge) that a browser made, as a web application hands
//! it over, and refuses at once what is none.
//!
//! Two forms are taken: bare base64, and the lines that `openssl ca -spkac` reads, `SPKAC=…` with
//! the subject as `CN=…` lines in their order. An SPKAC holds no name at all, so nothing is ever
//! taken from inside it but the key. These checks save a trip over the cable; the signer makes its
//! own and believes none of them.

use openssl::{
    base64,
    pkey::{Id, PKey},
};
use protocol::message::{CSR_MAX, RefusalCode, Subject};

use crate::{
    csr,
    der::{BIT_STRING, NotDer, OBJECT_IDENTIFIER, Reader, SEQUENCE},
    refusal::Refusal,
    signature::{self, Algorithm},
    subject::{self, NotASubject},
};

/// What a file with an SPKAC says, nothing of it checked but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpkacFile {
    /// The SPKAC, DER.
    pub der: Vec<u8>,
    /// The subject, where the file has lines for it.
    pub subject: Option<Subject>,
}

/// The SPKAC and the subject in `bytes`; `from` says where they came from.
pub fn read(bytes: &[u8], from: &str) -> Result<SpkacFile, Refusal> {
    let malformed = |fact: String| Refusal::new(RefusalCode::CsrMalformed, fact);
    if bytes.len() > FILE_MAX {
        let length = bytes.len();
        return Err(malformed(format!(
            "{from} has {length} bytes, an SPKAC file at most {FILE_MAX}"
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed(format!("{from} is not text")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Base64 has `=` at its end only; a line of openssl's form has a name before it.
    let lines = text.lines().any(|line| line.trim_end().trim_end_matches('=').contains('='));
    let (digits, subject) = match lines {
        true => read_lines(text, from)?,
        false => (text.to_owned(), None),
    };
    let digits: String = digits.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if digits.is_empty() {
        return Err(malformed(format!("{from} holds no SPKAC")));
    }
    let der = base64::decode_block(&digits)
        .map_err(|_| malformed(format!("the SPKAC of {from} is no base64")))?;
    if der.len() > CSR_MAX {
        let length = der.len();
        return Err(malformed(format!(
            "the SPKAC of {from} has {length} bytes, {CSR_MAX} are taken"
        )));
    }
    Ok(SpkacFile { der, subject })
}

/// Whether `der` is exactly one SPKAC that proves possession of a key of some strength.
pub fn check(der: &[u8], from: &str) -> Result<(), Refusal> {
    let malformed = |error: NotDer| {
        Refusal::new(RefusalCode::CsrMalformed, format!("{from} is no SPKAC in DER: {error}"))
    };
    let parts = parse(der).map_err(malformed)?;
    let key = PKey::public_key_from_der(parts.spki).map_err(|_| {
        Refusal::new(RefusalCode::CsrMalformed, format!("{from} holds no usable key"))
    })?;
    if key.id() == Id::RSA && key.bits() < csr::RSA_BITS_MIN {
        let fact = format!("the RSA key of {from} has {} bits", key.bits());
        return Err(Refusal::new(RefusalCode::KeyWeak, fact));
    }
    // Browsers and `openssl spkac` signed with MD5 unless told otherwise.
    csr::check_digest(der, from)?;
    let algorithm = Algorithm::from_oid(parts.algorithm).ok_or_else(|| {
        let fact = format!("{from} is signed with an algorithm that is not known here");
        Refusal::new(RefusalCode::CsrDigest, fact)
    })?;
    if !algorithm.verify(&key, parts.signed, parts.signature) {
        let fact = format!("the signature of {from} does not fit its key");
        return Err(Refusal::new(RefusalCode::CsrSignature, fact));
    }
    Ok(())
}

/// The key of a DER SPKAC, a SubjectPublicKeyInfo.
pub fn public_key(der: &[u8]) -> Option<&[u8]> {
    parse(der).ok().map(|parts| parts.spki)
}

/// An SPKAC taken apart in place.
struct Parts<'a> {
    /// What is signed: the key and the challenge.
    signed: &'a [u8],
    /// The SubjectPublicKeyInfo.
    spki: &'a [u8],
    /// The content octets of the algorithm's identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

fn parse(der: &[u8]) -> Result<Parts<'_>, NotDer> {
    let mut outer = Reader::new(der);
    let mut fields = outer.expect(SEQUENCE, "a signed public key and challenge")?.reader();
    outer.finish("the end of the SPKAC")?;
    let signed = fields.expect(SEQUENCE, "a public key and challenge")?;
    let algorithm = fields.expect(SEQUENCE, "a signature algorithm")?;
    let signature = fields.expect(BIT_STRING, "a signature")?;
    fields.finish("the end behind the signature")?;
    let mut inner = signed.reader();
    let spki = inner.expect(SEQUENCE, "a public key")?;
    inner.expect(IA5_STRING, "a challenge")?;
    inner.finish("the end behind the challenge")?;
    Ok(Parts {
        signed: signed.whole,
        spki: spki.whole,
        algorithm: algorithm
            .reader()
            .expect(OBJECT_IDENTIFIER, "an algorithm's identifier")?
            .content,
        signature: signature::bit_string(signature.content)?,
    })
}

/// openssl's form: `SPKAC=base64` once, every other line one attribute of the subject.
fn read_lines(text: &str, from: &str) -> Result<(String, Option<Subject>), Refusal> {
    let (mut spkac, mut attributes) = (None, Vec::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let refused = |code: RefusalCode, why: String| {
            Refusal::new(code, format!("line {number} of {from}: {why}"))
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            let why = "it is no NAME=value; the base64 of an SPKAC stands on one line";
            return Err(refused(RefusalCode::CsrMalformed, why.to_owned()));
        };
        let (name, value) = (plain_name(name.trim()), value.trim());
        if name == "SPKAC" {
            if spkac.replace(value.to_owned()).is_some() {
                let why = "a second SPKAC; one file asks for one certificate";
                return Err(refused(RefusalCode::CsrMalformed, why.to_owned()));
            }
            continue;
        }
        let attribute = unescape(value)
            .map_err(|error| error.to_owned())
            .and_then(|value| subject::attribute_of(name, &value).map_err(|e| e.to_string()));
        attributes.push(attribute.map_err(|why| refused(RefusalCode::SubjectRule, why))?);
    }
    let Some(spkac) = spkac else {
        let fact = format!("{from} has no SPKAC= line");
        return Err(Refusal::new(RefusalCode::CsrMalformed, fact));
    };
    if attributes.is_empty() {
        return Ok((spkac, None));
    }
    let too_many = |error| {
        Refusal::new(RefusalCode::SubjectRule, format!("{from}: {}", NotASubject::TooLong(error)))
    };
    Ok((spkac, Some(attributes.try_into().map_err(too_many)?)))
}

/// openssl tells lines of one name apart by what stands before a dot, comma or colon: `1.OU`.
fn plain_name(name: &str) -> &str {
    // A dotted identifier is a name by itself.
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return name;
    }
    match name.split_once(['.', ',', ':']) {
        Some((_, rest)) if !rest.is_empty() => rest,
        _ => name,
    }
}

/// The value as openssl would understand it; what it would take for a quotation, a variable or a
/// comment is not guessed at.
fn unescape(value: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next() {
                Some('n' | 'r' | 't' | 'b') | None => {
                    return Err("a `\\` stands for a control character or for nothing");
                }
                Some(escaped) => plain.push(escaped),
            },
            '"' | '\'' | '$' | '#' => {
                return Err("quotes, `$` and `#` mean something to openssl; write a `\\` before");
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// IA5String
const IA5_STRING: u8 = 0x16;
/// Base64 of the longest SPKAC, and as much again for the subject's lines.
const FILE_MAX: usize = 3 * CSR_MAX;

#[cfg(test)]
pub(crate) mod tests {
    use openssl::{hash::MessageDigest, pkey::Private, sign::Signer};

    use super::*;
    use crate::test_ca::{ec_key, rsa_key};

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match content.len() {
            ..0x80 => vec![length[1]],
            0x80..0x100 => vec![0x81, length[1]],
            _ => vec![0x82, length[0], length[1]],
        };
        [&[tag], &length[..], content].concat()
    }

    /// What `openssl spkac -key KEY -challenge hello` makes, with this algorithm's octets.
    pub(crate) fn spkac(key: &PKey<Private>, digest: MessageDigest, algorithm: &[u8]) -> Vec<u8> {
        let spki = key.public_key_to_der().unwrap();
        let signed = tlv(SEQUENCE, &[spki, tlv(IA5_STRING, b"hello")].concat());
        let mut signer = Signer::new(digest, key).unwrap();
        signer.update(&signed).unwrap();
        let signature = [&[0][..], &signer.sign_to_vec().unwrap()].concat();
        let algorithm = tlv(SEQUENCE, &[tlv(OBJECT_IDENTIFIER, algorithm), vec![5, 0]].concat());
        tlv(SEQUENCE, &[signed, algorithm, tlv(BIT_STRING, &signature)].concat())
    }

    pub(crate) const ECDSA_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    const RSA_SHA256: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    const RSA_MD5: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];

    fn good() -> Vec<u8> {
        spkac(&ec_key(), MessageDigest::sha256(), &ECDSA_SHA256)
    }

    #[test]
    fn bare_base64_wrapped_or_not_and_openssls_lines_hold_the_same_spkac() {
        let der = good();
        let digits = base64::encode_block(&der);
        let wrapped: Vec<&str> =
            digits.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect();
        let wrapped = wrapped.join("\r\n");
        for text in [digits.clone(), format!(" {wrapped}\n"), format!("SPKAC={digits}\n")] {
            let file = read(text.as_bytes(), "`f`").unwrap();
            assert_eq!((file.der, file.subject), (der.clone(), None), "{text}");
        }
        check(&der, "`f`").unwrap();
    }

    #[test]
    fn the_lines_of_openssls_form_are_the_subject_in_their_order() {
        let digits = base64::encode_block(&good());
        let text = format!(
            "# from the web form\nC = DE\n0.OU=First\n1.OU=Second\nSPKAC={digits}\n\
             CN=O\\'Brien, Zoë\nemailAddress=a@b.example\n2.5.4.12=Dr\n"
        );
        let subject = read(text.as_bytes(), "`f`").unwrap().subject.unwrap();
        let expected = "/C=DE/OU=First/OU=Second/CN=O'Brien, Zoë/emailAddress=a@b.example/title=Dr";
        assert_eq!(subject::show(&subject), expected);
    }

    #[test]
    fn a_line_that_could_mean_two_things_is_refused_by_its_number() {
        let digits = base64::encode_block(&good());
        for (line, code) in [
            ("CN=\"quoted\"", RefusalCode::SubjectRule),
            ("CN=$HOME", RefusalCode::SubjectRule),
            ("CN=a # b", RefusalCode::SubjectRule),
            ("CN=a\\nb", RefusalCode::SubjectRule),
            ("CN=a\\", RefusalCode::SubjectRule),
            ("CN=", RefusalCode::SubjectRule),
            ("challenge=hello", RefusalCode::SubjectRule),
            ("[section]", RefusalCode::CsrMalformed),
            ("SPKAC=again", RefusalCode::CsrMalformed),
        ] {
            let text = format!("SPKAC={digits}\n\n{line}\n");
            let refusal = read(text.as_bytes(), "`f`").unwrap_err();
            assert_eq!(refusal.code, code, "{line}");
            assert!(refusal.text.starts_with("line 3 of `f`: "), "{}", refusal.text);
        }
        assert_eq!(read(b"CN=a\n", "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
        assert_eq!(read(b"", "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
        assert_eq!(read(b"!!!!", "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
        assert_eq!(read(&[0xff, 0xfe], "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
        let long = vec![b'A'; FILE_MAX + 1];
        assert_eq!(read(&long, "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
        let der = vec![b'A'; (CSR_MAX + 3) / 3 * 4];
        assert_eq!(read(&der, "`f`").unwrap_err().code, RefusalCode::CsrMalformed);
    }

    #[test]
    fn a_weak_key_a_weak_digest_and_a_foreign_signature_are_told_apart() {
        let code = |der: &[u8]| check(der, "`f`").unwrap_err().code;
        let key = rsa_key(2048);
        check(&spkac(&key, MessageDigest::sha256(), &RSA_SHA256), "`f`").unwrap();
        let weak = spkac(&rsa_key(1024), MessageDigest::sha256(), &RSA_SHA256);
        assert_eq!(code(&weak), RefusalCode::KeyWeak);
        assert_eq!(code(&spkac(&key, MessageDigest::md5(), &RSA_MD5)), RefusalCode::CsrDigest);
        let unknown = spkac(&key, MessageDigest::sha256(), &[0x2a, 0x03]);
        assert_eq!(code(&unknown), RefusalCode::CsrDigest);
        let other = spkac(&key, MessageDigest::sha384(), &RSA_SHA256);
        assert_eq!(code(&other), RefusalCode::CsrSignature);
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let key = ec_key();
        let good = spkac(&key, MessageDigest::sha256(), &ECDSA_SHA256);
        assert!(PKey::public_key_from_der(public_key(&good).unwrap()).unwrap().public_eq(&key));
        assert!(check(&[&good[..], b"x"].concat(), "`f`").is_err());
        // The NULL behind the identifier is the algorithm's parameters, which nobody signs.
        let parameters = good.windows(8).position(|oid| oid == ECDSA_SHA256).unwrap() + 8;
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x01;
            let unsigned = (parameters..parameters + 2).contains(&index);
            assert!(unsigned || check(&bad, "`f`").is_err(), "byte {index}");
            assert!(check(&good[..index], "`f`").is_err(), "cut {index}");
        }
    }
}
