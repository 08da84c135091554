//! The reader against what openssl makes of the same text, and against arbitrary bytes.

use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::{der::tag, intake::der::Reader};

fn read(text: &str) -> Result<Conf, At<ConfFault>> {
    Conf::read(text.as_bytes(), &BTreeMap::new())
}

fn value(text: &str, section: &str, key: &str) -> String {
    let conf = read(text).unwrap();
    conf.lookup(section, key).unwrap().value().unwrap().to_owned()
}

fn fault(text: &str) -> (u32, ConfFault) {
    let at = read(text).unwrap_err();
    (at.line, at.what)
}

#[test]
fn sections_values_and_lines_are_found() {
    let conf = read("top = 1\n\n[ a ]\nx = y z  \n# no\n[b]\nx=2\n[a]\nlast=3").unwrap();
    let a = conf.section("a").unwrap();
    assert_eq!(a.line, 3);
    let found: Vec<_> = a.entries().iter().map(|e| (e.line, e.key.clone())).collect();
    assert_eq!(found, [(4, "x".to_owned()), (9, "last".to_owned())]);
    assert_eq!(a.entry("x").unwrap().value(), Ok("y z"));
    assert!(conf.section("c").is_none());
}

#[test]
fn what_a_section_lacks_is_taken_from_before_all_sections() {
    assert_eq!(value("x = 1\n[a]\ny = 2", "a", "x"), "1");
    assert_eq!(value("x = 1\n[a]\nx = 2", "a", "x"), "2");
}

#[test]
fn variables_come_from_their_section_else_from_the_default_one() {
    let text = "dir = /top\n[a]\ndir = /a\none = $dir/x\ntwo = ${dir}x\nthree = $(dir)x\n\
                four = $b::dir\n[b]\none = ${a::dir}x\ntwo = $dir";
    assert_eq!(value(text.replace("$b::", "$a::").as_str(), "a", "one"), "/a/x");
    assert_eq!(value(text, "a", "two"), "/ax");
    assert_eq!(value(text, "a", "three"), "/ax");
    assert_eq!(value(text, "a", "four"), "/top");
    assert_eq!(value(text, "b", "one"), "/ax");
    assert_eq!(value(text, "b", "two"), "/top");
}

#[test]
fn quotes_escapes_comments_and_continued_lines_are_taken_away() {
    for (written, meant) in [
        ("a#b", "a"),
        (r"a\#b", "a#b"),
        ("'a # b' c # d", "a # b c"),
        (r#""a\"b" `c d`"#, "a\"b c d"),
        (r"a\tb\nc\\d\$e", "a\tb\nc\\d$e"),
        ("'$x'", "$x"),
        ("one \\\n  two", "one   two"),
        ("one \\\r\ntwo\r", "one two"),
        (r"ends in two\\", "ends in two\\"),
        ("", ""),
    ] {
        let text = format!("x = 1\n[a]\nkey = {written}\nnext = 1");
        assert_eq!(value(&text, "a", "key"), meant, "{written}");
        assert_eq!(value(&text, "a", "next"), "1", "{written}");
    }
}

#[test]
fn the_last_of_two_values_holds_where_it_stands() {
    let conf = read("[a]\nx = 1\ny = 2\nx = 3").unwrap();
    let keys: Vec<_> = conf.section("a").unwrap().entries().iter().map(|e| e.line).collect();
    assert_eq!(keys, [3, 4]);
    assert_eq!(conf.lookup("a", "x").unwrap().value(), Ok("3"));
}

#[test]
fn the_environment_is_never_looked_up_only_what_was_told() {
    let text = "HOME = .\nRANDFILE = $ENV::HOME/.rnd\n[a]\nx = $RANDFILE\nplain = 1";
    let conf = read(text).unwrap();
    assert_eq!(conf.lookup("a", "plain").unwrap().value(), Ok("1"));
    let refused = conf.lookup("a", "x").unwrap().value().unwrap_err();
    assert_eq!(refused, At { line: 4, what: ConfFault::Environment("HOME".into()) });

    let told = BTreeMap::from([("HOME".to_owned(), "/told".to_owned())]);
    let conf = Conf::read(text.as_bytes(), &told).unwrap();
    assert_eq!(conf.lookup("a", "x").unwrap().value(), Ok("/told/.rnd"));

    // A section [ENV] of the file itself comes before the environment.
    assert_eq!(value("[ENV]\nHOME = /own\n[a]\nx = $ENV::HOME", "a", "x"), "/own");
}

#[test]
fn other_files_are_not_read_and_the_reader_is_not_changed() {
    for text in [".include /etc/passwd", ".include = x", "[a]\n.include=x", "a=1\n.include\tx"] {
        assert_eq!(fault(text).1, ConfFault::Include, "{text}");
    }
    assert_eq!(fault(".pragma = dollarid:on"), (1, ConfFault::Pragma));
    // openssl: a name that only begins so is a name.
    assert_eq!(value(".includes = 1", DEFAULT, ".includes"), "1");
}

#[test]
fn each_fault_names_its_line() {
    use ConfFault as F;
    for (text, expected) in [
        ("a = 1\nb", (2, F::NoEquals)),
        ("a = 1\n\n= 2", (3, F::NoName)),
        ("[a", (1, F::NoSquareBracket)),
        ("[a\n]", (1, F::NoSquareBracket)),
        ("größe = 1", (1, F::NoEquals)),
        ("a = ${b", (1, F::NoBrace('}'))),
        ("b = 1\na = ${b]", (2, F::NoBrace('}'))),
        ("a = $(b", (1, F::NoBrace(')'))),
        ("a = $b", (1, F::NoValue("b".into()))),
        ("a = $", (1, F::NoValue(String::new()))),
        ("a = 1 \\\n$b", (1, F::NoValue("b".into()))),
        ("a = 1\u{7}", (1, F::ControlCharacter(7))),
        ("a = 1\nb = \0", (2, F::ControlCharacter(0))),
    ] {
        assert_eq!(fault(text), expected, "{text:?}");
    }
    let latin1 = Conf::read(b"a = 1\nb = gr\xf6n", &BTreeMap::new()).unwrap_err();
    assert_eq!(latin1, At { line: 2, what: ConfFault::NotUtf8 });
}

#[test]
fn variables_cannot_make_much_of_little() {
    let mut text = "a = 0123456789\n".to_owned();
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        text.push_str(&format!("{to} = {}\n", format!("${from}").repeat(10)));
    }
    assert_eq!(fault(&text).1, ConfFault::ValueTooLong);
    let long = format!("a = {}\n", "x".repeat(VALUE_MAX - 10));
    let many: String = (0..80).map(|number| format!("b{number} = $a\n")).collect();
    assert_eq!(fault(&(long + &many)).1, ConfFault::ExpandedTooLong);
    assert_eq!(fault(&format!("a = {}", "x".repeat(VALUE_MAX))).1, ConfFault::LineTooLong);
    assert_eq!(fault(&"#".repeat(FILE_MAX + 1)).1, ConfFault::FileTooLong);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    assert_eq!(value("\u{feff}a = 1", DEFAULT, "a"), "1");
}

/// What openssl makes of `texts`, each the value of a key in section [b]; nothing if it refuses one
/// of them. `asn1parse -genconf` puts the values into a SEQUENCE of UTF8String.
fn by_openssl(texts: &[String]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (folder.path().join("conf"), folder.path().join("der"));
    std::fs::write(&config, around(texts)).unwrap();
    let mut command = Command::new("openssl");
    command.args(["asn1parse", "-noout", "-genconf"]).arg(config).arg("-out").arg(&out);
    if !command.output().unwrap().status.success() {
        return None;
    }
    let der = std::fs::read(out).unwrap();
    let mut list = Reader::new("list", &der).inner("list", tag::SEQUENCE).unwrap();
    let mut values = Vec::new();
    while !list.is_empty() {
        let content = list.element("value", tag::UTF8_STRING).unwrap().content;
        let text = std::str::from_utf8(content).unwrap();
        values.push(text.strip_prefix('|').unwrap().strip_suffix('|').unwrap().to_owned());
    }
    Some(values)
}

/// A configuration with these values in [b], and each of them once more in [list] as openssl's
/// generator wants it.
fn around(texts: &[String]) -> String {
    let mut config = "x = top\ny_1 = under\n[a]\nx = one  two\n[b]\n".to_owned();
    let mut list = "[list]\n".to_owned();
    for (number, text) in texts.iter().enumerate() {
        // An empty line for values that end in a backslash to go on with.
        config.push_str(&format!("k{number} = {text}\n\n"));
        list.push_str(&format!("k{number} = FORMAT:UTF8,UTF8:|${{b::k{number}}}|\n"));
    }
    format!("{config}{list}[default]\nasn1 = SEQUENCE:list\n")
}

#[test]
fn values_are_read_as_openssl_reads_them() {
    const PARTS: [&str; 26] = [
        "a", "b c", "$x", "${a::x}", "$(x)", "$a::x", "${y_1}", "'", "\"", "`", "\\", "\\t", "\\$",
        "#", "\\#", " ", "\t", ",", ":", "=", "é", "$", "${x", "$nowhere", "[", "\\\n",
    ];
    // A linear congruential generator is random enough to mix them (Knuth's MMIX).
    let mut state = 12_u64;
    let mut draw = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        let text: String = (0..draw(8)).map(|_| PARTS[draw(PARTS.len())]).collect();
        match read(&around(std::slice::from_ref(&text))) {
            Ok(conf) => {
                taken.push((text, conf.lookup("b", "k0").unwrap().value().unwrap().to_owned()))
            }
            Err(_) => refused.push(text),
        }
    }
    assert!(taken.len() > 100 && refused.len() > 50, "{} {}", taken.len(), refused.len());
    for (text, ours) in taken.iter().take(100) {
        let theirs = by_openssl(std::slice::from_ref(text));
        assert_eq!(theirs.as_deref(), Some(&[ours.clone()][..]), "{text:?}");
    }
    for text in refused.iter().take(50) {
        assert_eq!(by_openssl(std::slice::from_ref(text)), None, "{text:?}");
    }
}

fn fragment() -> impl Strategy<Value = String> {
    const WORDS: [&str; 28] = [
        "a", "b", "x = ", "=", " ", "\n", "[a]\n", "[ b ]\n", "$x", "${a::x}", "$(x)", "$", "'",
        "\"", "\\", "\\\n", "#", "::", "ENV", "$ENV::A", ".include", "é", "\t", "`", "1,2", "@s",
        "]", "{",
    ];
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..40)
        .prop_map(|words| words.concat())
}

proptest! {
    /// Whatever the bytes are: a configuration, or one sentence with a line.
    #[test]
    fn arbitrary_bytes_give_a_configuration_or_a_sentence(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Err(at) = Conf::read(&bytes, &BTreeMap::new()) {
            prop_assert!(at.line >= 1 && at.line as usize <= bytes.len() + 1);
            prop_assert!(!at.what.to_string().contains('\n'));
        }
    }

    /// The same for texts that look like configurations.
    #[test]
    fn arbitrary_text_gives_a_configuration_or_a_sentence(text in fragment()) {
        match read(&text) {
            Ok(conf) => {
                for section in conf.sections.values() {
                    for entry in section.entries() {
                        let _ = entry.value().map_err(|at| at.what.to_string());
                    }
                }
            }
            Err(at) => prop_assert!(!at.what.to_string().is_empty()),
        }
    }
}
