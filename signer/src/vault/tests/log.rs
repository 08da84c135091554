//! Stories of the audit log on its way to the frontend.

use protocol::message::{FetchLog, LogPiece, PIECE_MAX};

use super::*;
use crate::audit;

fn fetch(story: &mut Story, after: u64, head: Option<Digest>, offset: u64) -> Answer {
    story.call(Call::FetchLog(FetchLog { after, head, offset }))
}

fn piece(answer: Answer) -> LogPiece {
    match answer {
        Answer::LogPiece(piece) => piece,
        other => panic!("a piece was expected: {other:?}"),
    }
}

/// Asks until nothing is new, checking the chain on the way; also how many questions it took.
fn fetch_all(story: &mut Story) -> (Vec<u8>, u64, Digest, usize) {
    let (mut log, mut partial) = (Vec::new(), Vec::new());
    let (mut after, mut head, mut questions) = (0, audit::ORIGIN, 0);
    loop {
        questions += 1;
        let remembered = (after > 0).then_some(head);
        let piece = piece(fetch(story, after, remembered, partial.len() as u64));
        assert_eq!((piece.first, piece.offset), (after + 1, partial.len() as u64));
        if piece.bytes.is_empty() {
            assert_eq!((piece.last, piece.head), (after, head));
            return (log, after, head, questions);
        }
        partial.extend_from_slice(&piece.bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            let text = std::str::from_utf8(&line[..end]).unwrap();
            head = audit::verify(text, after + 1, head).unwrap();
            after += 1;
            log.extend(line);
        }
    }
}

#[test]
fn the_log_goes_out_byte_for_byte_in_pieces_that_build_a_chain() {
    let mut story = Story::new();
    for number in 0..40 {
        story.issued(&format!("h{number}.example"));
    }
    let (log, last, _, questions) = fetch_all(&mut story);
    let path = story.store().join("audit/0000000001.log");
    assert_eq!(log, fs::read(path).unwrap());
    assert!(last > 40 && questions > 2, "{last} entries, {questions} questions");
    assert_eq!(story.findings(), [""; 0], "a question changes nothing");
}

#[test]
fn an_entry_longer_than_a_piece_goes_out_in_parts() {
    let mut story = Story::new();
    let text = "a long reason ".repeat(72);
    for _ in 0..3 {
        story.next_id += 1;
        let (id, code) = (story.id(), RefusalCode::CsrMalformed);
        let text = protocol::bounded::Text::truncated(&text);
        story.call(Call::Refuse { id, digest: Digest::of(b"x"), code, text });
    }
    let sources = vec!["\u{7f}list of weak keys".repeat(800)];
    let (vault, now) = (story.vault.as_mut().unwrap(), story.now.unix());
    let mut tx = vault.ledger.begin(now).unwrap();
    tx.audit(&audit::Event::BlocklistImported { sources, entries: 1 }).unwrap();
    tx.commit().unwrap();
    vault.follow_audit().unwrap();
    let (log, last, head, _) = fetch_all(&mut story);
    assert!(log.split(|byte| *byte == b'\n').any(|line| line.len() > 12_000));
    assert_eq!(log, fs::read(story.store().join("audit/0000000001.log")).unwrap());

    // An offset that no entry has begins the entry anew.
    let before = audit_hash(&story, last - 1);
    let begun = piece(fetch(&mut story, last - 1, before, u64::MAX));
    assert_eq!((begun.first, begun.offset, begun.head), (last, 0, head));
    assert!(begun.bytes.len() <= PIECE_MAX);
}

fn audit_hash(story: &Story, number: u64) -> Option<Digest> {
    story.vault.as_ref().unwrap().ledger.audit_hash(number).unwrap()
}

#[test]
fn what_is_not_in_the_log_is_said_to_differ() {
    let mut story = Story::new();
    story.issued("h.example");
    let (_, last, head, _) = fetch_all(&mut story);
    let differs = |answer| {
        assert_eq!(answer, Answer::LogDiffers { last, head });
    };
    // Past the end, another hash, no hash, and numbers that SQLite does not have.
    differs(fetch(&mut story, last + 1, Some(head), 0));
    differs(fetch(&mut story, last, Some(Digest::of(b"other")), 0));
    differs(fetch(&mut story, last - 1, Some(head), 0));
    differs(fetch(&mut story, last, None, 0));
    differs(fetch(&mut story, u64::MAX, Some(head), u64::MAX));
    differs(fetch(&mut story, 0, Some(head), 0));
    assert_eq!(piece(fetch(&mut story, last, Some(head), 0)).bytes.len(), 0);
}

#[test]
fn the_log_is_handed_out_while_the_clock_cannot_be_used() {
    let mut story = Story::new();
    story.issued("h.example");
    story.vault = None;
    story.later(-3 * 86_400);
    story.start();
    let (log, last, ..) = fetch_all(&mut story);
    assert!(last >= 4 && !log.is_empty());
}
