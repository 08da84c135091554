//! One connection's secrecy: its handshake, its records, and the change of its keys.
//!
//! | stage | event | next stage | what happens |
//! |---|---|---|---|
//! | Greeting (frontend) | begin | Greeting | message 1 goes |
//! | Greeting (signer) | message 1 opens | Confirming | message 2 goes |
//! | Greeting (frontend) | message 2 opens | Open | a confirmation goes |
//! | Confirming (signer) | a record opens | Open | |
//! | Greeting, Confirming | something that does not open, or of a wrong length | Refused | an empty record says so |
//! | Greeting, Confirming | an empty record | Refused | |
//! | Greeting, Confirming | nothing got on for a while | end | the peer is mute |
//! | Refused | timer | end | what came meanwhile was dropped |
//! | Open | a record that does not open | end | |
//! | Open | keys are old (frontend) | Open | a fresh handshake inside, then fresh keys |
//! | Open | keys are worn | end | |
//! | Open | a record began and does not end | end | |
//!
//! In Open everything that comes was sealed by the paired peer for this connection, in this
//! direction, in this order. What it means is not known here. The handshake also gives the keys of
//! the link's frames: then nobody else can add a byte to a record or take one away.

use std::fmt;

use snow::{HandshakeState, StatelessTransportState};
use zeroize::Zeroizing;

use super::{
    Failure,
    key::{Entropy, Pairing},
    noise::{self, MESSAGE_LEN, Part, TAG_LEN},
    record::{self, HEAD_LEN, Inbox, LENGTH_LEN, Outbox, Record, Stream},
};
use crate::{
    frame::{FrameKey, FrameKeys},
    lanes,
    link::{DownReason, SEGMENT_SLOW, Side},
    time::{Duration, Instant},
};

/// A handshake on which nothing got on for so long has failed: somebody changed the frames before
/// there was a key for them, or nobody is there. Noise is patient, see [`Channel::postpone`].
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(3);
/// A line that takes longer than [`HANDSHAKE_PATIENCE`] for so many bytes has as long.
pub const HANDSHAKE_BYTES: usize = 2048;
/// After a handshake that failed the connection is kept, mute, for so long: the peer gets to know,
/// and the next attempt does not follow at once.
pub const HANDSHAKE_PAUSE: Duration = Duration::from_secs(2);
/// A record that began and is not complete after so long ends the connection: what follows would
/// be swallowed and never open. No honest end and no line does that; a forged tag among 2^32 could.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// A line that takes longer than [`RECORD_PATIENCE`] for so many records has as long.
pub const RECORD_PATIENCE_RECORDS: u32 = 4;
/// After so many bytes in both directions the frontend changes the keys.
pub const KEY_BYTES: u64 = 16 << 20;
/// A key seals or opens no more than that.
pub const KEY_BYTES_MAX: u64 = 2 * KEY_BYTES;
/// After so long the frontend changes the keys.
pub const KEY_TIME: Duration = Duration::from_secs(3600);
/// No key is used for longer.
pub const KEY_TIME_MAX: Duration = Duration::from_secs(2 * 3600);

/// What the prologue of a connection's handshake begins with.
const PROLOGUE: &[u8] = b"isolated signer link session 1";
/// What the prologue of a change of keys begins with; the hash of the handshake before follows.
const PROLOGUE_RENEWAL: &[u8] = b"isolated signer link renewal 1";

/// A paced line may be so much slower than it was said to be, by noise or by itself: bytes that
/// come give the rest of their record so many times their time on the line.
pub const RECORD_SLACK: u32 = 8;
/// Or so long for each byte, if that is longer: a wire of 50 bytes a second that nobody knows to be
/// so slow still carries every record.
pub const RECORD_SLACK_BYTE: Duration = Duration::from_millis(20);

/// The first byte of a record that is the channel's own; the lanes' begin with a smaller one.
const OWN: u8 = 0x80;
/// The frontend's handshake message for fresh keys.
const RENEW: u8 = OWN;
/// The signer's answer to it; its next record is sealed with the fresh keys.
const RENEWED: u8 = OWN + 1;
/// Says no more than that its sender has the keys it is sealed with.
const CONFIRM: u8 = OWN + 2;
/// The length of a sealed confirmation.
const CONFIRM_LEN: usize = 1 + TAG_LEN;
/// What the record of a handshake message takes of a segment.
const MESSAGE_RECORD_LEN: usize = LENGTH_LEN + MESSAGE_LEN;

// Every link takes it in one piece, whatever the noise.
const _: () = assert!(HEAD_LEN + MESSAGE_RECORD_LEN <= SEGMENT_SLOW);

/// What a channel is made of.
#[derive(Debug)]
pub struct ChannelConfig<'a> {
    /// Which end this is; the frontend begins.
    pub side: Side,
    /// Bytes per second that the line carries; `None` for a line without a limit.
    pub line_rate: Option<u32>,
    /// Who we are, and who the peer must be.
    pub pairing: &'a Pairing,
    /// Where ephemeral keys come from.
    pub entropy: &'a Entropy,
    /// What only this connection has and both ends know.
    pub binding: &'a [u8],
}

/// The secure end of one connection.
pub struct Channel {
    side: Side,
    pairing: Pairing,
    entropy: Entropy,
    record_max: usize,
    line_rate: Option<u32>,
    stage: Stage,
    /// A handshake whose next message is the peer's.
    handshake: Option<Box<HandshakeState>>,
    keys: Option<Keys>,
    /// The keys before those, with which the frontend may still seal (signer only).
    fading: Option<Keys>,
    outboxes: [Outbox; Stream::COUNT],
    inboxes: [Inbox; Stream::COUNT],
    /// The keys of the link's frames, until somebody asks.
    frame_keys: Option<FrameKeys>,
    /// Why the handshake failed, until somebody asks.
    refusal: Option<Failure>,
    /// What happened while sending, until somebody asks.
    fault: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The peer has to send a handshake message.
    Greeting {
        deadline: Instant,
    },
    /// The peer has to show that it has the keys.
    Confirming {
        deadline: Instant,
    },
    Open,
    Refused {
        failure: Failure,
        until: Instant,
    },
}

impl Channel {
    /// A channel that begins its handshake, or waits for the peer's.
    pub fn new(config: ChannelConfig<'_>, now: Instant) -> Result<Self, Failure> {
        let part = part(config.side);
        let prologue = [PROLOGUE, config.binding].concat();
        let mut handshake =
            noise::begin(noise::SESSION, part, config.pairing, Some(config.entropy), &prologue)?;
        let mut outboxes = <[Outbox; Stream::COUNT]>::default();
        if part == Part::Initiator {
            let message = noise::write(&mut handshake)?;
            outboxes[Stream::Urgent as usize].push(false, &message);
        }
        let patience = handshake_patience(config.line_rate);
        Ok(Self {
            side: config.side,
            pairing: config.pairing.clone(),
            entropy: config.entropy.clone(),
            record_max: record::record_max(config.line_rate),
            line_rate: config.line_rate,
            stage: Stage::Greeting { deadline: now + patience },
            handshake: Some(handshake),
            keys: None,
            fading: None,
            outboxes,
            inboxes: Default::default(),
            frame_keys: None,
            refusal: None,
            fault: None,
        })
    }

    /// Whether the peer has proved to be the paired one.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// The keys of the link's frames, once the handshake has made them; told once. The peer has
    /// them too if the channel is open, and else it will.
    pub fn take_frame_keys(&mut self) -> Option<FrameKeys> {
        self.frame_keys.take()
    }

    /// Why the handshake failed; told once.
    pub fn take_refusal(&mut self) -> Option<Failure> {
        self.refusal.take()
    }

    /// Why the connection must end, if sending found a reason; told once.
    pub fn take_fault(&mut self) -> Option<Failure> {
        self.fault.take()
    }

    //------------ Input -----------------------------------------------------

    /// Takes a segment; gives what the paired peer sealed to `take`, record by record. An error
    /// ends the connection.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        segment: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<(), DownReason> {
        let Some((head, bytes)) = segment.split_first() else { return Ok(()) };
        let Some(stream) = Stream::of_head(*head) else {
            return self.fail(now, DownReason::PeerMisbehaved { what: "a stream is unknown" });
        };
        if let Stage::Greeting { .. } = self.stage
            && !record::is_whole(bytes)
        {
            // Whoever cuts a message or adds to it would have us wait for its end.
            return self.fail(now, DownReason::Insecure(Failure::Stranger));
        }
        self.inboxes[stream as usize].push(now, bytes);
        if stream == Stream::Urgent {
            let waited = slack(self.line_rate, bytes.len());
            self.inboxes[Stream::Bulk as usize].postpone(now, waited);
        }
        while !matches!(self.stage, Stage::Refused { .. }) {
            if let Err(failure) = self.check_claim(stream) {
                self.fail(now, DownReason::Insecure(failure))?;
                continue;
            }
            let record = match self.inboxes[stream as usize].next(now) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(()),
                Err(record::Overlong) => {
                    let what = "a record's length is out of bounds";
                    return self.fail(now, DownReason::PeerMisbehaved { what });
                }
            };
            match self.handle_record(now, stream, &record, &mut take) {
                Ok(()) => {}
                Err(reason) => self.fail(now, reason)?,
            }
        }
        // Nobody is there whose bytes could mean anything.
        self.inboxes = Default::default();
        Ok(())
    }

    /// Refuses what cannot come now, whatever its end would be. Before any proof all lengths are
    /// known, and nobody should have to wait for the end of a false one.
    fn check_claim(&self, stream: Stream) -> Result<(), Failure> {
        let (length, failure) = match self.stage {
            Stage::Greeting { .. } => (MESSAGE_LEN, Failure::Stranger),
            Stage::Confirming { .. } => (CONFIRM_LEN, Failure::Tampered),
            Stage::Open | Stage::Refused { .. } => return Ok(()),
        };
        let claim = self.inboxes[stream as usize].claim();
        let is_known = claim.is_none_or(|(_, claimed)| [0, length].contains(&claimed));
        if stream == Stream::Urgent && is_known { Ok(()) } else { Err(failure) }
    }

    fn handle_record(
        &mut self,
        now: Instant,
        stream: Stream,
        record: &Record,
        take: &mut impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<(), DownReason> {
        if self.stage != Stage::Open && record.body.is_empty() {
            return Err(DownReason::Insecure(Failure::Refused));
        }
        if let Stage::Greeting { .. } = self.stage {
            return self.greet(now, stream, record).map_err(DownReason::Insecure);
        }
        let opened = self.open(now, stream, record).map_err(DownReason::Insecure)?;
        self.stage = Stage::Open;
        match opened.first() {
            Some(kind) if *kind >= OWN && stream == Stream::Urgent => {
                self.handle_own(now, *kind, &opened[1..])
            }
            _ => take(&opened).map_err(|what| DownReason::PeerMisbehaved { what }),
        }
    }

    /// Takes the peer's first handshake message.
    fn greet(&mut self, now: Instant, stream: Stream, record: &Record) -> Result<(), Failure> {
        let fits = stream == Stream::Urgent && !record.parity && record.body.len() == MESSAGE_LEN;
        let mut handshake = self.handshake.take().filter(|_| fits).ok_or(Failure::Stranger)?;
        noise::read(&mut handshake, &record.body)?;
        match part(self.side) {
            Part::Initiator => {
                self.keys = Some(self.finish(*handshake, now)?);
                self.stage = Stage::Open;
                self.seal(now, Stream::Urgent, &[CONFIRM])
            }
            Part::Responder => {
                let message = noise::write(&mut handshake)?;
                self.outboxes[Stream::Urgent as usize].push(false, &message);
                self.keys = Some(self.finish(*handshake, now)?);
                let deadline = now + handshake_patience(self.line_rate);
                self.stage = Stage::Confirming { deadline };
                Ok(())
            }
        }
    }

    /// The keys that the connection's handshake has made, and those of the link's frames.
    fn finish(&mut self, handshake: HandshakeState, now: Instant) -> Result<Keys, Failure> {
        let keys = Keys::new(handshake, false, now)?;
        let secret = noise::shared(&self.pairing)?;
        let key_of = |sender: Side| FrameKey::derive(&secret, sender, &keys.hash);
        self.frame_keys =
            Some(FrameKeys { sending: key_of(self.side), receiving: key_of(self.side.other()) });
        Ok(keys)
    }

    /// Takes a record of the channel's own.
    fn handle_own(&mut self, now: Instant, kind: u8, message: &[u8]) -> Result<(), DownReason> {
        let misbehaved = |what| Err(DownReason::PeerMisbehaved { what });
        match (kind, part(self.side)) {
            (CONFIRM, _) if message.is_empty() => Ok(()),
            (RENEW, Part::Responder) if self.fading.is_none() => {
                self.answer_renewal(now, message).map_err(DownReason::Insecure)
            }
            (RENEW, Part::Responder) => misbehaved("keys are changed before the last change ended"),
            (RENEWED, Part::Initiator) => match self.handshake.take() {
                Some(handshake) => {
                    self.finish_renewal(now, *handshake, message).map_err(DownReason::Insecure)
                }
                None => misbehaved("keys are changed that nobody asked for"),
            },
            _ => misbehaved("a record's kind is unknown"),
        }
    }

    /// Opens a record with the keys that it names.
    fn open(
        &mut self,
        now: Instant,
        stream: Stream,
        record: &Record,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let newest = self.keys.as_mut().filter(|keys| keys.parity == record.parity);
        let is_newest = newest.is_some();
        let fading = self.fading.as_mut().filter(|keys| keys.parity == record.parity);
        let keys = newest.or(fading).ok_or(Failure::Tampered)?;
        let opened = keys.open(now, stream, &record.body)?;
        if is_newest {
            // The frontend has the newest keys, and seals no more with those before.
            self.fading = None;
        }
        Ok(opened)
    }

    /// Ends the connection, or, if nobody has proved anything yet, refuses the peer.
    fn fail(&mut self, now: Instant, reason: DownReason) -> Result<(), DownReason> {
        let failure = match (self.stage, reason) {
            (Stage::Open | Stage::Refused { .. }, _) => return Err(reason),
            (_, DownReason::Insecure(failure)) => failure,
            // Whoever breaks the protocol before any proof is nobody in particular.
            _ => Failure::Stranger,
        };
        if failure != Failure::Refused {
            // Instead of what has not gone yet; what has, went as a whole.
            self.outboxes = Default::default();
            self.outboxes[Stream::Urgent as usize].push(false, &[]);
        }
        (self.handshake, self.keys) = (None, None);
        self.refusal = Some(failure);
        self.stage = Stage::Refused { failure, until: now + HANDSHAKE_PAUSE };
        Ok(())
    }

    //------------ Keys ------------------------------------------------------

    /// The frontend asks for fresh keys when it is time.
    fn renew_if_due(&mut self, now: Instant) -> Result<(), Failure> {
        let Some(keys) = self.keys.as_ref().filter(|_| self.stage == Stage::Open) else {
            return Ok(());
        };
        if part(self.side) == Part::Responder || self.handshake.is_some() || !keys.is_old(now) {
            return Ok(());
        }
        let prologue = [PROLOGUE_RENEWAL, &keys.hash].concat();
        let (pairing, entropy) = (&self.pairing, Some(&self.entropy));
        let mut handshake =
            noise::begin(noise::SESSION, Part::Initiator, pairing, entropy, &prologue)?;
        let message = noise::write(&mut handshake)?;
        self.handshake = Some(handshake);
        self.seal(now, Stream::Urgent, &[&[RENEW], &message[..]].concat())
    }

    /// The signer answers under the keys so far, and seals everything after that with the fresh
    /// ones.
    fn answer_renewal(&mut self, now: Instant, message: &[u8]) -> Result<(), Failure> {
        let keys = self.keys.as_ref().ok_or(Failure::Unable)?;
        let (prologue, parity) = ([PROLOGUE_RENEWAL, &keys.hash].concat(), !keys.parity);
        let (pairing, entropy) = (&self.pairing, Some(&self.entropy));
        let mut handshake =
            noise::begin(noise::SESSION, Part::Responder, pairing, entropy, &prologue)?;
        noise::read(&mut handshake, message)?;
        let answer = noise::write(&mut handshake)?;
        self.seal(now, Stream::Urgent, &[&[RENEWED], &answer[..]].concat())?;
        let fresh = Keys::new(*handshake, parity, now)?;
        self.fading = self.keys.replace(fresh);
        Ok(())
    }

    /// The frontend has the answer: nothing sealed with the keys so far is to come, see
    /// [`Self::choose`].
    fn finish_renewal(
        &mut self,
        now: Instant,
        mut handshake: HandshakeState,
        message: &[u8],
    ) -> Result<(), Failure> {
        let parity = self.keys.as_ref().is_some_and(|keys| !keys.parity);
        noise::read(&mut handshake, message)?;
        self.keys = Some(Keys::new(handshake, parity, now)?);
        self.seal(now, Stream::Urgent, &[CONFIRM])
    }

    fn seal(&mut self, now: Instant, stream: Stream, content: &[u8]) -> Result<(), Failure> {
        let keys = self.keys.as_mut().ok_or(Failure::Unable)?;
        let body = keys.seal(now, stream, content)?;
        self.outboxes[stream as usize].push(keys.parity, &body);
        Ok(())
    }

    //------------ Output ----------------------------------------------------

    /// The next segment of at most `length_max` bytes; a message of the handshake stays in one
    /// piece all the same. What is urgent goes between two segments of what is not; chunks are
    /// taken from `lanes` only when the segment has room for them.
    pub fn next_segment(
        &mut self,
        now: Instant,
        length_max: usize,
        lanes: &mut lanes::Outgoing,
    ) -> Option<Vec<u8>> {
        let mut room = length_max.checked_sub(HEAD_LEN).filter(|room| *room > 0)?;
        if !self.is_open() {
            room = room.max(MESSAGE_RECORD_LEN);
        }
        let filled = self.renew_if_due(now).and_then(|()| {
            let Some(stream) = self.choose(lanes) else { return Ok(None) };
            while self.outboxes[stream as usize].len() < room && self.may_seal(stream, lanes) {
                let Some(chunks) = lanes.next_segment(self.record_max) else { break };
                self.seal(now, stream, &chunks)?;
            }
            Ok(Some(stream))
        });
        match filled {
            Ok(stream) => stream.map(|stream| self.outboxes[stream as usize].segment(stream, room)),
            Err(failure) => {
                self.fault = Some(failure);
                None
            }
        }
    }

    /// Whether `next_segment` has something.
    pub fn wants_to_send(&self, lanes: &lanes::Outgoing) -> bool {
        self.fault.is_none() && self.choose(lanes).is_some()
    }

    /// Which stream goes next. The rest of a bulky record that the keys before sealed goes before
    /// anything else: so whoever has an answer or a confirmation has all that the old keys sealed.
    fn choose(&self, lanes: &lanes::Outgoing) -> Option<Stream> {
        let [urgent, bulk] = &self.outboxes;
        let newest = self.keys.as_ref().map(|keys| keys.parity);
        let is_open = self.is_open();
        if !bulk.is_empty() && Some(bulk.parity) != newest {
            Some(Stream::Bulk)
        } else if !urgent.is_empty() || (is_open && lanes.urgent_waits()) {
            Some(Stream::Urgent)
        } else if !bulk.is_empty() || (is_open && !lanes.is_empty()) {
            Some(Stream::Bulk)
        } else {
            None
        }
    }

    /// Whether chunks from the lanes may be sealed for `stream` now.
    fn may_seal(&self, stream: Stream, lanes: &lanes::Outgoing) -> bool {
        let [urgent, bulk] = &self.outboxes;
        let newest = self.keys.as_ref().map(|keys| keys.parity);
        self.is_open()
            && match stream {
                Stream::Urgent => lanes.urgent_waits(),
                Stream::Bulk => {
                    urgent.is_empty()
                        && !lanes.urgent_waits()
                        && (bulk.is_empty() || Some(bulk.parity) == newest)
                }
            }
    }

    //------------ Time ------------------------------------------------------

    /// Runs the timers that are due. An error ends the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DownReason> {
        let insecure = |failure| Err(DownReason::Insecure(failure));
        match self.stage {
            Stage::Greeting { deadline } | Stage::Confirming { deadline } => {
                if now >= deadline {
                    let seconds = handshake_patience(self.line_rate).as_secs();
                    let failure = Failure::Mute { seconds };
                    self.refusal = Some(failure);
                    return insecure(failure);
                }
            }
            Stage::Refused { failure, until } if now >= until => return insecure(failure),
            Stage::Refused { .. } => {}
            Stage::Open => {
                if self.keys.as_ref().is_none_or(|keys| keys.is_worn(now, 0)) {
                    return insecure(Failure::WornOut);
                }
                if self.record_deadline().is_some_and(|deadline| deadline <= now) {
                    let seconds = record_patience(self.line_rate).as_secs();
                    return insecure(Failure::Unfinished { seconds });
                }
                self.renew_if_due(now).map_err(DownReason::Insecure)?;
            }
        }
        Ok(())
    }

    /// The link got on, or noise kept it from that: the patience with the handshake begins anew.
    /// What somebody left behind who is gone changes nothing any more, and is given up soon; a
    /// line that lets one frame in ten through has all the time that it takes.
    pub fn postpone(&mut self, now: Instant) {
        let later = now + handshake_patience(self.line_rate);
        if let Stage::Greeting { deadline } | Stage::Confirming { deadline } = &mut self.stage {
            *deadline = later;
        }
    }

    /// The layer above has taken nothing for a while: what is missing of a record may be waiting
    /// for that, so its time begins anew.
    pub fn rest(&mut self, now: Instant) {
        for inbox in &mut self.inboxes {
            inbox.postpone(now, Duration::from_micros(u64::MAX));
        }
    }

    /// When a record must be complete that began.
    fn record_deadline(&self) -> Option<Instant> {
        let deadline = |inbox: &Inbox| {
            // Whoever adds bytes does not buy more time than a whole record has.
            let more = slack(self.line_rate, inbox.len().min(self.record_max));
            Some(inbox.began()? + record_patience(self.line_rate) + more)
        };
        self.inboxes.iter().filter_map(deadline).min()
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Greeting { deadline } | Stage::Confirming { deadline } => Some(deadline),
            Stage::Refused { until, .. } => Some(until),
            Stage::Open => {
                let keys = self.keys.as_ref()?;
                let renews = part(self.side) == Part::Initiator && self.handshake.is_none();
                let keys = keys.since + if renews { KEY_TIME } else { KEY_TIME_MAX };
                Some(self.record_deadline().map_or(keys, |record| record.min(keys)))
            }
        }
    }
}

#[cfg(test)]
impl Channel {
    /// Which of two keys it seals with.
    pub(super) fn parity(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.parity)
    }

    /// Sends a record of the channel's own that it would not send.
    pub(super) fn seal_own(&mut self, now: Instant, kind: u8) {
        self.seal(now, Stream::Urgent, &[&[kind][..], &[1; MESSAGE_LEN]].concat()).unwrap();
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("stage", &self.stage).finish_non_exhaustive()
    }
}

fn part(side: Side) -> Part {
    match side {
        Side::Frontend => Part::Initiator,
        Side::Signer => Part::Responder,
    }
}

fn handshake_patience(line_rate: Option<u32>) -> Duration {
    HANDSHAKE_PATIENCE.max(line_time(line_rate, HANDSHAKE_BYTES))
}

fn record_patience(line_rate: Option<u32>) -> Duration {
    let record = record::record_max(line_rate) + record::RECORD_OVERHEAD;
    RECORD_PATIENCE.max(line_time(line_rate, record) * RECORD_PATIENCE_RECORDS)
}

/// What so many bytes that came give to what is missing, see [`RECORD_SLACK`].
fn slack(line_rate: Option<u32>, bytes: usize) -> Duration {
    let slow = line_rate.map_or(Duration::ZERO, |_| RECORD_SLACK_BYTE * bytes as u32);
    slow.max(line_time(line_rate, bytes) * RECORD_SLACK)
}

/// How long the line takes for so many bytes.
fn line_time(line_rate: Option<u32>, bytes: usize) -> Duration {
    line_rate.map_or(Duration::ZERO, |rate| {
        Duration::from_micros(bytes as u64 * 1_000_000 / u64::from(rate.max(1)))
    })
}

//------------ Keys ----------------------------------------------------------

/// The keys of both directions that one handshake made, and what they were used for.
struct Keys {
    transport: StatelessTransportState,
    /// The hash of the handshake.
    hash: [u8; 32],
    /// Tells them from the keys before and after.
    parity: bool,
    since: Instant,
    sealed: Use,
    opened: Use,
}

/// What one direction's key was used for.
#[derive(Default)]
struct Use {
    records: [u64; Stream::COUNT],
    bytes: u64,
}

impl Use {
    /// The next record's nonce: no two records of a key share one.
    fn nonce(&self, stream: Stream) -> u64 {
        self.records[stream as usize] * Stream::COUNT as u64 + stream as u64
    }

    fn count(&mut self, stream: Stream, bytes: usize) {
        self.records[stream as usize] += 1;
        self.bytes += bytes as u64;
    }
}

impl Keys {
    fn new(handshake: HandshakeState, parity: bool, now: Instant) -> Result<Self, Failure> {
        let hash = handshake.get_handshake_hash().try_into().map_err(|_| Failure::Unable)?;
        let transport = handshake.into_stateless_transport_mode().map_err(|_| Failure::Stranger)?;
        let (sealed, opened) = Default::default();
        Ok(Self { transport, hash, parity, since: now, sealed, opened })
    }

    fn is_old(&self, now: Instant) -> bool {
        self.sealed.bytes + self.opened.bytes >= KEY_BYTES || now >= self.since + KEY_TIME
    }

    /// Whether `more` bytes are past the bounds.
    fn is_worn(&self, now: Instant, more: usize) -> bool {
        self.sealed.bytes.max(self.opened.bytes) + more as u64 > KEY_BYTES_MAX
            || now >= self.since + KEY_TIME_MAX
    }

    fn seal(&mut self, now: Instant, stream: Stream, content: &[u8]) -> Result<Vec<u8>, Failure> {
        if self.is_worn(now, content.len()) {
            return Err(Failure::WornOut);
        }
        let mut body = vec![0; content.len() + TAG_LEN];
        let nonce = self.sealed.nonce(stream);
        let length = self.transport.write_message(nonce, content, &mut body);
        let length = length.map_err(|_| Failure::Unable)?;
        debug_assert_eq!(length, body.len());
        self.sealed.count(stream, content.len());
        Ok(body)
    }

    fn open(
        &mut self,
        now: Instant,
        stream: Stream,
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if self.is_worn(now, body.len().saturating_sub(TAG_LEN)) {
            return Err(Failure::WornOut);
        }
        let mut content = Zeroizing::new(vec![0; body.len()]);
        let nonce = self.opened.nonce(stream);
        let length = self.transport.read_message(nonce, body, &mut content);
        let length = length.map_err(|_| Failure::Tampered)?;
        content.truncate(length);
        self.opened.count(stream, length);
        Ok(content)
    }
}
