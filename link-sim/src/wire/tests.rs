//! What a wire does to bytes, fault by fault.

use super::*;

const BAUD_115200: Option<u32> = Some(11_520);

fn at_ms(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn wire(bytes_per_second: Option<u32>, faults: Faults, seed: u64) -> Wire {
    Wire::new(WireConfig { bytes_per_second, latency: Duration::ZERO, faults }, seed)
}

fn everything_of(wire: &mut Wire) -> Vec<u8> {
    wire.poll(Instant::from_micros(u64::MAX)).unwrap_or_default()
}

fn some_bytes(count: usize) -> Vec<u8> {
    let mut random = Random::new(99);
    (0..count).map(|_| random.byte()).collect()
}

#[test]
fn clean_wire_carries_every_byte_in_order() {
    let mut wire = wire(BAUD_115200, Faults::none(), 1);
    let sent = some_bytes(10_000);
    wire.push(Instant::ZERO, &sent);
    assert_eq!(everything_of(&mut wire), sent);
    let expected = WireCounters { pushed: 10_000, delivered: 10_000, ..Default::default() };
    assert_eq!(wire.counters(), expected);
}

#[test]
fn each_byte_takes_its_ten_bits_and_the_latency() {
    let config = WireConfig {
        bytes_per_second: BAUD_115200,
        latency: Duration::from_millis(16),
        faults: Faults::none(),
    };
    let mut wire = Wire::new(config, 1);
    wire.push(at_ms(5), b"ab");
    assert_eq!(wire.poll_timeout(), Some(Instant::from_micros(5_000 + 87 + 16_000)));
    assert_eq!(wire.poll(Instant::from_micros(21_086)), None);
    assert_eq!(wire.poll(Instant::from_micros(21_087)), Some(b"a".to_vec()));
    assert_eq!(wire.poll(Instant::from_micros(21_174)), Some(b"b".to_vec()));
    assert_eq!(wire.poll_timeout(), None);
}

#[test]
fn batches_hold_back_the_first_of_a_burst_but_never_the_last() {
    let batch = Duration::from_millis(2);
    let mut wire = wire(Some(1_000), Faults::none(), 1);
    wire.push(Instant::ZERO, b"abcd");
    assert_eq!(wire.poll_batch_timeout(batch), Some(at_ms(3)));
    assert_eq!(wire.poll(at_ms(3)), Some(b"abc".to_vec()));
    assert_eq!(wire.poll_batch_timeout(batch), Some(at_ms(4)));
    assert_eq!(wire.poll(at_ms(4)), Some(b"d".to_vec()));
    assert_eq!(wire.poll_batch_timeout(batch), None);
}

#[test]
fn a_second_carries_exactly_a_tenth_of_the_baud_rate_however_it_is_written() {
    let mut wire = wire(BAUD_115200, Faults::none(), 1);
    let mut pushed = 0;
    for millis in 0..1_000 {
        let room = wire.room(at_ms(millis), Duration::from_millis(4));
        wire.push(at_ms(millis), &vec![0; room]);
        pushed += room;
    }
    assert!(pushed >= 11_520, "{pushed}");
    let mut arrived = 0;
    for millis in 0..=1_000 {
        arrived += wire.poll(at_ms(millis)).map_or(0, |bytes| bytes.len());
    }
    assert_eq!(arrived, 11_520);
}

#[test]
fn one_byte_a_second_is_a_wire_too() {
    let mut wire = wire(Some(1), Faults::none(), 1);
    wire.push(Instant::ZERO, b"abc");
    assert_eq!(wire.poll(at_ms(2_999)), Some(b"ab".to_vec()));
    assert_eq!(wire.poll(at_ms(3_000)), Some(b"c".to_vec()));
}

#[test]
fn unlimited_wire_has_only_latency() {
    let config = WireConfig { latency: Duration::from_millis(7), ..WireConfig::default() };
    let mut wire = Wire::new(config, 1);
    wire.push(at_ms(1), &some_bytes(100_000));
    assert_eq!(wire.poll(at_ms(7)), None);
    assert_eq!(wire.poll(at_ms(8)), Some(some_bytes(100_000)));
}

#[test]
fn bit_errors_come_at_their_rate_and_change_nothing_else() {
    let mut wire = wire(None, Faults::none().bit_errors(1e-3), 5);
    let sent = vec![0u8; 1_000_000];
    wire.push(Instant::ZERO, &sent);
    let arrived = everything_of(&mut wire);
    assert_eq!(arrived.len(), sent.len());
    let flipped: u64 = arrived.iter().map(|byte| u64::from(byte.count_ones())).sum();
    assert_eq!(flipped, wire.counters().flipped);
    assert!((7_600..8_400).contains(&flipped), "{flipped}");
}

#[test]
fn drops_lose_runs_and_keep_the_rest_in_order() {
    let mut wire = wire(None, Faults::none().drops(1e-2, 5), 5);
    let sent: Vec<u8> = (0..100_000u32).map(|index| index as u8).collect();
    wire.push(Instant::ZERO, &sent);
    let arrived = everything_of(&mut wire);
    let lost = wire.counters().dropped;
    assert_eq!(arrived.len() as u64 + lost, 100_000);
    // One run in 100 bytes, 3 bytes long on average.
    assert!((2_600..3_200).contains(&lost), "{lost}");
    assert!(is_subsequence(&arrived, &sent));
}

#[test]
fn duplicates_repeat_the_last_bytes() {
    let mut wire = wire(None, Faults::none().duplicates(1.0, 1), 5);
    wire.push(Instant::ZERO, b"abc");
    assert_eq!(everything_of(&mut wire), b"aabbcc");
}

#[test]
fn noise_text_and_control_bytes_add_and_take_nothing() {
    let faults = Faults::none().noise(1e-3, 4_096).controls(1e-2).texts(1e-3);
    let mut wire = wire(None, faults, 5);
    let sent = some_bytes(20_000);
    wire.push(Instant::ZERO, &sent);
    let arrived = everything_of(&mut wire);
    assert!(wire.counters().inserted > 10_000);
    assert_eq!(arrived.len() as u64, 20_000 + wire.counters().inserted);
    assert!(is_subsequence(&sent, &arrived));
    assert!(arrived.windows(6).any(|window| window == b"login:"));
}

#[test]
fn garbled_bytes_are_never_the_bytes_sent_until_the_rate_is_right() {
    let mut wire = wire(Some(1_000), Faults::none().garbled_until(at_ms(100)), 5);
    wire.push(Instant::ZERO, &[0x55; 200]);
    let arrived = everything_of(&mut wire);
    assert!(arrived[..100].iter().all(|byte| *byte != 0x55));
    assert_eq!(arrived[100..], [0x55; 100]);
}

#[test]
fn stale_bytes_come_before_the_first_real_one() {
    let mut wire = wire(BAUD_115200, Faults::none().stale_bytes(100), 5);
    wire.push(at_ms(1), b"hello");
    let arrived = everything_of(&mut wire);
    assert_eq!(arrived.len(), 105);
    assert_eq!(&arrived[100..], b"hello");
}

#[test]
fn cut_loses_exactly_the_bytes_on_the_line_in_that_time() {
    let cut = Faults::none().cut(at_ms(100), Duration::from_millis(50));
    let mut wire = wire(Some(1_000), cut, 5);
    let sent: Vec<u8> = (0..200).collect();
    wire.push(Instant::ZERO, &sent);
    // Byte n passes at n + 1 ms, so those that pass at 100 to 149 ms are lost.
    let expected: Vec<u8> = (0..99).chain(149..200).collect();
    assert_eq!(everything_of(&mut wire), expected);
    assert_eq!(wire.counters().cut, 50);
}

#[test]
fn cable_pulled_by_hand_loses_what_is_under_way_and_carries_again_when_back() {
    let mut wire = wire(Some(1_000), Faults::none(), 5);
    wire.push(Instant::ZERO, b"abcdef");
    assert_eq!(wire.poll(at_ms(2)), Some(b"ab".to_vec()));
    wire.cut(at_ms(3));
    assert_eq!(wire.poll(at_ms(4)), None);
    wire.restore(at_ms(5));
    assert_eq!(wire.poll(at_ms(6)), Some(b"ef".to_vec()));
    wire.push(at_ms(6), b"g");
    assert_eq!(wire.poll(at_ms(7)), Some(b"g".to_vec()));
}

#[test]
fn loose_plug_is_open_for_its_share_of_the_time() {
    let loose = Faults::none().loose(Duration::from_millis(900), Duration::from_millis(100));
    let mut wire = wire(Some(1_000), loose, 5);
    wire.push(Instant::ZERO, &vec![0; 1_000_000]);
    let share = everything_of(&mut wire).len() as f64 / 1e6;
    assert!((0.87..0.93).contains(&share), "{share}");
}

#[test]
fn healed_wire_meets_no_accident() {
    let mut faults = Faults::preset("flaky-cable").unwrap().bit_errors(0.1);
    faults.healed_at = Some(at_ms(100));
    let mut wire = wire(Some(1_000), faults, 5);
    wire.push(at_ms(100), &[0; 5_000]);
    assert_eq!(everything_of(&mut wire), [0; 5_000]);
}

#[test]
fn same_seed_gives_the_same_bytes_and_another_seed_others() {
    let run = |seed| {
        let faults = Faults::preset("flaky-cable").unwrap().bit_errors(1e-3);
        let mut wire = wire(BAUD_115200, faults, seed);
        wire.push(Instant::ZERO, &some_bytes(100_000));
        everything_of(&mut wire)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

fn is_subsequence(short: &[u8], long: &[u8]) -> bool {
    let mut rest = long.iter();
    short.iter().all(|byte| rest.any(|other| other == byte))
}
