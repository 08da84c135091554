//! Lists built by tests in both published forms, and the two published keys of the Debian fault.

use std::{fs, path::Path, process::Command};

use openssl::{
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    sha::sha256,
    symm::Cipher,
    x509::{X509NameBuilder, X509ReqBuilder},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    list::{HeadRecord, TailRecord},
    marks::HEAD_LEN,
    *,
};
use crate::durable;

/// With the tails that `openssl-blacklist` has for them.
const DEBIAN_KEYS: [(&str, &str); 2] = [
    ("debian-prng-1024.pem", "f026a7d2961f0916067d"),
    ("debian-prng-2048.pem", "042dcb33f1f6f3ce9eee"),
];

fn debian_key(name: &str) -> Vec<u8> {
    let keys = public_keys(&data(name)).unwrap();
    <[Vec<u8>; 1]>::try_from(keys).unwrap().concat()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/weak-keys").join(name)
}

fn ec_key(curve: Nid) -> EcKey<Private> {
    EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()
}

fn spki(key: &PKey<Private>) -> Vec<u8> {
    key.public_key_to_der().unwrap()
}

fn marks(spki: &[u8]) -> Marks {
    Marks::of_spki(spki).unwrap()
}

/// A record of badkeys' form for a number.
fn record(number: &[u8], list: u8) -> HeadRecord {
    let mut record = HeadRecord::default();
    record[..HEAD_LEN].copy_from_slice(&sha256(number)[..HEAD_LEN]);
    record[HEAD_LEN] = list;
    record
}

/// A store, and files to import into it.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn records(&self, name: &str, mut records: Vec<HeadRecord>) -> PathBuf {
        records.sort();
        self.file(name, records.as_flattened())
    }

    fn import(&self, files: &[PathBuf]) -> Imported {
        import(self.store(), files).unwrap()
    }

    fn list(&self) -> Blocklist {
        Blocklist::open(self.store()).unwrap()
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        fs::read(path(self.store())).ok()
    }

    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        let before = self.bytes();
        let fault = import(self.store(), &[self.file(name, bytes)]).unwrap_err();
        assert!(fault.is_configuration(), "{fault}");
        assert_eq!(self.bytes(), before, "nothing was changed");
        let text = fault.to_string();
        assert!(text.contains(name), "{text}");
        text
    }
}

//------------ Looking up ----------------------------------------------------

#[test]
fn published_debian_keys_are_found_by_their_published_lines() {
    let shelf = Shelf::new();
    let lines = DEBIAN_KEYS.map(|(_, tail)| tail).join("\n");
    let list = shelf.file("blacklist.RSA-2048", format!("# a comment\n\n{lines}\n"));
    let imported = shelf.import(&[list]);
    assert_eq!((imported.added, imported.entries), (2, 2));
    let list = shelf.list();
    for (name, _) in DEBIAN_KEYS {
        let found = list.find(&marks(&debian_key(name))).unwrap();
        assert_eq!(found, Some(Hit::OpenSslBlacklist), "{name}");
        assert!(found.unwrap().to_string().contains("openssl-blacklist"));
    }
    let other = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    assert_eq!(list.find(&marks(&spki(&other))).unwrap(), None);
}

#[test]
fn keys_of_every_kind_are_found_in_badkeys_form_with_the_lists_number() {
    let shelf = Shelf::new();
    let rsa = Rsa::generate(2048).unwrap();
    let ec = ec_key(Nid::SECP384R1);
    let ed25519 = PKey::generate_ed25519().unwrap();
    let (mut x, mut y) = (openssl::bn::BigNum::new().unwrap(), openssl::bn::BigNum::new().unwrap());
    let mut context = openssl::bn::BigNumContext::new().unwrap();
    ec.public_key().affine_coordinates(ec.group(), &mut x, &mut y, &mut context).unwrap();
    let raw = ed25519.raw_public_key().unwrap();
    let records = vec![record(&rsa.n().to_vec(), 1), record(&x.to_vec(), 21), record(&raw, 255)];
    shelf.import(&[shelf.records("blocklist.dat", records)]);
    let list = shelf.list();
    let keys = [PKey::from_rsa(rsa).unwrap(), PKey::from_ec_key(ec).unwrap(), ed25519];
    for (key, number) in keys.iter().zip([1, 21, 255]) {
        let found = list.find(&marks(&spki(key))).unwrap();
        assert_eq!(found, Some(Hit::BadKeys(number)));
        assert!(found.unwrap().to_string().contains(&format!("list {number}")));
    }
    let other = PKey::from_ec_key(ec_key(Nid::SECP384R1)).unwrap();
    assert_eq!(list.find(&marks(&spki(&other))).unwrap(), None);
}

#[test]
fn numbers_are_hashed_without_leading_zeros_and_moduli_printed_as_openssl_prints_them() {
    // An x coordinate that begins with a zero octet: one in 256 keys.
    let (key, x) = loop {
        let key = PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap();
        let spki = spki(&key);
        let x = spki[spki.len() - 64..spki.len() - 32].to_vec();
        if x[0] == 0 {
            break (key, x);
        }
    };
    let zeros = x.iter().take_while(|octet| **octet == 0).count();
    assert_eq!(marks(&spki(&key)).head, sha256(&x[zeros..])[..HEAD_LEN]);
    assert_eq!(marks(&spki(&key)).tail, None);

    // A modulus whose first digit is a single one.
    let n = openssl::bn::BigNum::from_hex_str("1000000000000000000000000000000f").unwrap();
    let e = openssl::bn::BigNum::from_u32(65537).unwrap();
    let key = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
    let line = b"Modulus=1000000000000000000000000000000F\n";
    let tail = marks(&key.public_key_to_der().unwrap()).tail.unwrap();
    assert_eq!(tail, openssl::sha::sha1(line)[10..]);
    let n = openssl::bn::BigNum::from_hex_str("0a00000000000000000000000000000f").unwrap();
    let e = openssl::bn::BigNum::from_u32(65537).unwrap();
    let key = PKey::from_rsa(Rsa::from_public_components(n, e).unwrap()).unwrap();
    let line = b"Modulus=A00000000000000000000000000000F\n";
    let tail = marks(&key.public_key_to_der().unwrap()).tail.unwrap();
    assert_eq!(tail, openssl::sha::sha1(line)[10..]);
}

#[test]
fn compressed_point_has_the_marks_of_the_same_point_in_full() {
    let full = spki(&PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap());
    assert_eq!(marks(&compressed(&full)), marks(&full));
}

/// The same P-256 key with its point compressed.
fn compressed(full: &[u8]) -> Vec<u8> {
    let (algorithm, point) = (&full[2..23], &full[26..]);
    let form = 2 + (point[64] & 1);
    let compressed = [&[0x30, 0x39][..], algorithm, &[3, 0x22, 0, form], &point[1..33]].concat();
    assert!(PKey::public_key_from_der(&compressed).is_ok(), "OpenSSL takes it");
    compressed
}

#[test]
fn what_is_no_key_has_no_marks_and_never_panics() {
    let good = debian_key("debian-prng-1024.pem");
    for cut in 0..good.len() {
        assert_eq!(Marks::of_spki(&good[..cut]), None, "{cut}");
        assert_eq!(rsa_modulus(&good[..cut]), None, "{cut}");
    }
    assert_eq!(rsa_modulus(&spki(&PKey::generate_ed25519().unwrap())), None);
    assert_eq!(rsa_modulus(&good).unwrap().len(), 128);
}

proptest! {
    #[test]
    fn marks_of_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Marks::of_spki(&bytes);
        let _ = rsa_modulus(&bytes);
        let _ = spki_of_certificate(&bytes);
    }

    #[test]
    fn every_imported_record_is_found_and_no_other(
        tails in proptest::collection::btree_set(any::<[u8; 10]>(), 1..60),
        heads in proptest::collection::btree_set(any::<[u8; 15]>(), 1..60),
        other in any::<[u8; 15]>(),
    ) {
        let mut heads = heads;
        heads.insert([0; 15]); // a real list, too, does not begin like a compressed file
        let shelf = Shelf::new();
        let lines: String = tails.iter().map(|tail| format!("{}\n", hex(tail))).collect();
        let records = heads.iter().map(|head| {
            let mut record = HeadRecord::default();
            record[..15].copy_from_slice(head);
            record[15] = head[0] ^ 0x55;
            record
        }).collect();
        shelf.import(&[shelf.file("tails", lines), shelf.records("heads", records)]);
        let list = shelf.list();
        prop_assert_eq!(list.entries(), (tails.len() + heads.len()) as u64);
        let none = [0x77; 15];
        for tail in &tails {
            let found = list.find(&Marks { tail: Some(*tail), head: none }).unwrap();
            prop_assert_eq!(found, Some(Hit::OpenSslBlacklist));
        }
        for head in &heads {
            let found = list.find(&Marks { tail: None, head: *head }).unwrap();
            prop_assert_eq!(found, Some(Hit::BadKeys(head[0] ^ 0x55)));
        }
        let found = list.find(&Marks { tail: None, head: other }).unwrap();
        prop_assert_eq!(found.is_some(), heads.contains(&other));
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn search_finds_each_of_many_records_that_begin_alike() {
    // One first octet for all: the search has to halve, and blocks end in every place.
    let shelf = Shelf::new();
    let tail = |number: u32| -> TailRecord {
        let [a, b, c, d] = number.to_be_bytes();
        [0xaa, a, b, c, d, 0, 0, 0, 0, 0]
    };
    let lines: String = (0..5_000).map(|n| format!("{}\n", hex(&tail(2 * n)))).collect();
    shelf.import(&[shelf.file("many", lines)]);
    // Read again from the list itself, in more than one block.
    let more = shelf.import(&[shelf.file("more", hex(&tail(20_001)))]);
    assert_eq!((more.added, more.entries), (1, 5_001));
    let list = shelf.list();
    list.verify().unwrap();
    for number in 0..10_001 {
        let marks = Marks { tail: Some(tail(number)), head: [0; HEAD_LEN] };
        let listed = number % 2 == 0 && number < 10_000;
        assert_eq!(list.find(&marks).unwrap().is_some(), listed, "{number}");
    }
}

//------------ Importing -----------------------------------------------------

#[test]
fn importing_again_changes_nothing_and_importing_more_adds() {
    let shelf = Shelf::new();
    let first = shelf.file("first", "# x\n042dcb33f1f6f3ce9eee\n");
    let records = shelf.records("blocklist.dat", vec![record(b"1", 3), record(b"2", 4)]);
    let imported = shelf.import(&[first.clone(), records.clone()]);
    assert_eq!((imported.added, imported.entries), (3, 3));
    assert_eq!(imported.sources.iter().map(|s| s.entries).collect::<Vec<_>>(), [1, 2]);
    let bytes = shelf.bytes();

    let again = shelf.import(&[records.clone(), first.clone(), records, first]);
    assert_eq!(again.sources.iter().map(|s| s.entries).collect::<Vec<_>>(), [2, 1, 2, 1]);
    assert_eq!((again.added, again.entries), (0, 3));
    assert_eq!(shelf.bytes(), bytes, "byte for byte");

    // The same key in capitals under another name: a source more, but no key.
    let capitals = shelf.file("capitals", "042DCB33F1F6F3CE9EEE\r\n");
    assert_eq!(shelf.import(&[capitals]).added, 0);
    let more = shelf.file("more", "f026a7d2961f0916067d\n");
    assert_eq!(shelf.import(&[more]).added, 1);
    let list = shelf.list();
    list.verify().unwrap();
    assert_eq!(list.entries(), 4);
    let names: Vec<_> = list.sources().iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["first", "blocklist.dat", "capitals", "more"]);
    let formats: Vec<_> = list.sources().iter().map(|source| source.format.as_str()).collect();
    let expected = ["openssl-blacklist", "badkeys", "openssl-blacklist", "openssl-blacklist"];
    assert_eq!(formats, expected);
    let file = fs::read(shelf.store().join("first")).unwrap();
    assert_eq!(list.sources()[0].sha256, hex(&sha256(&file)));
}

#[test]
fn a_key_on_two_lists_of_badkeys_keeps_the_lower_number() {
    let shelf = Shelf::new();
    shelf.import(&[shelf.records("two", vec![record(b"1", 9), record(b"1", 2), record(b"3", 1)])]);
    let list = shelf.list();
    assert_eq!(list.entries(), 2);
    let head = *record(b"1", 0).first_chunk().unwrap();
    assert_eq!(list.find(&Marks { tail: None, head }).unwrap(), Some(Hit::BadKeys(2)));
}

#[test]
fn damaged_text_is_refused_with_its_line_and_changes_nothing() {
    let shelf = Shelf::new();
    shelf.import(&[shelf.file("good", "042dcb33f1f6f3ce9eee\n")]);
    let comments = "# many words\n".repeat(40);
    for (line, damage) in [
        (41, "042dcb33f1f6f3ce9ee\n"),
        (41, "042dcb33f1f6f3ce9eee0\n"),
        (41, "042dcb33f1f6f3ce9eee00\n"),
        (41, "042dcb33f1f6f3ce9eeg\n"),
        (41, "042dcb33f1f6\0\0ce9eee\n"),
        (42, "042dcb33f1f6f3ce9eee\n042dcb33f1f6f3ce"),
        (42, "042dcb33f1f6f3ce9eee\n 042dcb33f1f6f3ce9eee\n"),
    ] {
        let text = shelf.refused("damaged", format!("{comments}{damage}").as_bytes());
        assert!(text.contains(&format!("line {line} ")), "{text}");
    }
    // A comment of 4,096 octets is one, a longer one is not.
    let comment = |length: usize| format!("#{}\n042dcb33f1f6f3ce9eee\n", "x".repeat(length - 2));
    assert!(shelf.refused("endless", comment(4_097).as_bytes()).contains("line 1 "));
    shelf.import(&[shelf.file("long", comment(4_096))]);
    assert!(shelf.list().is_loaded());
}

#[test]
fn damaged_records_are_refused_with_their_number_and_change_nothing() {
    let shelf = Shelf::new();
    let records = || {
        let mut records: Vec<_> = (0..20_u8).map(|n| record(&[n], 1)).collect();
        records.sort();
        records
    };
    let good = records().as_flattened().to_vec();
    for cut in [1, 15, 17] {
        let text = shelf.refused("cut", &good[..good.len() - cut]);
        assert!(text.contains(&format!("record {}", 20 - cut / 16)), "{text}");
    }
    let mut swapped = records();
    swapped.swap(6, 7);
    let text = shelf.refused("swapped", swapped.as_flattened());
    assert!(text.contains("record 8 is out of order"), "{text}");
    assert!(!shelf.list().is_loaded());
    shelf.import(&[shelf.file("good", &good)]);
    assert!(shelf.list().is_loaded());
}

#[test]
fn empty_compressed_and_missing_files_are_refused_in_one_sentence() {
    let shelf = Shelf::new();
    assert!(shelf.refused("empty", b"").contains("lists no key"));
    assert!(shelf.refused("comments", b"# nothing\n\n").contains("lists no key"));
    assert!(shelf.refused("list.xz", b"\xfd7zXZ\0\0\x04").contains("unpack"));
    assert!(shelf.refused("list.gz", b"\x1f\x8b\x08").contains("unpack"));
    let missing = import(shelf.store(), &[shelf.store().join("nowhere")]).unwrap_err();
    assert!(missing.to_string().contains("nowhere"));
    // One bad file among good ones: none is taken.
    let good = shelf.file("good", "042dcb33f1f6f3ce9eee\n");
    assert!(import(shelf.store(), &[good, shelf.store().join("empty")]).is_err());
    assert!(!shelf.list().is_loaded());
}

#[test]
fn crash_at_any_point_of_an_import_leaves_the_old_list_or_the_new_one() {
    let shelf = Shelf::new();
    shelf.import(&[shelf.file("old", "042dcb33f1f6f3ce9eee\n")]);
    let more = shelf.file("more", "f026a7d2961f0916067d\n");
    for points in 0..3 {
        durable::crash::after(Some(points));
        let done = import(shelf.store(), std::slice::from_ref(&more)).is_ok();
        durable::crash::after(None);
        let list = shelf.list();
        list.verify().unwrap();
        assert!(list.entries() == 2 || (!done && list.entries() == 1));
    }
    assert_eq!(shelf.import(&[more]).entries, 2);
}

//------------ The file ------------------------------------------------------

#[test]
fn list_imported_or_removed_meanwhile_is_noticed() {
    let shelf = Shelf::new();
    let mut list = shelf.list();
    assert!(!list.is_loaded() && list.entries() == 0 && list.sources().is_empty());
    list.verify().unwrap();
    shelf.import(&[shelf.file("first", "042dcb33f1f6f3ce9eee\n")]);
    list.refresh().unwrap();
    assert_eq!(list.entries(), 1);
    shelf.import(&[shelf.file("more", "f026a7d2961f0916067d\n")]);
    list.refresh().unwrap();
    assert_eq!(list.entries(), 2);
    fs::remove_file(path(shelf.store())).unwrap();
    list.refresh().unwrap();
    assert!(!list.is_loaded());
    assert_eq!(list.find(&marks(&debian_key("debian-prng-2048.pem"))).unwrap(), None);
}

#[test]
fn list_cut_anywhere_or_with_a_rotten_bit_is_said_to_be_damaged() {
    let shelf = Shelf::new();
    let records = shelf.records("records", vec![record(b"1", 1), record(b"2", 2)]);
    shelf.import(&[shelf.file("tails", "042dcb33f1f6f3ce9eee\n"), records]);
    let good = shelf.bytes().unwrap();
    let whole = |bytes: &[u8]| {
        fs::write(path(shelf.store()), bytes).unwrap();
        Blocklist::open(shelf.store()).and_then(|list| list.verify())
    };
    whole(&good).unwrap();
    // The long table of counts is looked at here and there, all else everywhere.
    let places = || (0..good.len()).filter(|at| !(80..2_000).contains(at) || at % 17 == 0);
    for cut in places() {
        let fault = whole(&good[..cut]).unwrap_err();
        assert!(fault.is_configuration() && fault.to_string().contains("damaged"), "{fault}");
    }
    assert!(whole(&[&good[..], &[0]].concat()).is_err());
    for at in places() {
        let mut rotten = good.clone();
        rotten[at] ^= 0x10;
        assert!(whole(&rotten).is_err(), "byte {at}");
    }
    // Damage is not merged into a new list either.
    let mut rotten = good.clone();
    *rotten.last_mut().unwrap() ^= 1;
    fs::write(path(shelf.store()), &rotten).unwrap();
    let more = shelf.file("more", "f026a7d2961f0916067d\n");
    assert!(import(shelf.store(), &[more]).is_err());
}

#[test]
fn list_that_cannot_be_looked_at_is_a_fault_and_not_an_absent_list() {
    let shelf = Shelf::new();
    let path = path(shelf.store());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A name that leads to itself: it stops root too.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let fault = Blocklist::open(shelf.store()).err().unwrap();
    assert!(fault.to_string().contains("look at"), "{fault}");
}

#[test]
fn list_of_another_version_or_kind_is_not_taken_for_ours() {
    let shelf = Shelf::new();
    shelf.import(&[shelf.file("tails", "042dcb33f1f6f3ce9eee\n")]);
    let good = shelf.bytes().unwrap();
    // Everything before the header's own digest, which stands before the one record.
    let header_len = good.len() - 10 - 32;
    for at in [0, 7, 11] {
        let mut header = good[..header_len].to_vec();
        header[at] ^= 2;
        let digest = sha256(&header);
        let other = [&header[..], &digest, &good[header_len + 32..]].concat();
        fs::write(path(shelf.store()), other).unwrap();
        assert!(Blocklist::open(shelf.store()).is_err(), "octet {at}");
    }
    fs::write(path(shelf.store()), &good).unwrap();
    assert!(shelf.list().is_loaded());
}

#[test]
fn names_of_the_sources_are_bounded() {
    let shelf = Shelf::new();
    let path = shelf.store().join("list");
    let write = |name_len: usize| {
        let name = "x".repeat(name_len);
        let source = Source { name, sha256: String::new(), format: String::new(), entries: 1 };
        list::write(&path, &[[1; 10]], &[], &[source])
    };
    let around = r#"[{"name":"","sha256":"","format":"","entries":1}]"#.len();
    write(list::SOURCES_MAX - around).unwrap();
    list::List::open(&path).unwrap();
    let fault = write(list::SOURCES_MAX - around + 1).unwrap_err();
    assert!(fault.is_configuration(), "{fault}");
}

#[test]
fn entries_in_memory_hold_what_was_added_and_read() {
    let shelf = Shelf::new();
    let mut entries = Entries::default();
    let file = shelf.file("tails", "042dcb33f1f6f3ce9eee\n");
    read_source(&file, &mut entries).unwrap();
    let added = PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap();
    entries.add(&marks(&spki(&added)));
    entries.sort();
    assert!(entries.contain(&marks(&debian_key("debian-prng-2048.pem"))), "by its tail");
    assert!(entries.contain(&marks(&spki(&added))), "by its head");
    assert!(!entries.contain(&marks(&debian_key("debian-prng-1024.pem"))));
}

#[test]
fn fingerprint_is_the_sha256_of_the_whole_key() {
    let key = debian_key("debian-prng-1024.pem");
    assert_eq!(fingerprint(&key).to_string(), hex(&sha256(&key)));
}

#[test]
fn stored_form_of_version_1_stays_as_it_is() {
    // Golden bytes: a change here is a new version of the file.
    let shelf = Shelf::new();
    let records = shelf.records("records", vec![record(b"1", 1)]);
    shelf.import(&[shelf.file("tails", "042dcb33f1f6f3ce9eee\n"), records]);
    let bytes = shelf.bytes().unwrap();
    assert_eq!(&bytes[..12], b"WEAKKEYS\0\0\0\x01");
    let ends = [&hex_octets("042dcb33f1f6f3ce9eee")[..], &record(b"1", 1)].concat();
    assert!(bytes.ends_with(&ends));
    let (counts, one) = (&bytes[16..16 + 2 * 1024], 1_u32.to_be_bytes());
    assert_eq!(counts[4 * 3..4 * 4], [0; 4]);
    assert_eq!(counts[4 * 4..4 * 5], one);
    assert_eq!(counts[1020..1024], one);
    assert_eq!(counts[1024 + 1020..], one);
    assert_eq!(hex(&sha256(&bytes)), GOLDEN);
}

const GOLDEN: &str = "2f5d70d1de1f99a74cf2b87d2404a412ae6b94c1448ae378e7b7e07cc832cccb";

fn hex_octets(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

//------------ Keys in files -------------------------------------------------

#[test]
fn key_is_the_same_from_a_private_key_a_public_key_a_csr_and_a_certificate() {
    let shelf = Shelf::new();
    let key = PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap();
    let expected = vec![spki(&key)];
    let mut request = X509ReqBuilder::new().unwrap();
    request.set_pubkey(&key).unwrap();
    request.sign(&key, MessageDigest::sha256()).unwrap();
    let request = request.build();
    let mut certificate = openssl::x509::X509::builder().unwrap();
    certificate.set_pubkey(&key).unwrap();
    let day = openssl::asn1::Asn1Time::from_unix(1_700_000_000).unwrap();
    certificate.set_not_before(&day).unwrap();
    certificate.set_not_after(&day).unwrap();
    certificate.set_subject_name(&X509NameBuilder::new().unwrap().build()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = certificate.build();
    let pem = certificate.to_pem().unwrap();
    for bytes in [
        key.private_key_to_pem_pkcs8().unwrap(),
        key.private_key_to_der().unwrap(),
        key.public_key_to_pem().unwrap(),
        key.public_key_to_der().unwrap(),
        request.to_pem().unwrap(),
        request.to_der().unwrap(),
        pem.clone(),
        [b"Text of openssl x509 -text\n", &pem[..]].concat(),
        certificate.to_der().unwrap(),
    ] {
        let found = public_keys(&shelf.file("key", &bytes));
        assert_eq!(found.unwrap(), expected, "{}", String::from_utf8_lossy(&bytes));
    }
    let two = public_keys(&shelf.file("two", pem.repeat(2))).unwrap();
    assert_eq!(two, [&expected[..], &expected].concat());
    assert_eq!(spki_of_certificate(&certificate.to_der().unwrap()).unwrap(), expected[0]);
}

#[test]
fn compressed_point_in_a_file_is_the_key_that_a_request_would_have() {
    let shelf = Shelf::new();
    let full = spki(&PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap());
    assert_eq!(public_keys(&shelf.file("key", compressed(&full))).unwrap(), [full]);
}

#[test]
fn file_without_a_key_or_with_a_passphrase_is_refused_in_one_sentence() {
    let shelf = Shelf::new();
    let key = PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap();
    let locked = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    for bytes in [&b""[..], b"hello", b"-----BEGIN PUBLIC KEY-----\nxx\n", &locked] {
        let fault = public_keys(&shelf.file("file", bytes)).unwrap_err();
        assert!(fault.is_configuration() && fault.to_string().contains("no public key"), "{fault}");
    }
}

//------------ Other people's word -------------------------------------------

/// badkeys itself reads the same `blocklist.dat` and the same keys.
#[test]
fn oracle_badkeys_finds_the_same_keys_in_the_same_file() {
    let shelf = Shelf::new();
    let mut keys: Vec<PKey<Private>> = Vec::new();
    for _ in 0..8 {
        keys.push(PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap());
        keys.push(PKey::from_ec_key(ec_key(Nid::X9_62_PRIME256V1)).unwrap());
        keys.push(PKey::from_ec_key(ec_key(Nid::SECP521R1)).unwrap());
        keys.push(PKey::generate_ed25519().unwrap());
    }
    // Every other key is listed, by our own reading of the format.
    let listed = keys.iter().step_by(2).enumerate().map(|(number, key)| {
        let mut record = HeadRecord::default();
        record[..HEAD_LEN].copy_from_slice(&marks(&spki(key)).head);
        record[HEAD_LEN] = number as u8 + 1;
        record
    });
    let file = shelf.records("blocklist.dat", listed.collect());
    shelf.import(std::slice::from_ref(&file));
    let list = shelf.list();
    let script = "
import sys
from badkeys.allkeys import block
from badkeys import checks
block._blmeta = {0: {'name': 'none'}}
block._bldata = open(sys.argv[1], 'rb').read()
for path in sys.argv[2:]:
    found = checks.detectandcheck(open(path).read(), checks=['blocklist'])['results']
    print(found.get('blocklist', {}).get('blid', 0))
";
    let paths: Vec<PathBuf> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| shelf.file(&format!("{number}.pem"), key.public_key_to_pem().unwrap()))
        .collect();
    let python = crate::intake::crafting::judges_python();
    let output = Command::new(python).args(["-c", script]).arg(&file).args(&paths).output();
    let output = output.expect("`cargo xtask setup` installs the judges");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<u8> = said.lines().map(|line| line.parse().unwrap()).collect();
    let ours = keys.iter().map(|key| match list.find(&marks(&spki(key))).unwrap() {
        Some(Hit::BadKeys(number)) => number,
        _ => 0,
    });
    assert_eq!(said, ours.collect::<Vec<_>>());
    assert_eq!(said.iter().filter(|number| **number > 0).count(), 16);
}
