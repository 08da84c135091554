//! Two sessions joined by two wires on virtual time: no threads, no sleeps, no clock.
//!
//! A pair moves from one event to the next, checks after each that nothing happened which no
//! cable may bring about ([`crate::checker`]), and ends a run that breaks a rule with one line
//! that replays it. It sends nothing of its own accord.

use std::{collections::VecDeque, fmt::Debug};

use protocol::{
    link::EndpointConfig,
    message::{Answer, Message, Request},
    secure::{Entropy, Failure, Pairing},
    session::{Counters, Event, SendError, Session, SessionConfig, Side},
    time::{Duration, Instant},
};

use crate::{
    adversary::Adversary,
    checker::{Checker, Counts, Violation},
    faults::Faults,
    random::Random,
    wire::{Wire, WireConfig, WireCounters},
};

/// What a pair is like.
#[derive(Clone, Debug, Default)]
pub struct PairConfig {
    /// The number that the whole run follows from.
    pub seed: u64,
    /// A tenth of the baud rate; `None` is a line without a limit.
    pub bytes_per_second: Option<u32>,
    /// What adapters and drivers add, each way.
    pub latency: Duration,
    /// How long drivers collect bytes before they hand them over; zero is byte by byte.
    pub batch: Duration,
    /// What goes wrong, in each direction by itself.
    pub faults: Faults,
    /// The test to run again when this one fails, as `--test stories`; or a whole command that
    /// begins with `link-sim` and takes `--seed`.
    pub test: &'static str,
}

/// Two sessions and the cable between them.
pub struct Pair {
    config: PairConfig,
    now: Instant,
    /// Steps at the present instant.
    steps_now: u32,
    random: Random,
    frontend: End<Request, Answer>,
    signer: End<Answer, Request>,
    to_signer: Wire,
    to_frontend: Wire,
    adversary: Option<Adversary>,
}

/// What an end says of its peer that is no connection and no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It speaks no common version.
    Incompatible,
    /// Another program has the place.
    Occupied,
    /// It has not proved to be the paired peer.
    Refused,
}

/// A state machine that asks for so many turns at one instant asks for ever.
const STEPS_NOW_MAX: u32 = 1_000;

impl Pair {
    /// Two fresh programs and a cable.
    pub fn new(config: PairConfig) -> Self {
        let mut random = Random::new(config.seed);
        let wire = WireConfig {
            bytes_per_second: config.bytes_per_second,
            latency: config.latency,
            faults: config.faults.clone(),
        };
        let rate = config.bytes_per_second;
        let mut pair = Self {
            now: Instant::ZERO,
            steps_now: 0,
            frontend: End::new(Side::Frontend, random.next_u64(), rate, Instant::ZERO),
            signer: End::new(Side::Signer, random.next_u64(), rate, Instant::ZERO),
            to_signer: Wire::new(wire.clone(), random.next_u64()),
            to_frontend: Wire::new(wire, random.next_u64()),
            adversary: None,
            random,
            config,
        };
        pair.settle();
        pair
    }

    /// What this pair is like.
    pub fn config(&self) -> &PairConfig {
        &self.config
    }

    /// The present moment.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The frontend hands a message to its session.
    pub fn request(&mut self, message: &Request) -> Result<(), SendError> {
        let result = self.frontend.send(self.now, message);
        self.settle();
        result
    }

    /// The signer hands a message to its session.
    pub fn answer(&mut self, message: &Answer) -> Result<(), SendError> {
        let result = self.signer.send(self.now, message);
        self.settle();
        result
    }

    /// The next message that arrived at the signer.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.signer.inbox.pop_front()
    }

    /// The next message that arrived at the frontend.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.frontend.inbox.pop_front()
    }

    /// Whether this end has a connection.
    pub fn is_up(&self, side: Side) -> bool {
        match side {
            Side::Frontend => self.frontend.session.is_up(),
            Side::Signer => self.signer.session.is_up(),
        }
    }

    /// What this end's session counted since its last start.
    pub fn counters(&self, side: Side) -> Counters {
        match side {
            Side::Frontend => self.frontend.session.counters(),
            Side::Signer => self.signer.session.counters(),
        }
    }

    /// What was sent to this end and what arrived there, over all its starts.
    pub fn counts(&self, to: Side) -> Counts {
        match to {
            Side::Frontend => self.frontend.arriving.counts(),
            Side::Signer => self.signer.arriving.counts(),
        }
    }

    /// What the wire to this end did.
    pub fn wire_counters(&self, to: Side) -> WireCounters {
        match to {
            Side::Frontend => self.to_frontend.counters(),
            Side::Signer => self.to_signer.counters(),
        }
    }

    /// The bytes that this end wrote so far, over all its starts.
    pub fn tape(&self, from: Side) -> &[u8] {
        match from {
            Side::Frontend => &self.frontend.tape,
            Side::Signer => &self.signer.tape,
        }
    }

    //------------ Time ------------------------------------------------------

    /// Goes to the next moment at which anything happens, but not past `limit`.
    pub fn step(&mut self, limit: Instant) {
        let wakes = [
            self.frontend.session.poll_timeout(),
            self.signer.session.poll_timeout(),
            self.to_signer.poll_batch_timeout(self.config.batch),
            self.to_frontend.poll_batch_timeout(self.config.batch),
            self.adversary.as_ref().and_then(Adversary::poll_timeout),
        ];
        let next = wakes.into_iter().flatten().min().unwrap_or(limit).clamp(self.now, limit);
        self.steps_now = if next == self.now { self.steps_now + 1 } else { 0 };
        self.check(self.steps_now < STEPS_NOW_MAX, "a state machine asks for a turn without end");
        self.now = next;
        for to in [Side::Signer, Side::Frontend] {
            let Some(bytes) = self.wire_to(to).poll(next) else { continue };
            match &mut self.adversary {
                None => self.deliver(to, &bytes),
                Some(adversary) => {
                    let out = adversary.handle_bytes(next, to, &bytes);
                    out.iter().for_each(|(side, bytes)| self.deliver(*side, bytes));
                }
            }
        }
        while let Some((to, bytes)) = self.adversary.as_mut().and_then(|one| one.poll(next)) {
            self.deliver(to, &bytes);
        }
        self.frontend.run_timers(next);
        self.signer.run_timers(next);
        self.settle();
    }

    /// Lets `duration` pass.
    pub fn drive_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step(end);
        }
    }

    /// Goes on until `done` says so; ends the run if that takes longer than `limit`.
    pub fn drive_until(
        &mut self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let end = self.now + limit;
        while !done(self) {
            self.check(self.now < end, &format!("not within {limit:?}: {what}"));
            self.step(end);
        }
    }

    /// Goes on until both ends have a connection.
    pub fn drive_until_up(&mut self, limit: Duration) {
        self.drive_until(limit, "both ends are up", |pair| {
            pair.is_up(Side::Frontend) && pair.is_up(Side::Signer)
        });
    }

    //------------ Accidents -------------------------------------------------

    /// Takes the cable out.
    pub fn cut(&mut self) {
        self.cut_towards(Side::Frontend);
        self.cut_towards(Side::Signer);
    }

    /// Breaks the wire towards this end; the other direction still works.
    pub fn cut_towards(&mut self, side: Side) {
        let now = self.now;
        self.wire_to(side).cut(now);
    }

    /// Puts the cable in again.
    pub fn restore(&mut self) {
        self.to_signer.restore(self.now);
        self.to_frontend.restore(self.now);
    }

    /// From now on the cable is good.
    pub fn heal(&mut self) {
        self.restore();
        self.to_signer.heal(self.now);
        self.to_frontend.heal(self.now);
    }

    /// Kills one program and starts it anew: another boot id, and nothing remembered.
    pub fn restart(&mut self, side: Side) {
        let (boot_id, rate, now) = (self.random.next_u64(), self.config.bytes_per_second, self.now);
        match side {
            Side::Frontend => self.frontend.restart(boot_id, rate, now),
            Side::Signer => self.signer.restart(boot_id, rate, now),
        }
        self.settle();
    }

    /// Somebody writes these bytes on the wire towards this end.
    pub fn inject(&mut self, to: Side, bytes: &[u8]) {
        let now = self.now;
        self.wire_to(to).inject(now, bytes);
    }

    /// Somebody owns the wire from now on; what two ends say of such a peer is no fault of theirs.
    /// He goes with [`Self::adversary_leaves`].
    pub fn adversary_comes(&mut self, adversary: Adversary) {
        self.adversary = Some(adversary);
        self.allow_notices();
    }

    /// Nobody meddles any more; what he kept back never arrives.
    pub fn adversary_leaves(&mut self) -> Option<Adversary> {
        self.adversary.take()
    }

    /// From now on an end may say that its peer is not the right one; the notices are kept.
    pub fn allow_notices(&mut self) {
        self.frontend.notices.get_or_insert_default();
        self.signer.notices.get_or_insert_default();
    }

    /// What this end said of its peer since notices are allowed.
    pub fn notices(&self, side: Side) -> &[Notice] {
        let notices = match side {
            Side::Frontend => &self.frontend.notices,
            Side::Signer => &self.signer.notices,
        };
        notices.as_deref().unwrap_or_default()
    }

    fn deliver(&mut self, to: Side, bytes: &[u8]) {
        let now = self.now;
        match to {
            Side::Frontend => self.frontend.session.handle_bytes(now, bytes),
            Side::Signer => self.signer.session.handle_bytes(now, bytes),
        }
    }

    fn wire_to(&mut self, side: Side) -> &mut Wire {
        match side {
            Side::Frontend => &mut self.to_frontend,
            Side::Signer => &mut self.to_signer,
        }
    }

    //------------ Judgement -------------------------------------------------

    /// Ends the run with the line that replays it, unless `holds`.
    #[track_caller]
    pub fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    /// Ends the run with the line that replays it.
    #[track_caller]
    pub fn fail(&self, what: &str) -> ! {
        let PairConfig { seed, test, .. } = self.config;
        let at = Duration::from_micros(self.now.as_micros());
        let state = [Side::Frontend, Side::Signer].map(|side| {
            let up = if self.is_up(side) { "up" } else { "down" };
            let (link, wire) = (self.counters(side).link, self.wire_counters(side));
            format!("{side:?} is {up}: {link:?}; towards it {wire:?}\n")
        });
        let replay = match test.starts_with("link-sim") {
            true => format!("{test} --seed {seed:#x}"),
            false => format!("LINK_SIM_SEED={seed:#x} cargo test -p link-sim {test}"),
        };
        panic!("{what}, at {at:?}\n{}replay: {replay}", state.concat());
    }

    /// Moves what the sessions have to say, until they have nothing more.
    fn settle(&mut self) {
        let now = self.now;
        self.frontend.transmit(now, &mut self.to_signer);
        self.signer.transmit(now, &mut self.to_frontend);
        // What arrives at one end was sent by the other, whose record is with the receiver.
        self.signer.arriving_sent(&mut self.frontend.departed);
        self.frontend.arriving_sent(&mut self.signer.departed);
        let outcomes = [self.frontend.take_events(), self.signer.take_events()];
        for outcome in outcomes {
            if let Err(what) = outcome {
                self.fail(&what);
            }
        }
    }
}

/// The two ends are always the same pair, so that a run follows from its seed.
fn config(side: Side, boot_id: u64, line_rate: Option<u32>) -> SessionConfig {
    let (frontend, signer) = Pairing::both(0);
    let pairing = if side == Side::Frontend { frontend } else { signer };
    let link = EndpointConfig { side, boot_id, line_rate };
    SessionConfig { link, pairing, entropy: Entropy::seeded(boot_id) }
}

//------------ One end -------------------------------------------------------

/// A program: its session, what it wrote, and what arrived for it.
struct End<Out: Message, In: Message> {
    side: Side,
    session: Session<Out, In>,
    inbox: VecDeque<In>,
    /// Messages that the session took, until the other end's checker knows.
    departed: Vec<Out>,
    arriving: Checker,
    tape: Vec<u8>,
    /// What it said of its peer, where that may happen at all.
    notices: Option<Vec<Notice>>,
}

impl<Out: Message + Clone, In: Message + Debug> End<Out, In> {
    fn new(side: Side, boot_id: u64, line_rate: Option<u32>, now: Instant) -> Self {
        Self {
            side,
            session: Session::new(config(side, boot_id, line_rate), now),
            inbox: VecDeque::new(),
            departed: Vec::new(),
            arriving: Checker::default(),
            tape: Vec::new(),
            notices: None,
        }
    }

    fn restart(&mut self, boot_id: u64, line_rate: Option<u32>, now: Instant) {
        self.session = Session::new(config(self.side, boot_id, line_rate), now);
        self.inbox.clear();
        self.arriving.restarted();
    }

    fn send(&mut self, now: Instant, message: &Out) -> Result<(), SendError> {
        self.session.send(now, message)?;
        self.departed.push(message.clone());
        Ok(())
    }

    fn run_timers(&mut self, now: Instant) {
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
    }

    fn transmit(&mut self, now: Instant, wire: &mut Wire) {
        while let Some(bytes) = self.session.poll_transmit(now) {
            wire.push(now, &bytes);
            self.tape.extend(bytes);
        }
    }

    fn arriving_sent(&mut self, departed: &mut Vec<In>) {
        departed.drain(..).for_each(|message| self.arriving.sent(&message));
    }

    fn take_events(&mut self) -> Result<(), String> {
        while let Some(event) = self.session.poll_event() {
            let outcome = match event {
                Event::Up => self.arriving.up(),
                Event::Down { .. } => self.arriving.down(),
                Event::Message(message) => {
                    let outcome = self.arriving.received(&message);
                    self.inbox.push_back(message);
                    outcome
                }
                Event::Undecodable { lane, error } => {
                    return Err(format!("at {:?}, lane {lane:?}: {error}", self.side));
                }
                Event::Occupied => self.notice(Notice::Occupied, "finds its place taken")?,
                // A line that lets next to nothing through.
                Event::Refused { failure: Failure::Mute { .. } } => Ok(()),
                Event::Refused { failure } => {
                    self.notice(Notice::Refused, &format!("refuses its peer: {failure}"))?
                }
                Event::Incompatible { theirs } => {
                    self.notice(Notice::Incompatible, &format!("finds {theirs:?} incompatible"))?
                }
            };
            outcome.map_err(|violation| format!("at {:?}: {violation}", self.side))?;
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice, text: &str) -> Result<Result<(), Violation>, String> {
        match &mut self.notices {
            None => Err(format!("{:?} {text}", self.side)),
            Some(notices) => {
                notices.push(notice);
                Ok(Ok(()))
            }
        }
    }
}
