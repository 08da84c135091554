//! Letters that deceive: what cannot be seen, what stands for ASCII, scripts mixed in one word.
//!
//! The rule is simple, so that a person can tell beforehand what it says:
//!
//! 1. No control, format, private or unassigned character, and no space but U+0020. The joiners
//!    U+200C and U+200D stay between letters of the scripts that need them.
//! 2. No character whose compatibility form is a letter, digit, `@`, `<` or `>` of ASCII.
//! 3. All letters of a word are of one script; Han goes with kana, with Hangul, with Bopomofo.
//! 4. A word of Cyrillic, Greek or Armenian letters that all look like Latin ones is refused in a
//!    domain whose last label is ASCII, in the local part before an ASCII domain, and in a name
//!    that has a Latin word too.
//!
//! It is no complete defence: UTS 39 lists thousands of pairs. What it lets through still had to
//! be verified by the frontend and bound by the key's owner.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
    props::{DefaultIgnorableCodePoint, GeneralCategory, Script},
};

use super::{MARKS_MAX, UserIdFault};

const SCRIPT: CodePointMapDataBorrowed<'static, Script> = CodePointMapData::<Script>::new();
const CATEGORY: CodePointMapDataBorrowed<'static, GeneralCategory> =
    CodePointMapData::<GeneralCategory>::new();
const INVISIBLE: CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();

/// Letters that a reader takes for Latin ones.
const LIKE_LATIN: &str = "асеорхуіјѕԁԛԝһӏ\
                          АВСЕНІЈКМОРЅТХУԚԜҺӀ\
                          ονικραυ\
                          ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ\
                          օոսհգց";

/// Rules 1 and 2.
pub(super) fn check_characters(text: &str) -> Result<(), UserIdFault> {
    let mut before = ' ';
    for c in text.chars() {
        let seen = match c {
            ' ' => true,
            '\u{200c}' | '\u{200d}' => joins(before),
            _ => is_visible(c),
        };
        if !seen {
            return Err(UserIdFault::Character(c.into()));
        }
        if !c.is_ascii() && disguises_ascii(c) {
            return Err(UserIdFault::Disguise(c.into()));
        }
        before = c;
    }
    Ok(())
}

fn is_visible(c: char) -> bool {
    use GeneralCategory::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate,
        Unassigned,
    };

    !INVISIBLE.contains(c)
        && c != '\u{2800}' // a braille cell without dots
        && !matches!(
            CATEGORY.get(c),
            Control
                | Format
                | LineSeparator
                | ParagraphSeparator
                | PrivateUse
                | SpaceSeparator
                | Surrogate
                | Unassigned
        )
}

/// Whether a joiner after this character means something.
fn joins(before: char) -> bool {
    let plain = [
        Script::Common,
        Script::Inherited,
        Script::Latin,
        Script::Greek,
        Script::Cyrillic,
        Script::Armenian,
        Script::Unknown,
    ];
    is_letter(before) && !plain.contains(&SCRIPT.get(before))
}

fn disguises_ascii(c: char) -> bool {
    let mut buffer = [0; 4];
    let form = NFKC.normalize(c.encode_utf8(&mut buffer));
    form.chars().any(|c| c.is_ascii_alphanumeric() || matches!(c, '@' | '<' | '>'))
}

/// Letters and the marks on them.
pub(super) fn is_letter(c: char) -> bool {
    use GeneralCategory::{
        EnclosingMark, LowercaseLetter, ModifierLetter, NonspacingMark, OtherLetter, SpacingMark,
        TitlecaseLetter, UppercaseLetter,
    };

    matches!(
        CATEGORY.get(c),
        UppercaseLetter
            | LowercaseLetter
            | TitlecaseLetter
            | ModifierLetter
            | OtherLetter
            | NonspacingMark
            | SpacingMark
            | EnclosingMark
    )
}

/// A letter hidden under marks is no letter any more.
pub(super) fn check_marks(text: &str) -> Result<(), UserIdFault> {
    let mut row = 0;
    for c in text.chars() {
        let is_mark = matches!(
            CATEGORY.get(c),
            GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark
        );
        row = if is_mark { row + 1 } else { 0 };
        if row > MARKS_MAX {
            return Err(UserIdFault::Marks);
        }
    }
    Ok(())
}

/// Rules 3 and 4 for a name.
pub(super) fn check_name(name: &str) -> Result<(), UserIdFault> {
    check_words(name)?;
    if words(name).any(is_latin) { check_look_alike(name) } else { Ok(()) }
}

/// Rules 3 and 4 for a domain in its Unicode form.
pub(super) fn check_domain(domain: &str) -> Result<(), UserIdFault> {
    check_words(domain)?;
    let last = domain.rsplit('.').next().unwrap_or_default();
    if last.is_ascii() { check_look_alike(domain) } else { Ok(()) }
}

/// Rules 3 and 4 for a local part.
pub(super) fn check_local(local: &str, domain_is_ascii: bool) -> Result<(), UserIdFault> {
    check_words(local)?;
    if domain_is_ascii { check_look_alike(local) } else { Ok(()) }
}

fn check_words(text: &str) -> Result<(), UserIdFault> {
    match words(text).find(|word| !is_of_one_script(word)) {
        Some(word) => Err(UserIdFault::MixedScripts(word.to_owned())),
        None => Ok(()),
    }
}

fn check_look_alike(text: &str) -> Result<(), UserIdFault> {
    let like = |word: &&str| !is_latin(word) && word.chars().all(|c| LIKE_LATIN.contains(c));
    match words(text).find(like) {
        Some(word) => Err(UserIdFault::LookAlike(word.to_owned())),
        None => Ok(()),
    }
}

/// Runs of letters; everything else divides.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let divides = |c: char| !is_letter(c) && c != '\u{200c}' && c != '\u{200d}';
    text.split(divides).filter(|word| !word.is_empty())
}

fn is_latin(word: &str) -> bool {
    word.chars().any(|c| SCRIPT.get(c) == Script::Latin)
}

fn is_of_one_script(word: &str) -> bool {
    const TOGETHER: [&[Script]; 3] = [
        &[Script::Han, Script::Hiragana, Script::Katakana],
        &[Script::Han, Script::Hangul],
        &[Script::Han, Script::Bopomofo],
    ];
    let mut scripts: Vec<Script> = Vec::new();
    for script in word.chars().map(|c| SCRIPT.get(c)) {
        if script != Script::Common && script != Script::Inherited && !scripts.contains(&script) {
            scripts.push(script);
        }
    }
    scripts.len() < 2
        || TOGETHER.iter().any(|group| scripts.iter().all(|script| group.contains(script)))
}
