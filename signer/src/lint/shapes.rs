//! Which forms of certificates OpenSSL has read already.
//!
//! The form is all of a TBS certificate but the characters and numbers in it: every tag, every
//! length, every object identifier, flag and bit string. OpenSSL reads the first certificate of
//! each form; of the next it could only read other characters in the same places, and our own
//! reader compares those byte for byte. Its parser costs more than all our checks together.

use std::collections::HashSet;

use openssl::sha::Sha256;

use crate::{
    der::tag,
    intake::der::{DerError, Reader},
};

/// Forms remembered: names of all usual lengths for some profiles. When they are too many, all are
/// forgotten, and read again.
const FORMS_MAX: usize = 4096;
/// No extension is nested deeper.
const DEPTH_MAX: u32 = 16;
/// Longer strings of bits or octets, and longer integers, are keys, serials and names.
const VALUE_MAX: usize = 4;

/// Forms that OpenSSL has read.
#[derive(Debug, Default)]
pub struct Shapes(HashSet<[u8; 32]>);

impl Shapes {
    /// Runs `check` unless a certificate of the same form has passed it.
    pub(super) fn once<E>(
        &mut self,
        tbs: &[u8],
        check: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        // What we cannot walk through, OpenSSL judges each time.
        let Ok(form) = form(tbs) else { return check() };
        if self.0.contains(&form) {
            return Ok(());
        }
        check()?;
        if self.0.len() == FORMS_MAX {
            self.0.clear();
        }
        self.0.insert(form);
        Ok(())
    }
}

fn form(tbs: &[u8]) -> Result<[u8; 32], DerError> {
    let mut hasher = Sha256::new();
    walk(tbs, DEPTH_MAX, &mut hasher)?;
    Ok(hasher.finish())
}

fn walk(bytes: &[u8], depth: u32, hasher: &mut Sha256) -> Result<(), DerError> {
    let mut reader = Reader::new("TBSCertificate", bytes);
    while !reader.is_empty() {
        let element = reader.any()?;
        let header = element.whole.len() - element.content.len();
        hasher.update(&element.whole[..header]);
        let is_constructed = element.tag & 0x20 != 0;
        match element.tag {
            _ if is_constructed && depth > 0 => walk(element.content, depth - 1, hasher)?,
            _ if is_constructed => hasher.update(element.content),
            tag::OID | tag::BOOLEAN => hasher.update(element.content),
            _ if element.content.len() <= VALUE_MAX => hasher.update(element.content),
            // The value of an extension is DER again; a key identifier may look like it.
            tag::OCTET_STRING if depth > 0 && is_der(element.content, depth - 1) => {
                walk(element.content, depth - 1, hasher)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether [`walk`] can go through it.
fn is_der(bytes: &[u8], depth: u32) -> bool {
    let mut reader = Reader::new("extension value", bytes);
    while !reader.is_empty() {
        match reader.any() {
            Ok(element) if element.tag & 0x20 != 0 && depth > 0 => {
                if !is_der(element.content, depth - 1) {
                    return false;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der;

    fn extension(oid: &'static str, critical: bool, value: &[u8]) -> Vec<u8> {
        let critical = if critical { der::boolean_true() } else { Vec::new() };
        der::sequence(&[&der::known_oid(oid), &critical, &der::element(tag::OCTET_STRING, value)])
    }

    fn tbs(name: &[u8], extensions: &[u8]) -> Vec<u8> {
        let serial = der::element(tag::INTEGER, &[0x40; 16]);
        der::sequence(&[&serial, &der::element(tag::UTF8_STRING, name), extensions])
    }

    #[test]
    fn other_characters_have_the_same_form_and_anything_else_another() {
        let usage = |bits: u8| extension("2.5.29.15", true, &[0x03, 0x02, 0x05, bits]);
        let first = tbs(b"host-1.example", &usage(0xa0));
        let same = tbs(b"host-2.example", &usage(0xa0));
        assert_eq!(form(&first), form(&same));
        let ca = der::sequence(&[&der::boolean_true(), &der::unsigned(1)]);
        let others = [
            tbs(b"host-10.example", &usage(0xa0)),
            tbs(b"host-1.example", &usage(0x80)),
            tbs(b"host-1.example", &extension("2.5.29.15", false, &[0x03, 0x02, 0x05, 0xa0])),
            tbs(b"host-1.example", &extension("2.5.29.37", true, &[0x03, 0x02, 0x05, 0xa0])),
            tbs(b"host-1.example", &extension("2.5.29.19", true, &ca)),
        ];
        for other in &others {
            assert_ne!(form(&first), form(other));
        }
    }

    #[test]
    fn key_identifier_that_looks_like_der_from_outside_has_a_form() {
        let mut identifier = [0xff; 20];
        identifier[..2].copy_from_slice(&[0x30, 18]);
        let value = der::element(tag::OCTET_STRING, &identifier);
        let odd = form(&tbs(b"a", &extension("2.5.29.14", false, &value))).unwrap();
        let value = der::element(tag::OCTET_STRING, &[0xff; 20]);
        let usual = form(&tbs(b"a", &extension("2.5.29.14", false, &value))).unwrap();
        assert_eq!(odd, usual);
        // Nested as deep as it can be, and deeper than is looked at.
        let mut nested = vec![0xff; 4];
        for _ in 0..40 {
            nested = der::element(tag::OCTET_STRING, &nested);
            form(&tbs(b"a", &nested)).unwrap();
            form(&tbs(b"a", &der::sequence(&[&nested]))).unwrap();
        }
    }

    #[test]
    fn check_runs_once_for_each_form_and_again_after_a_failure() {
        let mut shapes = Shapes::default();
        let runs = std::cell::Cell::new(0);
        let mut run = |bytes: &[u8], result: Result<(), DerError>| {
            shapes.once(bytes, || {
                runs.set(runs.get() + 1);
                result
            })
        };
        let (short, long) = (tbs(b"a", &[]), tbs(b"ab", &[]));
        let failure = Err(DerError::Short { what: "x" });
        assert_eq!(run(&short, failure.clone()), failure);
        assert_eq!(run(&short, Ok(())), Ok(()));
        assert_eq!(run(&short, failure.clone()), Ok(()), "not asked again");
        assert_eq!(run(&long, failure.clone()), failure);
        assert_eq!(runs.get(), 3);
        for _ in 0..2 {
            assert_eq!(run(b"\x30\x05", failure.clone()), failure, "no form, so always asked");
        }
        assert_eq!(runs.get(), 5);
    }

    #[test]
    fn forms_are_bounded() {
        let mut shapes = Shapes::default();
        for length in 0..=FORMS_MAX {
            let name = vec![b'a'; length];
            shapes.once::<DerError>(&tbs(&name, &[]), || Ok(())).unwrap();
        }
        assert_eq!(shapes.0.len(), 1);
    }
}
