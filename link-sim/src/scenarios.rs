//! Everything that can go wrong with a cable, by name: the presets of a line, and what happens to
//! the programs, the machines and the plugs at its ends.
//!
//! Each lets one thing happen to two sessions on virtual time, which ask and answer all the while,
//! and waits until everything is answered. A run that does not get there ends with the line that
//! replays it.

use protocol::{
    frame::FRAME_MAX,
    link::EndpointConfig,
    secure::{Entropy, KEY_TIME_MAX, Pairing},
    session::{Event, FrontendSession, SessionConfig, Side},
    time::{Duration, Instant},
};

use crate::{
    adversary::Adversary,
    faults::{Faults, PRESETS},
    pair::{Notice, Pair, PairConfig},
    random::Random,
    workload::{Kind, Workload},
};

/// What happens beside a line's own faults.
struct Scenario {
    name: &'static str,
    about: &'static str,
    happen: fn(&mut Pair, &mut Workload, &mut Random),
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cable-out-1s",
        about: "out for a second in mid-work",
        happen: |pair, workload, _| cut_for(pair, workload, Duration::from_secs(1)),
    },
    Scenario {
        name: "cable-out-1h",
        about: "out for an hour",
        happen: |pair, workload, _| cut_for(pair, workload, Duration::from_secs(3_600)),
    },
    Scenario {
        name: "cable-out-30d",
        about: "out for thirty days",
        happen: |pair, workload, _| cut_for(pair, workload, Duration::from_secs(30 * 86_400)),
    },
    Scenario {
        name: "request-lost",
        about: "nothing reaches the signer for a while",
        happen: |pair, workload, random| deafen(pair, workload, random, Side::Signer),
    },
    Scenario {
        name: "answer-lost",
        about: "nothing reaches the frontend for a while: answers and acknowledgements are lost",
        happen: |pair, workload, random| deafen(pair, workload, random, Side::Frontend),
    },
    Scenario {
        name: "frontend-reboots",
        about: "the frontend starts anew, in every state",
        happen: |pair, workload, random| reboot(pair, workload, random, Side::Frontend),
    },
    Scenario {
        name: "signer-reboots",
        about: "the signer starts anew, in every state",
        happen: |pair, workload, random| reboot(pair, workload, random, Side::Signer),
    },
    Scenario {
        name: "usb-reenumeration",
        about: "the adapter leaves in mid-frame and comes back with old bytes in it",
        happen: reenumerate,
    },
    Scenario {
        name: "replayed-session",
        about: "all that was ever said is played again, to both sides",
        happen: replay,
    },
    Scenario {
        name: "reflection",
        about: "each side hears all that it said itself",
        happen: reflect,
    },
    Scenario {
        name: "two-frontends",
        about: "a second frontend with the same key on the same wire",
        happen: second_frontend,
    },
    Scenario {
        name: "extreme-lengths",
        about: "runs of 0, the longest frame, one more and 2^24 bytes without a delimiter",
        happen: extreme_lengths,
    },
    Scenario {
        name: "version-before",
        about: "each side is told that the other is one version older",
        happen: |pair, workload, _| other_version(pair, workload, -1),
    },
    Scenario {
        name: "version-after",
        about: "each side is told that the other is one version newer",
        happen: |pair, workload, _| other_version(pair, workload, 1),
    },
    Scenario {
        name: "key-change",
        about: "the session key grows old in mid-work",
        happen: outlive_the_key,
    },
    Scenario {
        name: "adversary",
        about: "somebody owns the wire: drops, keeps, replays, reflects, alters, forges",
        happen: endure_the_adversary,
    },
];

/// Every fault that has a name, and what it is.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let presets = PRESETS.iter().map(|preset| (preset.name, preset.about));
    presets.chain(SCENARIOS.iter().map(|scenario| (scenario.name, scenario.about)))
}

/// Lets the fault of this name happen; says how much virtual time passed until everything was
/// answered. Ends the run with the line that replays it if that takes too long.
///
/// # Panics
/// If there is no such fault, or a rule is broken.
pub fn run(name: &str, seed: u64) -> Duration {
    let mut random = Random::new(seed);
    if let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) {
        let (mut pair, mut workload) = start(name, seed, preset.faults(), preset.bytes_per_second);
        let slow = preset.bytes_per_second.is_some();
        workload.run_for(&mut pair, Duration::from_secs(30));
        pair.heal();
        workload.finish(&mut pair, if slow { SLOW } else { SOON });
        return pair.now().saturating_since(Instant::ZERO);
    }
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let Some(scenario) = scenario else { panic!("no fault is called {name}") };
    let (mut pair, mut workload) = start(name, seed, Faults::none(), None);
    (scenario.happen)(&mut pair, &mut workload, &mut random);
    workload.ask_mixture(3);
    workload.finish(&mut pair, SOON);
    pair.now().saturating_since(Instant::ZERO)
}

fn start(name: &str, seed: u64, faults: Faults, rate: Option<u32>) -> (Pair, Workload) {
    let config = PairConfig {
        seed,
        bytes_per_second: Some(rate.unwrap_or(11_520)),
        batch: Duration::from_millis(2),
        faults,
        test: command_of(name),
        ..PairConfig::default()
    };
    let mut workload = Workload::new(seed);
    match rate {
        Some(_) => [Kind::Issue(60), Kind::Time].into_iter().for_each(|kind| workload.ask(kind)),
        None => workload.ask_mixture(30),
    }
    (Pair::new(config), workload)
}

/// What is pasted to see a failure again: the names are few, so this leaks a few bytes at most.
fn command_of(name: &str) -> &'static str {
    String::leak(format!("link-sim run {name}"))
}

/// From the end of a fault until everything is answered.
const SOON: Duration = Duration::from_secs(120);
/// The same on a line of a byte a second.
const SLOW: Duration = Duration::from_secs(3_600);
/// From the end of all meddling until there is a connection again, and an answer.
const BACK_IN: Duration = Duration::from_secs(5);

fn cut_for(pair: &mut Pair, workload: &mut Workload, length: Duration) {
    workload.run_for(pair, Duration::from_millis(700));
    pair.cut();
    pair.drive_for(length);
    pair.restore();
}

fn deafen(pair: &mut Pair, workload: &mut Workload, random: &mut Random, side: Side) {
    for _ in 0..5 {
        workload.ask_mixture(4);
        workload.run_for(pair, Duration::from_millis(random.below(900)));
        pair.cut_towards(side);
        workload.run_for(pair, Duration::from_millis(random.below(15_000)));
        pair.restore();
    }
}

fn reboot(pair: &mut Pair, workload: &mut Workload, random: &mut Random, side: Side) {
    for _ in 0..20 {
        workload.ask_mixture(2);
        workload.run_for(pair, Duration::from_micros(random.below(1_500_000)));
        restart(pair, workload, side);
    }
}

fn restart(pair: &mut Pair, workload: &mut Workload, side: Side) {
    pair.restart(side);
    match side {
        Side::Frontend => workload.frontend_restarted(),
        Side::Signer => workload.signer_restarted(),
    }
}

fn reenumerate(pair: &mut Pair, workload: &mut Workload, random: &mut Random) {
    for _ in 0..5 {
        workload.ask_mixture(4);
        workload.run_for(pair, Duration::from_micros(random.below(1_000_000)));
        pair.cut();
        workload.run_for(pair, Duration::from_millis(200 + random.below(4_000)));
        pair.restore();
        for (to, from) in [(Side::Signer, Side::Frontend), (Side::Frontend, Side::Signer)] {
            let tape = pair.tape(from);
            let start = random.below(tape.len() as u64) as usize;
            let old = tape[start..tape.len().min(start + 4_096)].to_vec();
            pair.inject(to, &old);
        }
    }
}

fn replay(pair: &mut Pair, workload: &mut Workload, _: &mut Random) {
    workload.run_for(pair, Duration::from_secs(3));
    for side in [None, Some(Side::Signer), Some(Side::Frontend)] {
        let (asked, told) = (pair.tape(Side::Frontend).to_vec(), pair.tape(Side::Signer).to_vec());
        if let Some(side) = side {
            restart(pair, workload, side);
        }
        workload.ask_mixture(5);
        pair.inject(Side::Signer, &asked);
        pair.inject(Side::Frontend, &told);
        workload.run_for(pair, Duration::from_secs(10));
    }
}

fn reflect(pair: &mut Pair, workload: &mut Workload, _: &mut Random) {
    for _ in 0..5 {
        workload.ask_mixture(4);
        workload.run_for(pair, Duration::from_millis(600));
        for side in [Side::Frontend, Side::Signer] {
            let said = pair.tape(side).to_vec();
            let last = said.len().saturating_sub(4_096);
            pair.inject(side, &said[last..]);
        }
    }
}

/// It hears what the signer writes and writes on the same wire; it has the right key, as a
/// frontend restored on a second machine would.
fn second_frontend(pair: &mut Pair, workload: &mut Workload, random: &mut Random) {
    pair.allow_notices();
    workload.run_for(pair, Duration::from_secs(1));
    let link = EndpointConfig {
        side: Side::Frontend,
        // The pair drew the first one's name from the same seed: this must be another.
        boot_id: !random.next_u64(),
        line_rate: pair.config().bytes_per_second,
    };
    let (pairing, _) = Pairing::both(0);
    let entropy = Entropy::seeded(random.next_u64());
    let mut second = FrontendSession::new(SessionConfig { link, pairing, entropy }, pair.now());
    let mut heard = pair.tape(Side::Signer).len();
    let mut told = false;
    let end = pair.now() + Duration::from_secs(20);
    while pair.now() < end {
        workload.run_for(pair, Duration::from_millis(5));
        let now = pair.now();
        let tape = pair.tape(Side::Signer);
        second.handle_bytes(now, &tape[heard..]);
        heard = tape.len();
        if second.poll_timeout().is_some_and(|at| at <= now) {
            second.handle_timeout(now);
        }
        while let Some(bytes) = second.poll_transmit(now) {
            pair.inject(Side::Signer, &bytes);
        }
        while let Some(event) = second.poll_event() {
            told |= matches!(event, Event::Occupied);
        }
    }
    pair.check(told, "the second frontend was not told that the place is taken");
}

fn extreme_lengths(pair: &mut Pair, workload: &mut Workload, random: &mut Random) {
    workload.run_for(pair, Duration::from_secs(1));
    for length in [0, 1, FRAME_MAX - 1, FRAME_MAX, FRAME_MAX + 1] {
        let mut run: Vec<u8> = (0..length).map(|_| 1 + random.below(255) as u8).collect();
        run.push(0);
        pair.inject(Side::Signer, &run);
        pair.inject(Side::Frontend, &run);
        workload.run_for(pair, Duration::from_secs(2));
    }
    // 2^24 bytes at the pace of the line: 24 minutes in which nothing else passes.
    for _ in 0..256 {
        pair.inject(Side::Signer, &[0x55; 1 << 16]);
        workload.run_for(pair, Duration::from_micros((1 << 16) * 1_000_000 / 11_520));
    }
}

/// The greetings of both sides say another version; both programs say so, and nothing else
/// happens until they are right again.
fn other_version(pair: &mut Pair, workload: &mut Workload, by: i8) {
    workload.run_for(pair, Duration::from_secs(2));
    pair.adversary_comes(Adversary::of_another_version(by));
    for side in [Side::Frontend, Side::Signer] {
        restart(pair, workload, side);
    }
    workload.run_for(pair, Duration::from_secs(60));
    for side in [Side::Frontend, Side::Signer] {
        pair.check(!pair.is_up(side), "there is a connection without a common version");
        let told = pair.notices(side).contains(&Notice::Incompatible);
        pair.check(told, "a side was not told that the versions do not fit");
    }
    pair.adversary_leaves();
}

fn outlive_the_key(pair: &mut Pair, workload: &mut Workload, _: &mut Random) {
    workload.run_for(pair, Duration::from_secs(10));
    let before = pair.counts(Side::Frontend).connections;
    let end = pair.now() + KEY_TIME_MAX + Duration::from_secs(60);
    while pair.now() < end {
        workload.ask_mixture(2);
        workload.run_for(pair, Duration::from_secs(50));
    }
    let after = pair.counts(Side::Frontend).connections;
    pair.check(after == before, "the connection broke over a change of keys");
}

/// Whatever he does, nothing arrives that was not sent; when he is gone, service is back at once.
fn endure_the_adversary(pair: &mut Pair, workload: &mut Workload, random: &mut Random) {
    let mut deeds = 0;
    for meddles in [0.02, 0.2, 0.6, 0.95] {
        pair.adversary_comes(Adversary::new(random.next_u64(), meddles));
        for _ in 0..4 {
            workload.ask_mixture(4);
            workload.run_for(pair, Duration::from_secs(8));
        }
        deeds += pair.adversary_leaves().map_or(0, |gone| gone.deeds().in_all());
        // What he kept unanswered takes its time on the line; what is asked now goes before it.
        let end = pair.now() + BACK_IN;
        pair.drive_until_up(BACK_IN);
        workload.forget_open();
        workload.ask(Kind::Issue(600));
        workload.ask(Kind::Revoke);
        workload.finish(pair, end.saturating_since(pair.now()));
    }
    // Where he seldom touches a frame he may find none; in all he is busy.
    pair.check(deeds > 20, "the adversary did next to nothing");
}
