//! What can happen to the two programs, as a list that follows from one number.
//!
//! Each operation carries its own numbers, so that a list from which some were left out still
//! means the same for the rest: that is what makes a failing list short.

use protocol::{session::Side, time::Duration};

use crate::{faults::Faults, random::Random};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Time passes.
    Pass(Duration),
    /// A person asks for certificates.
    Issue {
        /// How many.
        count: u8,
        /// With which of the prepared CSRs, and which names.
        number: u64,
    },
    /// A person asks for what no rule permits.
    AskBadly {
        /// In which way.
        how: u8,
        /// What makes the request differ from others.
        number: u64,
    },
    /// A person revokes the nth certificate that the frontend has.
    Revoke {
        /// Which, taken round.
        nth: u64,
        /// What makes the request differ from others.
        number: u64,
    },
    /// A person asks to have user IDs of an OpenPGP key certified.
    Certify {
        /// Which of whom, and for how long.
        number: u64,
    },
    /// A person asks to take such certifications back.
    TakeBack {
        /// Which of whom.
        number: u64,
    },
    /// A frontend that does not obey sends a request once more, past its queue.
    Repeat {
        /// Which, taken round.
        nth: u64,
    },
    /// The same, with another body under the same id.
    Conflict {
        /// Which, taken round.
        nth: u64,
    },
    /// The cable is out towards this end.
    CutTowards(Side),
    /// The cable is out.
    Cut,
    /// The cable is in again.
    Restore,
    /// The line is as bad as this number says.
    Damage(u64),
    /// The line is good.
    Mend,
    /// The frontend's machine goes off and comes back.
    RebootFrontend {
        /// How long it is off.
        off: Duration,
        /// Without warning: what was not synced is lost.
        power_cut: bool,
        /// Bytes of the last session are left in its port.
        stale: u16,
    },
    /// The signer's machine goes off and comes back.
    RebootSigner {
        /// How long it is off.
        off: Duration,
        /// Without warning: what was not synced is lost.
        power_cut: bool,
        /// Bytes of the last session are left in its port.
        stale: u16,
    },
    /// The gate's process dies and another is started.
    RestartGate,
    /// Both machines are off for a long time.
    Outage {
        /// How long.
        off: Duration,
    },
    /// Somebody plays a piece of what this end wrote to that end.
    Replay {
        /// Who wrote it.
        from: Side,
        /// Who hears it.
        to: Side,
        /// Where in the recording it begins, taken round.
        start: u64,
        /// How long it is.
        length: u16,
    },
    /// Somebody writes nonsense on the wire towards this end.
    Noise {
        /// Who hears it.
        to: Side,
        /// How much.
        length: u16,
    },
    /// Somebody owns the wire for a while.
    Adversary {
        /// How long.
        lasts: Duration,
        /// What he decides follows from this.
        number: u64,
    },
    /// The signer's clock is set back; the oldest such change is taken back with the first
    /// healing.
    ClockBack(Duration),
    /// The signer is stopped, its store copied, and started again.
    BackUpSigner,
    /// The signer's store is replaced by the last copy, and a person does what the runbook says.
    RestoreSigner,
    /// The frontend is stopped, its directory copied, and started again.
    BackUpFrontend,
    /// The frontend's directory is replaced by the last copy.
    RestoreFrontend,
}

/// The list that follows from `random`.
pub fn list(random: &mut Random, length: usize) -> Vec<Operation> {
    (0..length).map(|_| draw(random)).collect()
}

fn draw(random: &mut Random) -> Operation {
    let mut ticket = random.below(WEIGHTS.iter().map(|row| row.0).sum());
    for (weight, make) in WEIGHTS {
        if ticket < *weight {
            return make(random);
        }
        ticket -= weight;
    }
    Operation::Mend // every ticket is below the sum of the weights
}

type Make = fn(&mut Random) -> Operation;

/// How often each kind happens, in parts of their sum. Requests and starts of programs cost nearly
/// all of the time: a few dozen and a handful for 300 operations, so that many seeds have theirs.
const WEIGHTS: &[(u64, Make)] = &[
    (380, |random| Operation::Pass(millis(random, 120))),
    (40, |random| Operation::Pass(millis(random, 2_500))),
    (15, |random| Operation::Issue { count: 1 + random.below(2) as u8, number: random.next_u64() }),
    (13, |random| Operation::AskBadly { how: random.byte(), number: random.next_u64() }),
    (20, |random| Operation::Revoke { nth: random.next_u64(), number: random.next_u64() }),
    (9, |random| Operation::Certify { number: random.next_u64() }),
    (4, |random| Operation::TakeBack { number: random.next_u64() }),
    (20, |random| Operation::Repeat { nth: random.next_u64() }),
    (15, |random| Operation::Conflict { nth: random.next_u64() }),
    (20, |random| Operation::CutTowards(side(random))),
    (15, |_| Operation::Cut),
    (80, |_| Operation::Restore),
    (25, |random| Operation::Damage(random.next_u64())),
    (40, |_| Operation::Mend),
    (4, |random| Operation::RebootFrontend {
        off: millis(random, 2_000),
        power_cut: random.chance(0.5),
        stale: random.below(3_000) as u16,
    }),
    (3, |random| Operation::RebootSigner {
        off: millis(random, 2_000),
        power_cut: random.chance(0.5),
        stale: random.below(3_000) as u16,
    }),
    (6, |_| Operation::RestartGate),
    (2, |random| Operation::Outage { off: Duration::from_secs(60 + random.below(3 * 86_400)) }),
    (25, |random| Operation::Replay {
        from: side(random),
        to: side(random),
        start: random.next_u64(),
        length: random.below(4_096) as u16,
    }),
    (10, |random| Operation::Noise { to: side(random), length: random.below(4_096) as u16 }),
    (6, |random| Operation::Adversary { lasts: millis(random, 3_000), number: random.next_u64() }),
    (3, |random| Operation::ClockBack(Duration::from_secs(1 + random.below(7_200)))),
    (1, |_| Operation::BackUpSigner),
    (1, |_| Operation::RestoreSigner),
    (1, |_| Operation::BackUpFrontend),
    (1, |_| Operation::RestoreFrontend),
];

pub(super) fn millis(random: &mut Random, below: u64) -> Duration {
    Duration::from_micros(random.below(below * 1_000))
}

fn side(random: &mut Random) -> Side {
    [Side::Frontend, Side::Signer][random.below(2) as usize]
}

/// A mixture of faults that still lets some bytes through.
pub(crate) fn mixture(random: &mut Random) -> Faults {
    let mut faults = Faults::none();
    let lengths = [1, 16, 256, 4_096];
    // A run of faults takes about as much of the line whatever its length.
    let runs = |random: &mut Random| {
        let length = lengths[random.below(4) as usize];
        (random.unit() * 0.01 / f64::from(length), length)
    };
    if random.chance(0.6) {
        faults = faults.bit_errors([1e-6, 1e-5, 1e-4, 1e-3, 1e-2][random.below(5) as usize]);
    }
    if random.chance(0.3) {
        let (rate, length) = runs(random);
        faults = faults.drops(rate, length);
    }
    if random.chance(0.3) {
        let (rate, length) = runs(random);
        faults = faults.duplicates(rate, length);
    }
    if random.chance(0.3) {
        let (rate, length) = runs(random);
        faults = faults.noise(rate, length);
    }
    if random.chance(0.2) {
        faults = faults.controls(random.unit() * 0.01);
    }
    if random.chance(0.2) {
        faults = faults.texts(random.unit() * 0.001);
    }
    if random.chance(0.1) {
        faults = faults.loose(Duration::from_secs(3), Duration::from_millis(400));
    }
    faults
}
