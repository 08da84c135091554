//! User IDs that people have, those that deceive, and which one of a key is meant.

use super::*;

fn form(text: &str) -> String {
    UserId::parse(text).unwrap_or_else(|fault| panic!("`{text}` {fault}")).to_string()
}

fn fault(text: &str) -> UserIdFault {
    UserId::parse(text).expect_err(text)
}

fn exact(text: &str) -> ApprovedUserId {
    ApprovedUserId::Exact(text.try_into().unwrap())
}

fn address(name: &str, address: &str) -> ApprovedUserId {
    let (name, address) = (name.try_into().unwrap(), address.try_into().unwrap());
    ApprovedUserId::Address { name, address }
}

#[test]
fn user_ids_of_many_languages_are_taken() {
    for text in [
        "Alice <alice@example.org>",
        "Alice Łódzka (work) <alice+pgp@mail.example.org>",
        "alice@example.org",
        "alice@example.org <alice@example.org>",
        "Just A Name",
        "Ольга Сара <olga@example.ru>",
        "Сара <sara@example.ru>",
        "Γιώργος Παπαδόπουλος <g@example.gr>",
        "東京 太郎 たろう <taro@example.jp>",
        "東京タワー <tower@example.jp>",
        "김철수 <kim@example.kr>",
        "نام\u{200c}ها <a@example.org>",
        "क्\u{200d}ष <a@example.org>",
        "שָׁלוֹם <a@example.org>",
        "Nguyễn Thị Ánh <anh@example.vn>",
        "O'Neill-Smith, Jr. <o'neill@example.org>",
        "用户@例え.jp",
        "сара@пример.рф",
        "Alice (Алиса) <alice@example.org>",
    ] {
        form(text);
    }
}

#[test]
fn texts_that_mean_the_same_have_one_form() {
    for (one, other) in [
        ("Zoë <z@a.example>", "Zoe\u{308} <z@a.example>"),
        ("A <z@A.EXAMPLE>", "A <z@a.example>"),
        ("A <z@bücher.example>", "A <z@xn--bcher-kva.example>"),
        ("A <z@BÜCHER.example>", "A <z@xn--BCHER-kva.EXAMPLE>"),
        ("<z@a.example>", "z@a.example"),
        ("A<z@a.example>", "A <z@a.example>"),
        ("A <zo\u{eb}@a.example>", "A <zoe\u{308}@a.example>"),
    ] {
        assert_eq!(form(one), form(other), "{one}");
    }
    // The case of a name and of a local part means something.
    assert_ne!(form("Ann <z@a.example>"), form("ann <z@a.example>"));
    assert_ne!(form("A <Z@a.example>"), form("A <z@a.example>"));
    assert_ne!(form("z@a.example <z@a.example>"), form("z@a.example"));
}

#[test]
fn two_addresses_are_refused_however_they_are_written() {
    for text in [
        "Alice <alice@a.example> <eve@b.example>",
        "alice@a.example <eve@b.example>",
        "alice@a.example, eve@b.example",
        "Alice alice@a.example",
        "Alice @ Work <a@a.example>",
        "<alice@a.example><eve@b.example>",
        "Alice <alice@a.example@b.example>",
        "Alice (alice@a.example) <eve@b.example>",
    ] {
        let fault = fault(text);
        let expected = matches!(fault, UserIdFault::SeveralAddresses | UserIdFault::Brackets);
        assert!(expected, "{text}: {fault}");
    }
}

#[test]
fn brackets_elsewhere_and_broken_addresses_are_refused() {
    for text in ["A <a@b.example> x", "A >a@b.example<", "A <a@b.example", "a>b", "a@b.example>"] {
        assert_eq!(fault(text), UserIdFault::Brackets, "{text}");
    }
    for text in [
        "A <>",
        "A <a>",
        "A <a@>",
        "A <@b.example>",
        "A <a@localhost>",
        "A <a@192.0.2.1>",
        "A <a@[192.0.2.1]>",
        "A <\"a b\"@b.example>",
        "A <a..b@b.example>",
        "A <.a@b.example>",
        "A <a@b..example>",
        "A <a@-b.example>",
        "A <a@b_c.example>",
        "A <a b@b.example>",
    ] {
        assert!(matches!(fault(text), UserIdFault::Address(_)), "{text}: {}", fault(text));
    }
    assert!(matches!(fault(&format!("{}@b.example", "a".repeat(65))), UserIdFault::Address(_)));
}

#[test]
fn what_cannot_be_seen_is_refused() {
    for c in [
        '\0',
        '\n',
        '\t',
        '\u{7f}',
        '\u{85}',
        '\u{a0}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{180e}',
        '\u{2003}',
        '\u{200b}',
        '\u{200e}',
        '\u{2028}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2800}',
        '\u{3000}',
        '\u{3164}',
        '\u{e000}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fffe}',
        '\u{e0041}',
        '\u{10ffff}',
    ] {
        let text = format!("Al{c}ice <a@b.example>");
        assert_eq!(fault(&text), UserIdFault::Character(c.into()), "{:04x}", u32::from(c));
    }
    // A joiner where no script joins.
    assert_eq!(fault("Al\u{200d}ice"), UserIdFault::Character(0x200d));
    for text in [" Alice", "Alice ", "Alice  B"] {
        assert_eq!(fault(text), UserIdFault::Spaces);
    }
    assert_eq!(fault(""), UserIdFault::Empty);
    assert_eq!(fault(&"x".repeat(257)), UserIdFault::TooLong(257));
    assert_eq!(fault(&format!("a{}", "\u{323}\u{301}".repeat(4))), UserIdFault::Marks);
}

#[test]
fn letters_that_stand_for_ascii_are_refused() {
    for c in ['Ａ', 'ａ', '𝐀', 'ﬁ', '①', '＠', '﹤', '⁴', 'ª', '℡'] {
        let text = format!("x{c} <a@b.example>");
        assert_eq!(fault(&text), UserIdFault::Disguise(c.into()), "{c}");
    }
}

#[test]
fn look_alike_letters_are_refused() {
    for text in [
        "pаypal <a@b.example>", // Cyrillic a
        "Pαul <a@b.example>",   // Greek alpha
        "A <a@pаypal.example>",
        "A <аlice@b.example>",
        "A <a@xn--pypal-4ve.com>", // the same in A-labels
    ] {
        assert!(matches!(fault(text), UserIdFault::MixedScripts(_)), "{text}: {}", fault(text));
    }
    for text in [
        "A <a@аррӏе.com>",
        "A <a@xn--80ak6aa92e.com>",
        "A <сара@example.org>",
        "Сара Smith <s@b.example>",
    ] {
        assert!(matches!(fault(text), UserIdFault::LookAlike(_)), "{text}: {}", fault(text));
    }
}

#[test]
fn approved_name_and_address_stand_for_exactly_one_form() {
    let good = address("Zoë", "zoe@BÜCHER.example").user_id().unwrap();
    assert_eq!(good.to_string(), "Zoë <zoe@xn--bcher-kva.example>");
    assert_eq!(good.name(), "Zoë");
    assert_eq!(good.address(), Some("zoe@xn--bcher-kva.example"));
    assert_eq!(address("", "a@b.example").user_id().unwrap().to_string(), "a@b.example");
    for bad in [
        address("", "Eve <a@b.example>"),
        address("Eve <e@c.example>", "a@b.example"),
        address("Eve <", "a@b.example"),
        address("Eve", "a@b.example> <e@c.example"),
        address("Eve", ""),
        address(" ", "a@b.example"),
        address("e@c.example", "a@b.example"),
        address("", "no address"),
        address("", "no"),
    ] {
        assert!(bad.user_id().is_err(), "{bad}");
    }
}

#[test]
fn chosen_are_the_user_ids_that_were_approved_in_their_order() {
    let held: Vec<&[u8]> = vec![
        "Eve <eve@c.example>".as_bytes(),
        "Zoe\u{308} <zoe@B\u{fc}cher.example>".as_bytes(),
        b"\xff\xfe",
        "Zoë (work) <zoe@b.example>".as_bytes(),
    ];
    let asked = [exact("Zoë (work) <zoe@B.example>"), address("Zoë", "zoe@xn--bcher-kva.example")];
    assert_eq!(select(&asked, &held), Ok(vec![3, 1]));
    assert_eq!(select(&[], &held), Err(SelectFault::None));
    let missing = select(&[address("Zoë", "zoe@b.example")], &held).unwrap_err();
    assert!(matches!(missing, SelectFault::Missing(_)) && !missing.is_form(), "{missing}");
    let twice = [asked[1].clone(), exact("Zoë <zoe@bücher.example>")];
    assert!(matches!(select(&twice, &held).unwrap_err(), SelectFault::Twice(_)));
    let bad = select(&[exact("Eve\u{202e}")], &held).unwrap_err();
    assert!(bad.is_form() && bad.to_string().contains("\\u{202e}"), "{bad}");
}

#[test]
fn user_id_that_is_twice_in_a_key_must_be_named_letter_by_letter() {
    let (composed, decomposed) = ("Zoë <z@b.example>", "Zoe\u{308} <z@b.example>");
    let held = [composed.as_bytes(), decomposed.as_bytes()];
    assert_eq!(select(&[exact(decomposed)], &held), Ok(vec![1]));
    assert_eq!(select(&[exact(decomposed), exact(composed)], &held), Ok(vec![1, 0]));
    let vague = select(&[address("Zoë", "z@b.example")], &held).unwrap_err();
    assert!(matches!(vague, SelectFault::Ambiguous(_)), "{vague}");
}
