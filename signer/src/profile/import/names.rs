//! The small languages inside values: object identifiers, `name:value` lists, `@section`.
//!
//! They are read as openssl reads them; what they mean is decided elsewhere.

use openssl::asn1::Asn1Object;

use super::{
    ImportError, ImportFault,
    conf::{Conf, DEFAULT},
};
use crate::{
    der::{self, tag},
    intake::der::Reader,
};

/// The dotted form of an object identifier, a short or long name of openssl, or a name of the
/// file's `oid_section`.
pub(super) fn oid_of(conf: &Conf, text: &str) -> Result<Option<String>, ImportError> {
    if let Some(own) = own_oid(conf, text)? {
        return Ok(Some(own));
    }
    if text.contains('\0') {
        return Ok(None); // the library's text ends there
    }
    Ok(Asn1Object::from_str(text).ok().and_then(|object| dotted(&object)))
}

/// The dotted form of an object of OpenSSL.
fn dotted(object: &Asn1Object) -> Option<String> {
    let element = der::element(tag::OID, object.as_slice());
    Reader::new("object identifier", &element).oid("object identifier").ok()
}

/// A name of `oid_section`, whose values are `1.2.3` or `long name, 1.2.3`.
fn own_oid(conf: &Conf, text: &str) -> Result<Option<String>, ImportError> {
    let Some(named) = conf.lookup(DEFAULT, "oid_section") else { return Ok(None) };
    let Some(section) = conf.section(named.value()?) else { return Ok(None) };
    for entry in section.entries() {
        let value = entry.value()?;
        let (long_name, dotted) = value.rsplit_once(',').unwrap_or((&entry.key, value));
        let dotted = dotted.trim();
        if (entry.key == text || long_name.trim() == text) && der::oid(dotted).is_some() {
            return Ok(Some(dotted.to_owned()));
        }
    }
    Ok(None)
}

/// One part of an extension's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The line it is written in.
    pub(super) line: u32,
    /// What stands before the first colon, or all of it.
    pub(super) name: String,
    /// What stands after the first colon.
    pub(super) value: Option<String>,
}

impl Part {
    /// Whether the name is `word`, also as `word.1`: openssl numbers names to tell them apart.
    pub(super) fn is(&self, word: &str) -> bool {
        self.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// As it was written.
    pub(super) fn written(&self) -> String {
        match &self.value {
            Some(value) => format!("{}:{value}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The parts of a value: `a, b:c, d`, or those of the section that `@name` names.
pub(super) fn parts(
    conf: &Conf,
    line: u32,
    key: &str,
    value: &str,
) -> Result<Vec<Part>, ImportError> {
    match value.strip_prefix('@') {
        Some(name) => section_parts(conf, line, key, name),
        None => list(line, key, value),
    }
}

/// The parts that a section holds, one an entry.
pub(super) fn section_parts(
    conf: &Conf,
    line: u32,
    key: &str,
    name: &str,
) -> Result<Vec<Part>, ImportError> {
    let section = conf.section(name).ok_or_else(|| ImportError {
        line,
        fault: ImportFault::NoSection { key: key.to_owned(), section: name.to_owned() },
    })?;
    let part = |entry: &super::conf::Entry| -> Result<Part, ImportError> {
        let value = Some(entry.value()?.to_owned());
        Ok(Part { line: entry.line, name: entry.key.clone(), value })
    };
    section.entries().into_iter().map(part).collect()
}

/// X509V3_parse_list: commas part, the first colon of a part ends its name.
fn list(line: u32, key: &str, text: &str) -> Result<Vec<Part>, ImportError> {
    let empty = || super::ca::bad(line, key, text, "a part of the list is empty");
    let part = |written: &str| {
        let (name, value) = match written.split_once(':') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (written.trim(), None),
        };
        if name.is_empty() || value == Some("") {
            return Err(empty());
        }
        Ok(Part { line, name: name.to_owned(), value: value.map(str::to_owned) })
    };
    text.split(',').map(part).collect()
}
