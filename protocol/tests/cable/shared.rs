//! Two frontends on one wire: one talks, the other is told and waits, whatever becomes of the first.

use crate::{
    support::{End, Faults, Random, Wire},
    work::{PACED, SECOND, answer, issue},
};
use protocol::{
    message::{Answer, Request},
    session::Side,
    time::{Duration, Instant},
};

/// One signer, and frontends that all write to it and all hear it.
struct Bus {
    now: Instant,
    frontends: Vec<End<Request, Answer>>,
    signer: End<Answer, Request>,
    up: Wire,
    down: Wire,
}

impl Bus {
    fn new(seed: u64) -> Self {
        let now = Instant::ZERO;
        Self {
            now,
            frontends: vec![End::new(Side::Frontend, seed << 20 | 0x100, PACED, now)],
            signer: End::new(Side::Signer, seed << 20 | 0x200, PACED, now),
            up: Wire::new(PACED, seed ^ 0x1111),
            down: Wire::new(PACED, seed ^ 0x2222),
        }
    }

    fn add_frontend(&mut self) {
        let boot_id = 0x7000 + self.frontends.len() as u64;
        self.frontends.push(End::new(Side::Frontend, boot_id, PACED, self.now));
    }

    fn step(&mut self, limit: Instant) {
        for frontend in &mut self.frontends {
            frontend.drain(self.now, &mut self.up);
        }
        self.signer.drain(self.now, &mut self.down);
        let sessions = self.frontends.iter().map(|frontend| frontend.session.poll_timeout());
        let others = [self.signer.session.poll_timeout(), self.up.next(), self.down.next()];
        let next = sessions.chain(others).flatten().min().unwrap_or(limit);
        self.now = next.max(self.now).min(limit);
        while let Some(bytes) = self.up.take(self.now) {
            self.signer.session.handle_bytes(self.now, &bytes);
        }
        while let Some(bytes) = self.down.take(self.now) {
            for frontend in &mut self.frontends {
                frontend.session.handle_bytes(self.now, &bytes);
            }
        }
        for frontend in &mut self.frontends {
            frontend.session.handle_timeout(self.now);
        }
        self.signer.session.handle_timeout(self.now);
    }

    fn drive(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + limit);
        while !done(self) {
            if self.now >= end {
                return None;
            }
            self.step(end);
        }
        Some(self.now.saturating_since(start))
    }

    /// A request of the frontend, and its answer.
    fn exchange(&mut self, frontend: usize, number: u64) -> Duration {
        let (request, start) = (issue(number, 600), self.now);
        self.frontends[frontend].session.send(self.now, &request).unwrap();
        let there = self.drive(20 * SECOND, |bus| bus.signer.heard.last() == Some(&request));
        assert!(there.is_some(), "request {number} of frontend {frontend}");
        let answer = answer(&request).unwrap();
        self.signer.session.send(self.now, &answer).unwrap();
        let back = |bus: &Self| bus.frontends[frontend].heard.last() == Some(&answer);
        assert!(self.drive(20 * SECOND, back).is_some(), "answer {number}");
        self.now.saturating_since(start)
    }
}

#[test]
fn the_second_frontend_is_told_and_waits_and_the_first_one_does_not_notice() {
    for bit_error in [0.0, 1e-5, 1e-4] {
        let mut bus = Bus::new(1);
        bus.drive(5 * SECOND, |bus| bus.frontends[0].session.is_up()).unwrap();
        let noise = Faults { bit_error, ..Faults::default() };
        bus.up.set_faults(noise.clone());
        bus.down.set_faults(noise);
        bus.add_frontend();
        let told = bus.drive(10 * SECOND, |bus| !bus.frontends[1].others.is_empty());
        assert!(told.is_some_and(|time| time < 5 * SECOND), "{bit_error:e}: {told:?}");
        assert_eq!(bus.frontends[1].others, ["Occupied"]);
        for number in 0..100 {
            bus.exchange(0, number);
            bus.drive(SECOND, |_| false);
        }
        assert_eq!((bus.signer.ups, bus.frontends[0].ups), (1, 1), "{bit_error:e}");
        assert_eq!((bus.frontends[1].ups, bus.frontends[1].heard.len()), (0, 0));
        assert_eq!(bus.frontends[1].others, ["Occupied"], "it is told once");
    }
}

#[test]
fn the_second_frontend_takes_over_soon_after_the_first_is_gone() {
    for seed in 0..20 {
        let mut bus = Bus::new(seed);
        bus.drive(5 * SECOND, |bus| bus.frontends[0].session.is_up()).unwrap();
        bus.exchange(0, 1);
        bus.add_frontend();
        bus.drive(Duration::from_millis(Random(seed).below(20_000)), |_| false);
        assert_eq!(bus.frontends[1].ups, 0);
        bus.frontends.remove(0);
        let up = |bus: &Bus| bus.frontends[0].session.is_up() && bus.signer.session.is_up();
        let time = bus.drive(20 * SECOND, up);
        assert!(time.is_some_and(|time| time < 6 * SECOND), "seed {seed}: {time:?}");
        bus.exchange(0, 2);
    }
}

#[test]
fn a_waiting_frontend_costs_the_first_one_next_to_nothing() {
    let mut costs = Vec::new();
    for others in [0, 1] {
        let mut bus = Bus::new(3);
        bus.drive(5 * SECOND, |bus| bus.frontends[0].session.is_up()).unwrap();
        (0..others).for_each(|_| bus.add_frontend());
        bus.drive(10 * SECOND, |_| false);
        let times = (0..50).map(|number| bus.exchange(0, number));
        costs.push(times.sum::<Duration>());
    }
    assert!(costs[1] < costs[0] + costs[0] / 20, "{costs:?}");
}

#[test]
fn two_frontends_that_start_at_once_share_the_signer_one_after_the_other() {
    for seed in 0..20 {
        let mut bus = Bus::new(seed);
        bus.add_frontend();
        let up = |bus: &Bus| bus.frontends.iter().any(|frontend| frontend.session.is_up());
        bus.drive(20 * SECOND, up).unwrap();
        let first = bus.frontends.iter().position(|frontend| frontend.session.is_up()).unwrap();
        bus.exchange(first, 1);
        bus.drive(60 * SECOND, |_| false);
        assert_eq!(bus.frontends[1 - first].ups, 0, "seed {seed}");
        assert_eq!(bus.frontends[1 - first].others, ["Occupied"], "seed {seed}");
        bus.exchange(first, 2);
        assert_eq!(bus.frontends[first].ups, 1, "seed {seed}");
    }
}
