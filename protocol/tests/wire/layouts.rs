//! The layouts that `SPEC.md` gives: its tables of offsets cut golden bytes, which the code takes
//! (`frozen.rs`), and each field then is what was meant. Keys as text are taken apart by its words.

use openssl::sha::sha256;
use protocol::{
    link::{SEGMENT_MAX, WINDOW},
    patch::{self, CHECK_LEN, NAME_LEN},
    secure::{Entropy, PublicKey, SecretKey},
    version::{VERSION_CURRENT, VERSION_MIN},
};

use crate::{
    frozen::parts,
    spec::{rows_below, text_of},
};

/// The fields of `body` as the table below the line that begins with `above` cuts it, `n` being the
/// length of the bitmap. A field goes to where the next one begins.
fn cut(above: &str, body: &[u8], n: usize) -> Vec<Vec<u8>> {
    let rows = rows_below(above);
    let number = |text: &str| -> Option<usize> {
        let sum = |terms: &str| -> Option<usize> {
            terms.split(" + ").map(|term| term.parse::<usize>().ok()).sum()
        };
        match text.strip_suffix("n") {
            Some("") => Some(n),
            Some(before) => Some(sum(before.strip_suffix(" + ")?)? + n),
            None => sum(text),
        }
    };
    let at: Vec<usize> = rows.iter().map(|row| number(&row[0]).unwrap()).collect();
    let ends = at[1..].iter().copied().chain([body.len()]);
    let spans = at.iter().copied().zip(ends).zip(&rows);
    let field = |((from, to), row): ((usize, usize), &Vec<String>)| {
        let field = body[from..to].to_vec();
        match number(&row[1]) {
            Some(length) => assert_eq!(field.len(), length, "{above} {row:?}"),
            None => assert!(row[1].contains("to") || ["any", "rest"].contains(&&*row[1])),
        }
        field
    };
    spans.map(field).collect()
}

#[test]
fn a_table_cuts_a_body_where_it_says() {
    let cut = cut("Data:", &[10, 1, 2, 3, 4, 5], 1);
    assert_eq!(cut, [&[10][..], &[1], &[2], &[3], &[4, 5]]);
}

fn nonce(first: u8) -> Vec<u8> {
    (first..first + 8).chain([1, 0, 0, 0]).collect()
}

fn le(number: usize) -> Vec<u8> {
    u16::try_from(number).unwrap().to_le_bytes().to_vec()
}

#[test]
fn hello_and_busy_are_laid_out_as_the_specification_says() {
    let parts = parts("frames.hex");
    let (frontend, signer, nobody) = (nonce(0), nonce(0x10), vec![0; 12]);
    for (name, echo) in [("hello", &nobody), ("hello-echo", &signer)] {
        let fields: [Vec<u8>; 10] = [
            vec![1],
            vec![1],
            vec![VERSION_MIN],
            vec![VERSION_CURRENT],
            vec![0],
            frontend.clone(),
            echo.clone(),
            le(SEGMENT_MAX),
            le(WINDOW),
            vec![],
        ];
        assert_eq!(cut("Hello:", &parts[&format!("{name}/body")], 0), fields, "{name}");
    }
    let busy = cut("Busy, ", &parts["busy/body"], 0);
    assert_eq!(busy, [vec![7], vec![2], frontend, vec![]]);
}

#[test]
fn data_and_part_are_laid_out_as_the_specification_says() {
    let parts = parts("frames.hex");
    let segment: Vec<u8> = (0x40..0x60).collect();
    let data = cut("Data:", &parts["data/body"], 0);
    assert_eq!(data, [vec![2], vec![0], vec![0], vec![], segment.clone()]);
    let data = cut("Data:", &parts["data-bitmap/body"], 1);
    assert_eq!(data, [vec![2 + 8], vec![0], vec![2], vec![0b1010], segment.clone()]);
    for (name, from) in [("part", 0), ("part-rest", 16)] {
        let part = cut("Part, ", &parts[&format!("{name}/body")], 0);
        let piece = segment[from..from + 16].to_vec();
        assert_eq!(part, [vec![6, 1, 0], le(from), le(segment.len()), piece], "{name}");
    }
}

#[test]
fn ack_probe_and_report_are_laid_out_as_the_specification_says() {
    let parts = parts("frames.hex");
    let body = |name: &str| &parts[&format!("{name}/body")][..];
    assert_eq!(cut("Ack:", body("ack"), 0), [vec![3], vec![0], vec![]]);
    assert_eq!(cut("Ack:", body("ack-bitmap"), 2), [vec![3], vec![0], vec![2, 2]]);
    let probe = cut("Probe and Report", body("probe"), 0);
    assert_eq!(probe, [vec![4], vec![0], le(0x0102), vec![]]);
    let report = cut("Probe and Report", body("report"), 0);
    assert_eq!(report, [vec![5], vec![0], le(0x0102), vec![]]);
}

//------------ Containers ----------------------------------------------------

fn leb128(bytes: &mut &[u8]) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

#[test]
fn containers_are_laid_out_as_the_specification_says() {
    let parts = parts("patches.hex");
    let kinds: Vec<_> = rows_below("### Container").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(kinds, ["0", "1, 2, 3", "4"]);
    let lengths: Vec<_> = rows_below("After the kind of a patched container:")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(lengths, ["NAME_LEN each", "CHECK_LEN", "1 to 10", "rest"]);
    let references = [&parts["reference-1"], &parts["reference-2"]];
    assert_eq!(parts["stored"], [&[0][..], &parts["content"]].concat());
    for (name, kind, content) in
        [("patched-0", 1, "text"), ("patched-1", 2, "content"), ("patched-2", 3, "content")]
    {
        let content = &parts[content];
        let mut rest = &parts[name][..];
        assert_eq!(take(&mut rest, 1), [kind]);
        let mut named = Vec::new();
        for _ in 1..kind {
            let of = take(&mut rest, NAME_LEN);
            let known = references.iter().find(|known| sha256(known).starts_with(of));
            named.extend_from_slice(known.unwrap());
        }
        assert!(sha256(content).starts_with(take(&mut rest, CHECK_LEN)), "{name}");
        assert_eq!(leb128(&mut rest), content.len(), "{name}");
        // What follows is a frame without its magic number (RFC 8878 3.1.1).
        let frame = [&0xfd2f_b528_u32.to_le_bytes()[..], rest].concat();
        let mut reader = zstd::stream::read::Decoder::with_ref_prefix(&frame[..], &named).unwrap();
        let mut undone = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut undone).unwrap();
        assert_eq!(&undone, content, "{name}");
    }
}

#[test]
fn a_spliced_container_is_laid_out_as_the_specification_says() {
    let parts = parts("patches.hex");
    let of_script = rows_below("with the script, of at most 16 MiB:").into_iter();
    let of_script: Vec<_> = of_script.map(|row| row[0].clone()).collect();
    assert_eq!(of_script, ["1 to 10", "3 to 30 each", "rest"]);
    let (reference, content) = (&parts["reference-1"], &parts["content"]);
    let mut rest = &parts["spliced"][..];
    assert_eq!(take(&mut rest, 1), [4]);
    assert!(sha256(reference).starts_with(take(&mut rest, NAME_LEN)));
    assert!(sha256(content).starts_with(take(&mut rest, CHECK_LEN)));
    assert_eq!(leb128(&mut rest), content.len());
    assert!(rest[0] <= 1, "the script is stored, or packed without references");
    let script = patch::unpack(rest, |_| None, 16 << 20).unwrap();
    let mut script = &script[..];
    let steps: Vec<_> = (0..leb128(&mut script))
        .map(|_| [leb128(&mut script), leb128(&mut script), leb128(&mut script)])
        .collect();
    let (mut at, mut undone) = (0, Vec::new());
    for [left_out, copied, new] in steps {
        undone.extend_from_slice(&reference[at + left_out..at + left_out + copied]);
        at += left_out + copied;
        undone.extend_from_slice(take(&mut script, new));
    }
    assert_eq!((&undone, script), (content, &[][..]));
}

//------------ Keys as text --------------------------------------------------

#[test]
fn the_example_of_a_key_as_text_is_what_the_code_shows_and_takes() {
    let spec = text_of("SPEC.md");
    let secret = SecretKey::generate(&Entropy::new(|bytes: &mut [u8]| bytes.fill(0x11)));
    let key = secret.public();
    let section = spec.split("\n## 14 Keys as text\n").nth(1).unwrap();
    let bytes = key.0.chunks(16).map(|row| {
        let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        row.join(" ") + "\n"
    });
    assert!(section.contains(&bytes.collect::<String>()), "{key:?}");
    assert!(section.contains(&format!("\n{key}\n{}\n", key.fingerprint())), "{key:?}");
    let sloppy = key.to_string().to_uppercase().replace('1', "l").replace('-', " ");
    assert_eq!(sloppy.replace('0', "O").parse(), Ok(key));
}

#[test]
fn a_key_as_text_and_its_fingerprint_are_made_as_the_specification_says() {
    let spec = text_of("SPEC.md");
    let alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
    let contexts = ["isolated signer link key text 1", "isolated signer link fingerprint 1"];
    for words in [alphabet, contexts[0], contexts[1]] {
        assert!(spec.contains(&format!("`{words}`")), "SPEC.md lacks: {words}");
    }
    let key = PublicKey(std::array::from_fn(|i| (i * 37) as u8));
    let text = key.to_string();
    assert!(text.split('-').all(|group| group.len() == 4));
    let letters = text.chars().filter(|letter| *letter != '-');
    let bits: Vec<usize> = letters
        .flat_map(|letter| {
            let value = alphabet.find(letter).unwrap();
            (0..5).map(move |bit| value >> (4 - bit) & 1)
        })
        .collect();
    let bytes: Vec<u8> = bits
        .chunks(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8))
        .collect();
    let checksum = sha256(&[contexts[0].as_bytes(), &key.0].concat());
    assert_eq!(bytes, [&key.0[..], &checksum[..3]].concat());

    let digest = sha256(&[contexts[1].as_bytes(), &key.0].concat());
    let groups = digest[..30].chunks(6).map(|group| {
        let number = group.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    });
    let groups: Vec<_> = groups.collect();
    assert_eq!(key.fingerprint().to_string(), groups.join(" "));
}
