//! Both programs, the wire between them and whoever meddles with it, on one virtual clock.
//!
//! A world carries out operations one after the other and moves from one event to the next in
//! between. It ends with the first rule that breaks.

use std::collections::BTreeMap;

use frontend::home::Home;
use protocol::{
    link::EndpointConfig,
    message::{Answer, CrlScope, Request, RequestId},
    secure::{Entropy, Pairing},
    session::{Session, SessionConfig, Side},
    time::{Duration, Instant},
};

use super::{
    Held, Report, Violation,
    frontend::Frontend,
    material::{self, ISSUING},
    operations::{self, Operation},
    oracle::{Expected, FrontendMemory, Oracle, SignerMemory},
    sabotage::{Sabotage, Saboteur},
    signer::{Pace, Signer},
    store::{self, Image, Kind, Scratch},
};
use crate::{
    adversary::Adversary,
    checker::Checker,
    faults::Faults,
    random::Random,
    wire::{Wire, WireConfig},
};

mod ask;
mod end;
mod power;

use power::Plug;
pub use power::{Point, Points, points, run_with_power_cut};

/// Everything.
pub(crate) struct World {
    now: Instant,
    steps_now: u32,
    random: Random,
    rate: Option<u32>,
    batch: Duration,
    pace: Pace,
    scratch: Scratch,
    home: Home,
    frontend: Option<Frontend>,
    signer: Option<Signer>,
    /// How far the signer's clock is behind.
    clock: Duration,
    to_signer: Direction,
    to_frontend: Direction,
    adversary: Option<(Adversary, Instant)>,
    oracle: Oracle,
    signer_backup: Option<(Image, SignerMemory)>,
    frontend_backup: Option<(Image, FrontendMemory)>,
    /// What a disk that forgets goes back to.
    stale_disk: Option<Image>,
    pairings: (Pairing, Pairing),
    kind: Kind,
    /// The inodes of the published CRLs that the oracle saw last.
    published: BTreeMap<CrlScope, u64>,
    plug: Plug,
    pub(crate) trace: Trace,
}

/// One direction of the cable, and what is known of who hears it.
struct Direction {
    wire: Wire,
    arriving: Checker,
    /// The last bytes that the sender wrote.
    tape: Vec<u8>,
}

/// A number that follows from all that happened: two runs of a seed have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub u64);

impl Trace {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// A state machine that asks for so many turns at one instant asks for ever.
const STEPS_NOW_MAX: u32 = 1_000;
/// How long a line takes to fill a UART's FIFO of 16 bytes: no driver hears of each byte.
fn fifo(bytes_per_second: u32) -> Duration {
    Duration::from_micros(16_000_000 / u64::from(bytes_per_second))
}

/// What is recorded of each direction.
const TAPE_MAX: usize = 64 * 1024;
/// Bytes under way on a line with a limit: some segments and what was duplicated or made up.
const FLYING_MAX: usize = 256 * 1024;
/// From the end of all faults until everything is answered. A request whose answer was lost behind
/// the session is asked again after two minutes, and a piece of a CRL that a vault without a clock
/// did not give after ten.
const HEALING_MAX: Duration = Duration::from_secs(1_500);
/// A CRL that is signed by the clock, without a revocation, is fetched when the frontend looks
/// for it again.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(3_600);

impl World {
    /// Both programs start.
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Result<Self, Violation> {
        let mut random = Random::new(seed);
        let rates = [None, None, Some(960), Some(5_760), Some(11_520), Some(100_000)];
        let rate = rates[random.below(rates.len() as u64) as usize];
        let latency = Duration::from_millis(random.below(40));
        let batch = Duration::from_millis([1, 4, 16][random.below(3) as usize]);
        let batch = batch.max(rate.map_or(Duration::ZERO, fifo));
        let config = WireConfig { bytes_per_second: rate, latency, faults: Faults::none() };
        let pace = Pace {
            signing: Duration::from_micros(100 + random.below(20_000)),
            vetting: Duration::from_micros(100 + random.below(5_000)),
            tick: Duration::from_millis([3_000, 8_000, 12_000][random.below(3) as usize]),
        };
        let scratch = Scratch::new()?;
        let kind =
            if Random::new(seed ^ KIND).chance(SHARDED) { Kind::Sharded } else { Kind::Full };
        let templates = kind.templates();
        templates.signer.write(&scratch.path("signer"))?;
        templates.frontend.write(&scratch.path("frontend"))?;
        let home = Home::open(&scratch.path("frontend")).map_err(super::failed)?;
        let direction = |random: &mut Random| Direction {
            wire: Wire::new(config.clone(), random.next_u64()),
            arriving: Checker::default(),
            tape: Vec::new(),
        };
        let oracle = Oracle::new(Saboteur::new(sabotage));
        let mut world = Self {
            now: Instant::ZERO,
            steps_now: 0,
            to_signer: direction(&mut random),
            to_frontend: direction(&mut random),
            pairings: Pairing::both(random.next_u64()),
            random,
            rate,
            batch,
            pace,
            home,
            scratch,
            frontend: None,
            signer: None,
            clock: Duration::ZERO,
            adversary: None,
            oracle,
            signer_backup: None,
            frontend_backup: None,
            stale_disk: None,
            kind,
            published: BTreeMap::new(),
            plug: Plug::default(),
            trace: Trace::default(),
        };
        world.start_frontend()?;
        world.start_signer()?;
        Ok(world)
    }

    /// What was done so far.
    pub(crate) fn report(&self) -> Report {
        let lasted = Duration::from_micros(self.now.as_micros());
        Report { counts: self.oracle.counts, lasted, trace: self.trace }
    }

    //--- Operations

    /// Lets one operation happen, and looks at what follows at once.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Held {
        match operation.clone() {
            Operation::Pass(duration) => self.pass(duration)?,
            Operation::Issue { count, number } => self.ask_for_certificates(count, number)?,
            Operation::AskBadly { how, number } => self.ask_badly(how, number)?,
            Operation::Revoke { nth, number } => self.ask_to_revoke(nth, number)?,
            Operation::Certify { number } => self.ask_to_certify(number)?,
            Operation::TakeBack { number } => self.ask_to_take_back(number)?,
            Operation::Repeat { nth } => self.send_past_the_queue(nth, false),
            Operation::Conflict { nth } => self.send_past_the_queue(nth, true),
            Operation::CutTowards(side) => {
                let now = self.now;
                self.direction_mut(side).wire.cut(now);
            }
            Operation::Cut => {
                self.to_signer.wire.cut(self.now);
                self.to_frontend.wire.cut(self.now);
            }
            Operation::Restore => self.restore_cable(),
            Operation::Damage(number) => {
                let mut random = Random::new(number);
                let faults = operations::mixture(&mut random);
                self.set_faults(&faults, &mut random);
            }
            Operation::Mend => self.set_faults(&Faults::none(), &mut Random::new(0)),
            Operation::RebootFrontend { off, power_cut, stale } => {
                self.stop_frontend(power_cut)?;
                self.pass(off)?;
                self.play_stale(Side::Frontend, stale);
                self.start_frontend()?;
            }
            Operation::RebootSigner { off, power_cut, stale } => {
                self.stop_signer(power_cut)?;
                self.pass(off)?;
                self.play_stale(Side::Signer, stale);
                self.start_signer()?;
            }
            Operation::RestartGate => {
                let session = self.signer_session();
                self.to_signer.arriving.restarted();
                if let Some(signer) = &mut self.signer {
                    signer.restart_gate(session);
                }
            }
            Operation::Outage { off } => {
                self.stop_frontend(true)?;
                self.stop_signer(true)?;
                self.pass(off)?;
                self.start_signer()?;
                self.start_frontend()?;
            }
            Operation::Replay { from, to, start, length } => self.replay(from, to, start, length),
            Operation::Noise { to, length } => {
                let bytes: Vec<u8> = (0..length).map(|_| self.random.byte()).collect();
                let now = self.now;
                self.direction_mut(to).wire.inject(now, &bytes);
            }
            Operation::Adversary { lasts, number } => {
                let meddles = [0.05, 0.3, 0.9][(number % 3) as usize];
                self.adversary = Some((Adversary::new(number, meddles), self.now + lasts));
                self.oracle.meddled = true;
            }
            Operation::ClockBack(by) => self.clock = by,
            Operation::BackUpSigner => {
                self.stop_signer(false)?;
                let image = Image::read(&self.scratch.path("signer"))?;
                self.signer_backup = Some((image, self.oracle.signer.clone()));
                self.start_signer()?;
            }
            Operation::RestoreSigner => self.restore_signer()?,
            Operation::BackUpFrontend => {
                self.stop_frontend(false)?;
                let image = Image::read(self.home.root())?;
                self.frontend_backup = Some((image, self.oracle.frontend.clone()));
                self.start_frontend()?;
            }
            Operation::RestoreFrontend => {
                if let Some((image, memory)) = self.frontend_backup.clone() {
                    self.stop_frontend(false)?;
                    image.write(self.home.root())?;
                    self.oracle.frontend = memory;
                    self.start_frontend()?;
                }
            }
        }
        self.pass(Duration::ZERO)?;
        self.look_at_published()
    }

    fn restore_signer(&mut self) -> Held {
        let Some((image, memory)) = self.signer_backup.clone() else { return Ok(()) };
        self.stop_signer(false)?;
        // Meanwhile what was on the wire arrives.
        self.pass(RESTORING)?;
        self.look_at_published()?;
        image.write(&self.scratch.path("signer"))?;
        self.oracle.signer_restored(memory);
        // What hsm-docs/daily.md tells the operator to do.
        let next = self.oracle.published_number() + 1;
        let path = self.scratch.path("signer").join(format!("authorities/{ISSUING}/crlnumber"));
        std::fs::write(path, format!("{next:08X}\n"))?;
        self.start_signer()
    }

    fn replay(&mut self, from: Side, to: Side, start: u64, length: u16) {
        // What `from` wrote is what the other side heard.
        let tape = &self.direction(opposite(from)).tape;
        if tape.is_empty() {
            return;
        }
        let start = (start % tape.len() as u64) as usize;
        let end = tape.len().min(start + usize::from(length));
        let piece = tape[start..end].to_vec();
        let now = self.now;
        self.direction_mut(to).wire.inject(now, &piece);
    }

    fn play_stale(&mut self, to: Side, length: u16) {
        let start = self.random.next_u64();
        self.replay(opposite(to), to, start, length);
    }

    fn restore_cable(&mut self) {
        self.to_signer.wire.restore(self.now);
        self.to_frontend.wire.restore(self.now);
    }

    fn set_faults(&mut self, faults: &Faults, random: &mut Random) {
        self.to_signer.wire.change(faults.clone(), random.next_u64());
        self.to_frontend.wire.change(faults.clone(), random.next_u64());
    }

    //--- Programs

    fn start_frontend(&mut self) -> Held {
        if self.frontend.is_none() {
            let session = self.session(Side::Frontend);
            self.frontend = Some(Frontend::start(&self.home, session)?);
        }
        Ok(())
    }

    fn stop_frontend(&mut self, power_cut: bool) -> Held {
        self.frontend = None;
        self.to_frontend.arriving.restarted();
        if power_cut {
            store::tear_transfers(&self.home.partial_dir(), &mut self.random)?;
        }
        Ok(())
    }

    fn start_signer(&mut self) -> Held {
        if self.signer.is_some() {
            return Ok(());
        }
        if self.oracle.sabotage.is(Sabotage::ForgetfulDisk) {
            let root = self.scratch.path("signer");
            if let Some(image) = self.stale_disk.take() {
                image.write(&root)?;
            }
            self.stale_disk = Some(Image::read(&root)?);
        }
        let session = self.signer_session();
        let random = self.random.fork();
        let store = self.scratch.path("signer");
        let disk = (&*store, self.kind.scopes());
        let started = Signer::start(disk, session, random, self.pace, self.now, self.clock)?;
        // The first CRL is older than the world, and a base of delta CRLs.
        started.note_crls(&mut self.oracle)?;
        self.signer = Some(started);
        Ok(())
    }

    fn stop_signer(&mut self, power_cut: bool) -> Held {
        let Some(mut signer) = self.signer.take() else { return Ok(()) };
        self.to_signer.arriving.restarted();
        if !power_cut {
            let settled = signer.settle(self.now, self.clock, &mut self.oracle);
            if self.plug.store_is_cut(&settled) {
                // Power went while it was stopping: it starts again, to be stopped as was asked.
                self.signer = Some(signer);
                self.lose_power(Side::Signer)?;
                return self.stop_signer(false);
            }
            settled?;
        }
        let (authority, synced) = signer.into_synced();
        if power_cut {
            synced.lose_the_rest(&authority, &mut self.random)?;
        }
        Ok(())
    }

    fn signer_session(&mut self) -> Session<Answer, Request> {
        self.session(Side::Signer)
    }

    fn session<Out, In>(&mut self, side: Side) -> Session<Out, In>
    where
        Out: protocol::message::Message,
        In: protocol::message::Message,
    {
        let mut random = self.random.fork();
        let boot_id = random.next_u64();
        let pairing = match side {
            Side::Frontend => self.pairings.0.clone(),
            Side::Signer => self.pairings.1.clone(),
        };
        let entropy = Entropy::new(move |bytes: &mut [u8]| bytes.fill_with(|| random.byte()));
        let link = EndpointConfig { side, boot_id, line_rate: self.rate };
        Session::new(SessionConfig { link, pairing, entropy }, self.now)
    }

    //--- Time

    /// Lets `duration` pass; with no duration, what is due now still happens.
    fn pass(&mut self, duration: Duration) -> Held {
        let end = self.now + duration;
        if self.frontend.is_none() && self.signer.is_none() {
            // Nobody is there to whom anything could happen.
            self.now = end;
            self.to_signer.wire.poll(end);
            self.to_frontend.wire.poll(end);
            return Ok(());
        }
        loop {
            self.step(end)?;
            if self.now >= end && self.wake().is_none_or(|wake| wake > end) {
                return Ok(());
            }
        }
    }

    fn wake(&self) -> Option<Instant> {
        self.wakes().into_iter().filter_map(|(_, at)| at).min()
    }

    /// Who has something to do, and when.
    fn wakes(&self) -> [(&'static str, Option<Instant>); 5] {
        let adversary = self.adversary.as_ref();
        [
            ("the frontend", self.frontend.as_ref().and_then(|frontend| frontend.wake(self.now))),
            ("the signer", self.signer.as_ref().map(Signer::wake)),
            ("the wire to the signer", self.to_signer.wire.poll_batch_timeout(self.batch)),
            ("the wire to the frontend", self.to_frontend.wire.poll_batch_timeout(self.batch)),
            ("the adversary", adversary.and_then(|(adversary, _)| adversary.poll_timeout())),
        ]
    }

    /// Goes to the next moment at which anything happens, but not past `limit`.
    fn step(&mut self, limit: Instant) -> Held {
        // While a machine was off, more time may have passed.
        let limit = limit.max(self.now);
        let next = self.wake().unwrap_or(limit).clamp(self.now, limit);
        self.steps_now = if next == self.now { self.steps_now + 1 } else { 0 };
        if self.steps_now >= STEPS_NOW_MAX {
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= self.now);
            let who = self.wakes().into_iter().filter_map(|(who, at)| due(at).then_some(who));
            let who: Vec<_> = who.collect();
            return Err(Violation::new(format!("I18: {who:?} asks for a turn without end")));
        }
        self.now = next;
        self.carry(Side::Signer);
        self.carry(Side::Frontend);
        self.let_the_adversary_go();
        let now = self.now;
        if self.signer.is_some() && self.plug.moment() {
            return self.lose_power(Side::Signer);
        }
        if let Some(signer) = &mut self.signer {
            let mut departed = Vec::new();
            let arriving = &mut self.to_signer.arriving;
            let turned = signer.turn(now, self.clock, &mut self.oracle, arriving, &mut departed);
            if self.plug.store_is_cut(&turned) || turned.is_ok() && self.plug.moment() {
                return self.lose_power(Side::Signer);
            }
            turned?;
            departed.iter().for_each(|answer| self.to_frontend.arriving.sent(answer));
            let direction = &mut self.to_frontend;
            while let Some(bytes) = signer.session().poll_transmit(now) {
                self.trace.add(&bytes);
                direction.push(now, &bytes);
            }
        }
        if self.frontend.is_some() && self.plug.moment() {
            return self.lose_power(Side::Frontend);
        }
        if let Some(frontend) = &mut self.frontend {
            let mut departed = Vec::new();
            let arriving = &mut self.to_frontend.arriving;
            frontend.turn(now, &mut self.oracle, arriving, &mut departed)?;
            if self.plug.moment() {
                return self.lose_power(Side::Frontend);
            }
            departed.iter().for_each(|request| self.to_signer.arriving.sent(request));
            let direction = &mut self.to_signer;
            while let Some(bytes) = frontend.session.poll_transmit(now) {
                self.trace.add(&bytes);
                direction.push(now, &bytes);
            }
        }
        let flying = self.to_signer.wire.flying().max(self.to_frontend.wire.flying());
        let bounded = self.rate.is_none() || flying < FLYING_MAX;
        self.oracle.check(bounded, "I18: more bytes are under way than the line's pace allows")
    }

    /// What has come over the wire to this end.
    fn carry(&mut self, to: Side) {
        let now = self.now;
        let Some(bytes) = self.direction_mut(to).wire.poll(now) else { return };
        let delivered = match &mut self.adversary {
            Some((adversary, _)) => adversary.handle_bytes(now, to, &bytes),
            None => vec![(to, bytes)],
        };
        for (side, bytes) in delivered {
            self.deliver(side, &bytes);
        }
    }

    fn let_the_adversary_go(&mut self) {
        let now = self.now;
        while let Some((side, bytes)) =
            self.adversary.as_mut().and_then(|(adversary, _)| adversary.poll(now))
        {
            self.deliver(side, &bytes);
        }
        if self.adversary.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.adversary = None;
        }
    }

    fn deliver(&mut self, to: Side, bytes: &[u8]) {
        let now = self.now;
        match to {
            Side::Frontend => {
                if let Some(frontend) = &mut self.frontend {
                    frontend.session.handle_bytes(now, bytes);
                }
            }
            Side::Signer => {
                if let Some(signer) = &mut self.signer {
                    signer.session().handle_bytes(now, bytes);
                }
            }
        }
    }

    fn direction(&self, to: Side) -> &Direction {
        match to {
            Side::Frontend => &self.to_frontend,
            Side::Signer => &self.to_signer,
        }
    }

    fn direction_mut(&mut self, to: Side) -> &mut Direction {
        match to {
            Side::Frontend => &mut self.to_frontend,
            Side::Signer => &mut self.to_signer,
        }
    }
}

/// How long a person takes at least to restore a backup.
const RESTORING: Duration = Duration::from_secs(60);

/// So many worlds have an authority with delta CRLs and shards.
const SHARDED: f64 = 0.25;
/// So that this choice is a stream of its own.
const KIND: u64 = 0x6b69_6e64;

impl Direction {
    fn push(&mut self, now: Instant, bytes: &[u8]) {
        self.wire.push(now, bytes);
        self.tape.extend_from_slice(bytes);
        if self.tape.len() > 2 * TAPE_MAX {
            self.tape.drain(..TAPE_MAX);
        }
    }
}

const fn opposite(side: Side) -> Side {
    match side {
        Side::Frontend => Side::Signer,
        Side::Signer => Side::Frontend,
    }
}

fn id(number: u64) -> RequestId {
    let mut random = Random::new(number);
    let mut octets = [0; 16];
    octets.fill_with(|| random.byte());
    // Two ids that differ in this bit only are made by nobody but a sabotage.
    octets[0] &= 0x7f;
    RequestId::from_bytes(octets)
}
