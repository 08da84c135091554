//! A TBSCertificate taken apart by the intake's strict reader.
//!
//! It only reads; whether what it reads is right is judged beside.

use crate::{
    der::tag,
    intake::der::{DerError, Element, Reader},
    tbs::extension,
};

/// The fields of a TBSCertificate (RFC 5280 4.1). No unique identifiers are taken.
pub(super) struct Fields<'a> {
    pub(super) version: Element<'a>,
    /// The INTEGER's content.
    pub(super) serial: &'a [u8],
    pub(super) algorithm: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Element<'a>,
    pub(super) not_after: Element<'a>,
    pub(super) subject: &'a [u8],
    pub(super) public_key: &'a [u8],
    pub(super) extensions: Vec<Extension<'a>>,
}

/// One extension, its value not yet read.
pub(super) struct Extension<'a> {
    pub(super) oid: String,
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn read(tbs: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new("TBSCertificate", tbs);
        let mut fields = outer.inner("TBSCertificate", tag::SEQUENCE)?;
        outer.finish()?;
        let version = fields.element("version", 0xa0)?;
        let serial = fields.element("serialNumber", tag::INTEGER)?.content;
        let algorithm = fields.element("signature", tag::SEQUENCE)?.whole;
        let issuer = fields.element("issuer", tag::SEQUENCE)?.whole;
        let mut validity = fields.inner("validity", tag::SEQUENCE)?;
        let (not_before, not_after) = (validity.any()?, validity.any()?);
        validity.finish()?;
        let subject = fields.element("subject", tag::SEQUENCE)?.whole;
        let public_key = fields.element("subjectPublicKeyInfo", tag::SEQUENCE)?.whole;
        let mut wrapper = fields.inner("extensions", 0xa3)?;
        fields.finish()?;
        let mut list = wrapper.inner("extensions", tag::SEQUENCE)?;
        wrapper.finish()?;
        let mut extensions = Vec::new();
        while !list.is_empty() {
            let mut extension = list.inner("extension", tag::SEQUENCE)?;
            let oid = extension.oid("extension")?;
            let critical = extension.default_false("critical")?;
            let value = extension.element("extension value", tag::OCTET_STRING)?.content;
            extension.finish()?;
            extensions.push(Extension { oid, critical, value });
        }
        Ok(Self {
            version,
            serial,
            algorithm,
            issuer,
            not_before,
            not_after,
            subject,
            public_key,
            extensions,
        })
    }

    pub(super) fn extension(&self, oid: &str) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// cA and pathLenConstraint; absent means no CA.
    pub(super) fn basic_constraints(&self) -> Result<(bool, Option<u16>), DerError> {
        let Some(extension) = self.extension(extension::BASIC_CONSTRAINTS) else {
            return Ok((false, None));
        };
        let mut reader = Reader::new("basicConstraints", extension.value);
        let mut fields = reader.inner("basicConstraints", tag::SEQUENCE)?;
        reader.finish()?;
        let is_ca = fields.default_false("cA")?;
        let path_length = match fields.is_empty() {
            true => None,
            false => Some(fields.small_integer("pathLenConstraint")?),
        };
        fields.finish()?;
        Ok((is_ca, path_length))
    }

    /// The bits of keyUsage, lowest first; nothing where it is absent.
    pub(super) fn key_usage(&self) -> Result<Option<Vec<u8>>, DerError> {
        let Some(extension) = self.extension(extension::KEY_USAGE) else { return Ok(None) };
        let mut reader = Reader::new("keyUsage", extension.value);
        let bits = reader.element("keyUsage", tag::BIT_STRING)?.content;
        reader.finish()?;
        named_bits(bits).map(Some).ok_or(DerError::Content { what: "keyUsage" })
    }

    /// The purposes of extKeyUsage; none where it is absent.
    pub(super) fn purposes(&self) -> Result<Vec<String>, DerError> {
        let mut found = Vec::new();
        if let Some(extension) = self.extension(extension::EXTENDED_KEY_USAGE) {
            let mut reader = Reader::new("extKeyUsage", extension.value);
            let mut list = reader.inner("extKeyUsage", tag::SEQUENCE)?;
            reader.finish()?;
            while !list.is_empty() {
                found.push(list.oid("KeyPurposeId")?);
            }
        }
        Ok(found)
    }
}

/// Which bits of a named BIT STRING are set, lowest first; DER leaves no trailing zeros.
fn named_bits(content: &[u8]) -> Option<Vec<u8>> {
    let (unused, octets) = content.split_first()?;
    let last = *octets.last()?;
    if *unused > 7 || last.trailing_zeros() != u32::from(*unused) {
        return None;
    }
    let bits = 0..u8::try_from(octets.len() * 8).ok()?;
    Some(bits.filter(|bit| octets[usize::from(bit / 8)] & (0x80 >> (bit % 8)) != 0).collect())
}
