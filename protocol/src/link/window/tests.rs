//! Stories of the two halves of the window.

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn send(outgoing: &mut Outgoing, now: Instant) {
    while let Some(number) = outgoing.waiting() {
        outgoing.sent(number, now);
    }
}

/// An acknowledgement with these bytes in its bitmap.
fn acked(outgoing: &mut Outgoing, now: Instant, ack: u64, bitmap: &[u8]) -> Progress {
    outgoing.acknowledge(now, ack, bitmap).unwrap()
}

fn sent(segments: u8, now: Instant) -> Outgoing {
    let mut outgoing = Outgoing::default();
    for byte in 0..segments {
        outgoing.push(vec![byte]);
    }
    send(&mut outgoing, now);
    outgoing
}

//------------ Outgoing ------------------------------------------------------

#[test]
fn what_was_sent_before_something_that_arrived_is_lost() {
    let mut outgoing = sent(4, at(1));
    // Segments 0 and 2 are missing, 1 has arrived: only 0 is known to be lost.
    let progress = acked(&mut outgoing, at(5), 0, &[0b10]);
    assert!(progress.any && !progress.takes_back);
    assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
    assert_eq!(progress.fates.losses, 1);
    assert_eq!(outgoing.waiting(), Some(0));
    assert_eq!(outgoing.flight_bytes(), 2);
    outgoing.sent(0, at(6));
    // The repeated 0 arrived, sent after 2 and 3: both are lost.
    let progress = acked(&mut outgoing, at(9), 2, &[]);
    assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (Some(2), 0));
    assert_eq!(progress.fates.losses, 2);
    send(&mut outgoing, at(10));
    // What was lost for certain tells a round trip like any other.
    let progress = acked(&mut outgoing, at(14), 4, &[]);
    assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
    assert_eq!((outgoing.len(), outgoing.flight_bytes()), (0, 0));
}

#[test]
fn nothing_is_repeated_on_suspicion_and_a_report_tells_the_fate_of_all_before_the_probe() {
    let mut outgoing = sent(3, at(1));
    assert!(outgoing.time_out());
    assert_eq!(outgoing.waiting(), None);
    let stamp = outgoing.stamp();
    outgoing.probed(at(100));
    let late = outgoing.push(vec![3]);
    outgoing.sent(late, at(101));
    let reported = outgoing.report(at(110), stamp).unwrap();
    assert_eq!(reported.round_trip, Some(Duration::from_millis(10)));
    assert!(reported.is_fresh);
    acked(&mut outgoing, at(110), 0, &[0b10]);
    assert_eq!(outgoing.waiting(), Some(0));
    outgoing.sent(0, at(111));
    // 2 was before the probe and 3 after it.
    assert_eq!(outgoing.waiting(), Some(2));
    outgoing.sent(2, at(112));
    assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (None, 3));
    // The same report again is of the past.
    let again = outgoing.report(at(120), stamp).unwrap();
    assert_eq!((again.is_fresh, again.round_trip), (false, None));
}

#[test]
fn what_was_in_flight_when_a_timeout_fired_tells_no_round_trip() {
    // Everything arrived before a cut of nine seconds, and its acknowledgements were lost.
    let mut outgoing = sent(3, at(1));
    assert!(outgoing.time_out());
    let stamp = outgoing.stamp();
    outgoing.probed(at(1000));
    assert!(outgoing.time_out());
    assert_eq!(acked(&mut outgoing, at(9000), 2, &[]).round_trip, None);
    assert_eq!(outgoing.report(at(9000), stamp).unwrap().round_trip, None);
    assert_eq!(acked(&mut outgoing, at(9000), 3, &[]).round_trip, None);
    // What was sent after it does.
    let number = outgoing.push(vec![3]);
    outgoing.sent(number, at(9001));
    let progress = acked(&mut outgoing, at(9005), 4, &[]);
    assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
    assert!(!outgoing.time_out());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let mut outgoing = sent(1, at(1));
    assert_eq!(outgoing.acknowledge(at(2), 2, &[]), None);
    assert_eq!(outgoing.acknowledge(at(2), u64::MAX, &[]), None);
    assert_eq!(outgoing.report(at(2), outgoing.stamp()), None);
    assert_eq!(outgoing.report(at(2), 0x8000), None);
    // Bits past the last segment say nothing.
    assert!(!acked(&mut outgoing, at(2), 0, &[0xfe; BITMAP_MAX]).any);
    assert!(acked(&mut outgoing, at(2), 1, &[0xff; BITMAP_MAX]).any);
}

#[test]
fn an_acknowledgement_that_takes_back_what_was_said_is_noticed_and_changes_nothing() {
    let mut outgoing = sent(4, at(1));
    assert!(!acked(&mut outgoing, at(2), 2, &[0b10]).takes_back);
    let before = format!("{outgoing:?}");
    let progress = acked(&mut outgoing, at(3), 1, &[0xff; BITMAP_MAX]);
    assert_eq!(progress, Progress { takes_back: true, ..Progress::default() });
    let progress = acked(&mut outgoing, at(3), 2, &[]);
    assert_eq!(progress, Progress { takes_back: true, ..Progress::default() });
    assert_eq!(format!("{outgoing:?}"), before);
}

#[test]
fn a_segment_too_long_for_the_line_goes_in_parts_that_count_as_one_transmission() {
    let mut outgoing = Outgoing::default();
    outgoing.push(vec![1; 100]);
    outgoing.push(vec![2; 10]);
    assert_eq!(outgoing.part_from(0, 49), Some(0), "if it could not be cut, also the first time");
    assert_eq!(outgoing.part_from(0, 50), None);
    send(&mut outgoing, at(1));
    acked(&mut outgoing, at(2), 0, &[0b10]);
    assert_eq!(outgoing.part_from(0, 50), None, "twice the best length is bearable");
    for (from, end) in [(0, 48), (48, 96), (96, 100)] {
        assert_eq!((outgoing.waiting(), outgoing.part_from(0, 49)), (Some(0), Some(from)));
        outgoing.sent_part(0, end, at(3));
    }
    assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (None, 100));
    // One of the parts is lost: all are, as far as the sender knows.
    outgoing.push(vec![3; 10]);
    send(&mut outgoing, at(4));
    let progress = acked(&mut outgoing, at(5), 0, &[0b110]);
    assert_eq!((outgoing.waiting(), outgoing.part_from(0, 49)), (Some(0), Some(0)));
    assert_eq!(progress.fates.losses, 1);
    // The noise is over in the middle of the second row of parts.
    outgoing.sent_part(0, 48, at(6));
    assert_eq!(outgoing.part_from(0, 400), None);
    outgoing.sent(0, at(7));
    assert!(acked(&mut outgoing, at(8), 3, &[]).any);
    assert_eq!((outgoing.len(), outgoing.flight_bytes()), (0, 0));
}

#[test]
fn a_segment_that_arrives_while_its_parts_are_being_sent_is_done() {
    let mut outgoing = Outgoing::default();
    outgoing.push(vec![1; 100]);
    outgoing.push(vec![2; 10]);
    send(&mut outgoing, at(1));
    acked(&mut outgoing, at(2), 0, &[0b10]);
    outgoing.sent_part(0, 16, at(3));
    assert!(acked(&mut outgoing, at(4), 2, &[]).any);
    assert_eq!((outgoing.waiting(), outgoing.flight_bytes(), outgoing.len()), (None, 0, 0));
}

//------------ Incoming ------------------------------------------------------

#[test]
fn segments_come_out_once_and_in_order() {
    let mut incoming = Incoming::default();
    assert_eq!(incoming.accept(0, b"a"), Arrival::InOrder);
    assert_eq!(incoming.accept(0, b"a"), Arrival::Duplicate);
    assert_eq!(incoming.accept(2, b"c"), Arrival::Ahead);
    assert_eq!(incoming.accept(2, b"c"), Arrival::Duplicate);
    assert_eq!(incoming.accept(10, b"k"), Arrival::Ahead);
    // The first one waits for its reader, the second is missing.
    assert_eq!((incoming.ack(), incoming.bitmap()), (0, vec![0b101, 0b100]));
    assert_eq!(incoming.accept(1, b"b"), Arrival::InOrder);
    assert_eq!((incoming.ack(), incoming.bitmap()), (0, vec![0b111, 0b100]));
    let read: Vec<_> = std::iter::from_fn(|| incoming.read()).collect();
    assert_eq!(read, [b"a", b"b", b"c"]);
    assert_eq!((incoming.ack(), incoming.bitmap()), (3, vec![0b1000_0000]));
    assert!(incoming.has_gap());
}

#[test]
fn a_slow_reader_holds_the_window_and_the_sender_knows() {
    let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
    for seq in 0..WINDOW as u64 {
        outgoing.push(b"x".to_vec());
        assert_eq!(incoming.accept(seq, b"x"), Arrival::InOrder);
    }
    send(&mut outgoing, at(1));
    assert_eq!(incoming.accept(WINDOW as u64, b"x"), Arrival::BeyondWindow);
    assert_eq!(incoming.accept(u64::MAX, b"x"), Arrival::BeyondWindow);
    // All have arrived, so none is sent again, and none is acknowledged, so none follows.
    acked(&mut outgoing, at(2), incoming.ack(), &incoming.bitmap());
    assert_eq!((outgoing.len(), outgoing.waiting(), outgoing.flight_bytes()), (WINDOW, None, 0));
    incoming.read();
    acked(&mut outgoing, at(3), incoming.ack(), &incoming.bitmap());
    assert_eq!(outgoing.len(), WINDOW - 1);
    assert_eq!(incoming.accept(WINDOW as u64 + 1, b"x"), Arrival::BeyondWindow);
    assert_eq!(incoming.accept(WINDOW as u64, b"x"), Arrival::InOrder);
}

#[test]
fn parts_make_a_segment_in_any_order_and_however_often_they_come() {
    let bytes: Vec<u8> = (0..100).collect();
    let mut incoming = Incoming::default();
    let put = |incoming: &mut Incoming, start: usize, end: usize| {
        incoming.accept_part(1, start as u16, 100, &bytes[start..end])
    };
    assert_eq!(put(&mut incoming, 96, 100), Arrival::Partly);
    assert_eq!(put(&mut incoming, 0, 32), Arrival::Partly);
    assert_eq!(put(&mut incoming, 0, 32), Arrival::Partly);
    assert_eq!((incoming.has_gap(), incoming.bitmap()), (true, vec![]));
    assert_eq!(put(&mut incoming, 16, 48), Arrival::Partly);
    assert_eq!(put(&mut incoming, 48, 96), Arrival::Ahead);
    assert_eq!(put(&mut incoming, 48, 96), Arrival::Duplicate);
    assert_eq!(incoming.bitmap(), [0b10]);
    assert_eq!(incoming.accept_part(0, 0, 1, b"a"), Arrival::InOrder);
    assert_eq!(put(&mut incoming, 48, 96), Arrival::Duplicate);
    assert_eq!((incoming.read(), incoming.read()), (Some(b"a".to_vec()), Some(bytes)));
}

#[test]
fn parts_of_another_length_start_anew_and_the_whole_segment_ends_them() {
    let mut incoming = Incoming::default();
    assert_eq!(incoming.accept_part(0, 0, 4096, &[1; 16]), Arrival::Partly);
    assert_eq!(incoming.accept_part(0, 0, 32, &[2; 16]), Arrival::Partly);
    assert_eq!(incoming.accept_part(0, 16, 32, &[2; 16]), Arrival::InOrder);
    assert_eq!(incoming.accept_part(1, 0, 32, &[3; 16]), Arrival::Partly);
    assert_eq!(incoming.accept(1, &[4; 20]), Arrival::InOrder);
    assert_eq!((incoming.read(), incoming.read()), (Some(vec![2; 32]), Some(vec![4; 20])));
    assert!(!incoming.has_gap());
}

#[test]
fn the_window_bounds_what_a_peer_can_leave_here() {
    let mut incoming = Incoming::default();
    for seq in 0..1_000 {
        for offset in (0..4096).step_by(16) {
            incoming.accept_part(seq, offset, 4096, &[0; 16]);
        }
        incoming.accept(2_000 - seq, &[0; SEGMENT_MAX]);
    }
    assert_eq!(incoming.ready.len() + incoming.ahead.len(), WINDOW);
    assert_eq!(incoming.bitmap().len(), BITMAP_MAX);
}

#[test]
fn numbers_go_on_without_end() {
    let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
    for round in 0..70_000u64 {
        let number = outgoing.push(vec![1]);
        outgoing.sent(number, at(round));
        assert_eq!(incoming.accept(number, b"x"), Arrival::InOrder);
        incoming.read();
        let stamp = outgoing.stamp();
        outgoing.probed(at(round));
        assert_eq!(outgoing.report(at(round), stamp).unwrap().round_trip, Some(Duration::ZERO));
        assert!(acked(&mut outgoing, at(round), incoming.ack(), &[]).any);
    }
}
