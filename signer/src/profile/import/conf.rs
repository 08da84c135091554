//! Reads OpenSSL's configuration files (config(5)) as `openssl ca` understands them: sections,
//! variables, quotes, escapes, continued lines.
//!
//! The file is data here. Nothing is fetched, included, loaded or taken from this process's
//! environment: what would need that is refused, or stays unread until somebody asks for it.

use std::collections::BTreeMap;

/// Why a file is no configuration that can be read here. The caller names the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfFault {
    /// The file is in another encoding.
    #[error("this line is not UTF-8; convert the file, for example with `iconv -f latin1 -t utf8`")]
    NotUtf8,
    /// No configuration has this size.
    #[error("the file has more than {FILE_MAX} bytes; no configuration has")]
    FileTooLong,
    /// A line with its continuations is too long.
    #[error("this line has more than {VALUE_MAX} bytes with its continuations; shorten it")]
    LineTooLong,
    /// Control characters hide what a line says.
    #[error("this line has a control character (code {0}); remove it")]
    ControlCharacter(u32),
    /// A line is neither section, comment nor `name = value`.
    #[error("this line has no `=` after its name; write name = value, or # in front of a comment")]
    NoEquals,
    /// A value without a name.
    #[error("there is no name in front of the `=`; write name = value")]
    NoName,
    /// A section's name does not end.
    #[error("the section's name has no `]`; write [ name ]")]
    NoSquareBracket,
    /// `${` or `$(` does not end.
    #[error("a variable in the value has no closing `{0}`; write it, or \\$ for a dollar sign")]
    NoBrace(char),
    /// A variable that is nowhere.
    #[error(
        "the variable `{0}` has no value above this line; define it, or write \\$ for a dollar"
    )]
    NoValue(String),
    /// Expansion made too much of a value.
    #[error("the variables make the value longer than {VALUE_MAX} bytes; write it out")]
    ValueTooLong,
    /// Expansion made too much of all values.
    #[error("the variables make the file longer than {EXPANDED_MAX} bytes; write them out")]
    ExpandedTooLong,
    /// `.include` would read another file.
    #[error(".include is not followed; put the other file's text in its place")]
    Include,
    /// `.pragma` would change how the rest is read.
    #[error(".pragma is not followed; write the file so that it does not need it")]
    Pragma,
    /// A value that the environment would decide.
    #[error(
        "the value depends on the environment variable {0}, which is never looked up; say it with \
         --env {0}=VALUE, or write it out"
    )]
    Environment(String),
}

/// A fault and the line it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The first line of what is meant, counted from 1.
    pub line: u32,
    /// What is meant.
    pub what: T,
}

/// A configuration file with its variables expanded.
#[derive(Clone, Debug, Default)]
pub struct Conf {
    sections: BTreeMap<String, Section>,
    environment: BTreeMap<String, String>,
    expanded: usize,
}

/// One section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The line of its first header; 0 for what stands before any.
    pub line: u32,
    entries: BTreeMap<String, Entry>,
}

/// One `name = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins.
    pub line: u32,
    /// The name, as written.
    pub key: String,
    value: Value,
}

/// A value, or why it cannot be known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    /// It needs this variable of the environment, which nobody told us.
    NeedsEnvironment(String),
}

impl Entry {
    /// The value; a fault if the environment would decide it.
    pub fn value(&self) -> Result<&str, At<ConfFault>> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::NeedsEnvironment(name) => {
                Err(At { line: self.line, what: ConfFault::Environment(name.clone()) })
            }
        }
    }
}

impl Section {
    /// What it holds, in openssl's order: a name given twice stands where it was given last.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.line); // a line has one entry
        entries
    }

    /// The entry of this name.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }
}

impl Conf {
    /// Reads a file; `environment` is what `$ENV::NAME` may be.
    pub fn read(
        bytes: &[u8],
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, At<ConfFault>> {
        let mut conf = Self { environment: environment.clone(), ..Self::default() };
        conf.sections.insert(DEFAULT.to_owned(), Section::default());
        let mut section = DEFAULT.to_owned();
        for At { line, what } in logical_lines(text_of(bytes)?)? {
            conf.read_line(&mut section, line, &what).map_err(|what| At { line, what })?;
        }
        Ok(conf)
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(name)
    }

    /// What `name` is in `section`: its own entry, else the one before all sections, as openssl
    /// looks it up.
    pub fn lookup(&self, section: &str, key: &str) -> Option<&Entry> {
        let own = self.section(section).and_then(|section| section.entry(key));
        own.or_else(|| self.section(DEFAULT)?.entry(key))
    }

    fn read_line(&mut self, section: &mut String, line: u32, text: &str) -> Result<(), ConfFault> {
        let characters: Vec<char> = text.chars().collect();
        let characters = trim(without_comment(&characters));
        let Some(first) = characters.first() else { return Ok(()) };
        if *first == '[' {
            let Value::Text(name) = self.expand(DEFAULT, section_name(&characters[1..])?)? else {
                return Err(ConfFault::Environment("in a section's name".to_owned()));
            };
            self.sections
                .entry(name.clone())
                .or_insert_with(|| Section { line, ..Section::default() });
            *section = name;
            return Ok(());
        }
        let mut end = name_length(characters);
        let mut key = &characters[..end];
        let mut target = section.clone();
        if characters[end..].starts_with(&[':', ':']) {
            target = key.iter().collect();
            let start = end + 2;
            end = start + name_length(&characters[start..]);
            key = &characters[start..end];
        }
        let key: String = key.iter().collect();
        let rest = trim(&characters[end..]);
        // Before the `=` is looked for: `.include FILE` has none.
        let spaced = characters.get(end).is_some_and(|next| is_space(*next) || *next == '=');
        for (word, fault) in [(".include", ConfFault::Include), (".pragma", ConfFault::Pragma)] {
            if key == word && (spaced || rest.is_empty()) {
                return Err(fault);
            }
        }
        let Some(('=', value)) = rest.split_first().map(|(first, value)| (*first, value)) else {
            return Err(ConfFault::NoEquals);
        };
        if key.is_empty() {
            return Err(ConfFault::NoName);
        }
        let value = self.expand(&target, trim(value))?;
        let into =
            self.sections.entry(target).or_insert_with(|| Section { line, ..Section::default() });
        into.entries.insert(key.clone(), Entry { line, key, value });
        Ok(())
    }

    /// Takes quotes and escapes away and puts the variables' values in.
    fn expand(&mut self, section: &str, text: &[char]) -> Result<Value, ConfFault> {
        let mut out = String::new();
        let mut needs = None;
        let mut at = 0;
        while let Some(character) = text.get(at).copied() {
            at += 1;
            match character {
                quote if is_quote(quote) => {
                    while let Some(inner) = text.get(at).copied().filter(|inner| *inner != quote) {
                        // An escape inside quotes only takes the next character literally.
                        at += usize::from(inner == '\\');
                        out.extend(text.get(at));
                        at += 1;
                    }
                    at += 1;
                }
                '\\' => {
                    out.extend(text.get(at).map(|escaped| match escaped {
                        'r' => '\r',
                        'n' => '\n',
                        'b' => '\u{8}',
                        't' => '\t',
                        other => *other,
                    }));
                    at += 1;
                }
                '$' => {
                    let (variable, length) = Variable::read(section, &text[at..])?;
                    at += length;
                    match self.value_of(&variable)? {
                        Value::Text(value) => out.push_str(&value),
                        Value::NeedsEnvironment(name) => needs = Some(name),
                    }
                }
                other => out.push(other),
            }
            if out.len() > VALUE_MAX {
                return Err(ConfFault::ValueTooLong);
            }
        }
        self.expanded += out.len();
        if self.expanded > EXPANDED_MAX {
            return Err(ConfFault::ExpandedTooLong);
        }
        Ok(needs.map_or(Value::Text(out), Value::NeedsEnvironment))
    }

    fn value_of(&self, variable: &Variable) -> Result<Value, ConfFault> {
        let Variable { section, name } = variable;
        let own = self.section(section).and_then(|section| section.entry(name));
        match (own, section == ENVIRONMENT) {
            (Some(entry), _) => Ok(entry.value.clone()),
            (None, true) => Ok(match self.environment.get(name) {
                Some(told) => Value::Text(told.clone()),
                // openssl would take the default section's value if the variable is not set, but
                // whether it is set is not known here.
                None => Value::NeedsEnvironment(name.clone()),
            }),
            (None, false) => match self.lookup(DEFAULT, name) {
                Some(entry) => Ok(entry.value.clone()),
                None => Err(ConfFault::NoValue(name.clone())),
            },
        }
    }
}

/// `$name`, `${name}`, `$(name)`, each also as `section::name`.
struct Variable {
    section: String,
    name: String,
}

impl Variable {
    /// Reads what follows the dollar sign; also how many characters it was.
    fn read(section: &str, text: &[char]) -> Result<(Self, usize), ConfFault> {
        let close = match text.first() {
            Some('{') => Some('}'),
            Some('(') => Some(')'),
            _ => None,
        };
        let mut at = usize::from(close.is_some());
        let word = |from: usize| -> String {
            text[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect()
        };
        let (mut section, mut name) = (section.to_owned(), word(at));
        at += name.len(); // a word is ASCII
        if text[at..].starts_with(&[':', ':']) {
            section = name;
            name = word(at + 2);
            at += 2 + name.len();
        }
        if let Some(close) = close {
            if text.get(at) != Some(&close) {
                return Err(ConfFault::NoBrace(close));
            }
            at += 1;
        }
        Ok((Self { section, name }, at))
    }
}

//------------ Lines ---------------------------------------------------------

fn text_of(bytes: &[u8]) -> Result<&str, At<ConfFault>> {
    if bytes.len() > FILE_MAX {
        return Err(At { line: 1, what: ConfFault::FileTooLong });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let breaks = before.iter().filter(|byte| **byte == b'\n').count();
        At { line: breaks as u32 + 1, what: ConfFault::NotUtf8 } // at most FILE_MAX lines
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text)) // as openssl does
}

/// The lines with their continuations joined: a line goes on if it ends in one backslash.
fn logical_lines(text: &str) -> Result<Vec<At<String>>, At<ConfFault>> {
    let mut lines: Vec<At<String>> = Vec::new();
    let mut goes_on = false;
    for (number, physical) in (1_u32..).zip(text.split('\n')) {
        let physical = physical.trim_end_matches('\r');
        let control = |c: &char| c.is_control() && *c != '\t' && *c != '\r';
        if let Some(control) = physical.chars().find(control) {
            let what = ConfFault::ControlCharacter(u32::from(control));
            return Err(At { line: number, what });
        }
        if !goes_on {
            lines.push(At { line: number, what: String::new() });
        }
        let Some(At { line, what }) = lines.last_mut() else { continue };
        what.push_str(physical);
        goes_on = what.ends_with('\\') && !what.ends_with("\\\\");
        if goes_on {
            what.pop();
        }
        if what.len() > VALUE_MAX {
            return Err(At { line: *line, what: ConfFault::LineTooLong });
        }
    }
    Ok(lines)
}

/// What stands before a `#` that is neither quoted nor escaped.
fn without_comment(text: &[char]) -> &[char] {
    let mut at = 0;
    while let Some(character) = text.get(at).copied() {
        at += 1;
        match character {
            '#' => return &text[..at - 1],
            '\\' => at += 1,
            quote if is_quote(quote) => {
                while let Some(inner) = text.get(at).filter(|inner| **inner != quote) {
                    at += 1 + usize::from(*inner == '\\');
                }
                at += 1;
            }
            _ => {}
        }
    }
    text
}

/// The name between `[` and `]`: words that may be apart.
fn section_name(text: &[char]) -> Result<&[char], ConfFault> {
    let start = text.iter().take_while(|c| is_space(**c)).count();
    let mut at = start;
    loop {
        let end = at + name_length(&text[at..]);
        let next = end + text[end..].iter().take_while(|c| is_space(**c)).count();
        match text.get(next) {
            Some(']') => return Ok(&text[start..end]),
            Some(_) if next > at => at = next,
            _ => return Err(ConfFault::NoSquareBracket),
        }
    }
}

/// How many of the first characters belong to a name.
fn name_length(text: &[char]) -> usize {
    let mut at = 0;
    while let Some(character) = text.get(at) {
        match character {
            '\\' => at += 2,
            '_' => at += 1,
            c if c.is_ascii_alphanumeric() || NAME_PUNCTUATION.contains(*c) => at += 1,
            _ => break,
        }
    }
    at.min(text.len())
}

fn trim(text: &[char]) -> &[char] {
    let start = text.iter().take_while(|c| is_space(**c)).count();
    let end = text.iter().rev().take_while(|c| is_space(**c)).count();
    &text[start..text.len().saturating_sub(end).max(start)]
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_quote(character: char) -> bool {
    matches!(character, '"' | '\'' | '`')
}

/// The section of what stands before any.
pub const DEFAULT: &str = "default";
const ENVIRONMENT: &str = "ENV";
const NAME_PUNCTUATION: &str = "!.%&*+,/;?@^~|-";

/// The longest file: openssl's own example has 12 kB.
pub const FILE_MAX: usize = 1 << 20;
/// OpenSSL's MAX_CONF_VALUE_LENGTH.
const VALUE_MAX: usize = 1 << 16;
/// All values together: variables cannot make more of a file than this.
const EXPANDED_MAX: usize = 4 * FILE_MAX;

#[cfg(test)]
mod tests;
