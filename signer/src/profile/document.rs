//! Reads the text of a profile, so that every fault can name its line.
//!
//! A key that cannot be read is reported, left out, and the rest is read on: one mistake does not
//! hide the next. What is left out permits nothing, since absent keys permit the least.

use std::ops::Range;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{ProfileConfig, fault::ProfileFault};

/// The text of a profile with the place of each key.
pub(super) struct Document<'a> {
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// Reads TOML; where it is none, every place where it is not.
    pub(super) fn parse(text: &'a str) -> Result<Self, Vec<ProfileFault>> {
        let whole_file =
            |text: String| ProfileFault { line: None, key: "".into(), text, clause: "" };
        if text.len() > TEXT_MAX {
            return Err(vec![whole_file(format!(
                "it has {} bytes, a profile has at most {TEXT_MAX}",
                text.len()
            ))]);
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self { text, table: table.into_inner() });
        }
        let fault = |error: &toml::de::Error| ProfileFault {
            line: error.span().map(|span| line_at(text, span.start)),
            ..whole_file(format!("no TOML: {}", error.message()))
        };
        Err(errors.iter().take(FAULTS_MAX).map(fault).collect())
    }

    /// The profile that the text says, and the keys that are missing or could not be read; no
    /// profile where too little could.
    pub(super) fn config(&self) -> (Option<ProfileConfig>, Vec<ProfileFault>) {
        let mut table = self.table.clone();
        let mut faults = self.missing();
        while faults.len() < FAULTS_MAX {
            let whole = toml::Spanned::new(0..self.text.len(), table.clone());
            let error = match ProfileConfig::deserialize(toml::de::Deserializer::from(whole)) {
                Ok(config) => return (Some(config), faults),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let removed = remove_at(&mut table, &span);
            let text = error.message().replace('\n', " ");
            faults.push(ProfileFault {
                line: removed.is_some().then(|| line_at(self.text, span.start)),
                key: removed.clone().unwrap_or_default(),
                text,
                clause: "",
            });
            if removed.is_none() {
                break;
            }
        }
        (None, faults)
    }

    /// The parts that a reviewer must find written down, even where they are empty.
    fn missing(&self) -> Vec<ProfileFault> {
        let mut absent: Vec<&str> = Vec::new();
        for key in REQUIRED {
            let depth = self.find(key).1;
            let section = key.split('.').next().unwrap_or(key);
            match depth {
                0 if !absent.contains(&section) => absent.push(section),
                1 if key.contains('.') => absent.push(key),
                _ => {}
            }
        }
        let fault = |key: &str| ProfileFault {
            line: self.line_of(key),
            key: key.to_owned(),
            text: "is missing; write it, even if it is empty".into(),
            clause: "",
        };
        absent.into_iter().map(fault).collect()
    }

    /// The line of `key`, as `validity.max[1].days`, or of the nearest part around it.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let at = self.find(key).0?;
        Some(line_at(self.text, at))
    }

    /// Where `key` or the nearest part around it begins, and how many parts of it are there.
    fn find(&self, key: &str) -> (Option<usize>, usize) {
        let (mut table, mut at, mut depth) = (Some(&self.table), None, 0);
        for part in key.split('.') {
            let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((name, index)) => (name, index.parse::<usize>().ok()),
                None => (part, None),
            };
            let found = table
                .and_then(|table| table.iter().find(|(key, _)| key.get_ref().as_ref() == name));
            let Some((key, value)) = found else { break };
            (at, depth) = (Some(key.span().start), depth + 1);
            let mut value = value.get_ref();
            if let (Some(index), DeValue::Array(items)) = (index, value) {
                let Some(item) = items.get(index) else { break };
                (at, value) = (Some(item.span().start), item.get_ref());
            }
            table = value.as_table();
        }
        (at, depth)
    }
}

/// Takes out the smallest item at `span`; its key.
fn remove_at(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut own = None;
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().to_string();
        if covers(key.span()) {
            own = Some(name);
            break;
        }
        let whole = value.span();
        let inner = match value.get_mut() {
            DeValue::Table(inner) => remove_at(inner, span).map(|key| format!("{name}.{key}")),
            DeValue::Array(items) => remove_item(items, span, &name),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if covers(whole) {
            own = Some(name);
            break;
        }
    }
    let own = own?;
    table.remove(own.as_str());
    Some(own)
}

fn remove_item(
    items: &mut toml::de::DeArray<'_>,
    span: &Range<usize>,
    name: &str,
) -> Option<String> {
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let index = items.iter().position(|item| covers(item.span()))?;
    let item = items.get_mut(index)?;
    if let DeValue::Table(inner) = item.get_mut()
        && let Some(key) = remove_at(inner, span)
    {
        return Some(format!("{name}[{index}].{key}"));
    }
    let kept = std::mem::replace(items, toml::de::DeArray::new()).into_iter().enumerate();
    *items = kept.filter(|(at, _)| *at != index).map(|(_, item)| item).collect();
    Some(format!("{name}[{index}]"))
}

/// The line, from 1, of an offset.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

const REQUIRED: [&str; 8] = [
    "validity.days_default",
    "validity.max",
    "keys",
    "subject.allowed",
    "names.types",
    "names.max",
    "extensions",
    "extensions.key_usage",
];

/// The longest of the profiles in use has 3 kB.
const TEXT_MAX: usize = 64 * 1024;
/// More than a person corrects at once.
const FAULTS_MAX: usize = 100;
