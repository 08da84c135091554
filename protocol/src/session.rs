//! The session: the layers in one piece, as the two programs use them.
//!
//! A message is encoded, packed against what the other end has, cut into chunks on its lane,
//! sealed for the paired peer, and carried by the link; on the other side the same in reverse.
//! Nothing is sent and nothing is believed before the peer has proved to be the paired one: until
//! then there is no `Up`. Which references exist is known
//! without asking: within a lane both ends see the same messages in the same order, so both keep
//! the same few. What was asked and what is answered is the business of the programs.
//!
//! Contract: within one connection a message arrives at most once, and in order within its lane.
//! When a connection ends, what was not delivered is forgotten on both sides, and the programs ask
//! again after `Up`.

mod history;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, marker::PhantomData};

use self::history::{Entry, Histories};
pub use self::history::{KEPT_BYTES, KEPT_LENGTH_MAX, KEPT_MESSAGES};
pub use crate::link::{DownReason, LinkCounters, Side};
use crate::{
    codec::CodecError,
    lanes,
    link::{self, Endpoint, EndpointConfig},
    message::{Answer, Lane, MESSAGE_MAX, Message, Request},
    patch::{self, PatchError},
    secure::{Channel, ChannelConfig, Entropy, Failure, Pairing},
    time::{Duration, Instant},
};

/// What may wait to be read by the program, in bytes; beyond that, segments wait in the link, and
/// the peer waits with what it has.
const UNREAD_MAX: usize = 512 * 1024;
/// What a message costs while it waits, beside its bytes: so that many tiny ones count too.
const UNREAD_EACH: usize = 64;
/// How many earlier messages of the same kind are tried as references: requests for several
/// profiles come mixed.
const CANDIDATES_MAX: usize = 4;

/// How often it is told that nobody at the other end proves to be the paired peer.
pub const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(UNREAD_MAX > lanes::PACKED_MAX);

/// The frontend's end: sends requests, receives answers.
pub type FrontendSession = Session<Request, Answer>;
/// The signer's end: sends answers, receives requests.
pub type SignerSession = Session<Answer, Request>;

/// What distinguishes one session from another.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Which end of the cable this is, and of what kind the cable.
    pub link: EndpointConfig,
    /// Who we are, and who the peer must be.
    pub pairing: Pairing,
    /// Where ephemeral keys come from; clones share the source.
    pub entropy: Entropy,
}

/// What the session tells the program.
#[derive(Debug)]
pub enum Event<In> {
    /// A new connection: ask again for what was not answered.
    Up,
    /// The connection ended; the session already looks for the next one.
    Down {
        /// Why.
        reason: DownReason,
    },
    /// A message.
    Message(In),
    /// Whoever is at the other end has not proved to be the paired peer: nothing was taken from
    /// it and nothing was sent to it. It is tried again; told when the reason is another one, and
    /// once in [`REFUSAL_INTERVAL`].
    Refused {
        /// How the proof failed.
        failure: Failure,
    },
    /// The peer speaks no common version; one of the two needs an upgrade.
    Incompatible {
        /// The oldest and the newest version of the peer.
        theirs: (u8, u8),
    },
    /// Another program on our side of the cable talks with the peer; the session waits for its
    /// turn.
    Occupied,
    /// The peer sent bytes that are no message. They are dropped, and the session goes on.
    Undecodable {
        /// On which lane.
        lane: Lane,
        /// What is wrong with them.
        error: CodecError,
    },
}

/// Why a message was not taken. Nothing was sent; the caller keeps the message.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection; send again after `Up`.
    #[error("the cable is down; send again when it is up")]
    NotUp,
    /// No connection will ever carry the message.
    #[error("a message of {length} bytes is longer than the {limit} the cable takes")]
    TooLong {
        /// Its encoded length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The message has no encoding.
    #[error("the message has no encoding")]
    Unencodable(#[from] CodecError),
    /// Too much waits in this lane; send again when some of it has left.
    #[error("too much waits in lane {lane:?}")]
    LaneFull {
        /// Which lane.
        lane: Lane,
    },
}

/// What was counted since the session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What the link counted.
    pub link: LinkCounters,
    /// Messages taken from the program.
    pub messages_sent: u64,
    /// Messages given to the program.
    pub messages_received: u64,
    /// Their encoded length, before packing.
    pub message_bytes_sent: u64,
    /// Their packed length.
    pub packed_bytes_sent: u64,
    /// Patches of the peer that could not be undone.
    pub patches_failed: u64,
    /// Messages of the peer that could not be decoded.
    pub messages_undecodable: u64,
    /// Segments of the peer that no correct program sends.
    pub segments_misbehaved: u64,
    /// Connections whose handshake did not prove that the peer is the paired one.
    pub handshakes_failed: u64,
    /// Connections that ended because a record did not open, or did not end.
    pub records_tampered: u64,
    /// Connections that ended because a key reached its bounds.
    pub keys_worn_out: u64,
}

/// One end of the cable.
///
/// After any of `handle_bytes`, `handle_timeout` and `send`, drain `poll_transmit` and
/// `poll_event`, then ask `poll_timeout` when to call `handle_timeout` at the latest. Time never
/// goes backwards.
#[derive(Debug)]
pub struct Session<Out, In> {
    endpoint: Endpoint,
    config: SessionConfig,
    /// The secure end of the link's present connection.
    channel: Option<Channel>,
    /// How far the link had got on when the handshake was last looked at.
    progress: u64,
    /// Whether the program was told `Up`, and not `Down` since.
    up: bool,
    /// The last reason for `Refused` that was told, and when.
    refused: Option<(Failure, Instant)>,
    /// The last moment that was passed in.
    now: Instant,
    outgoing: lanes::Outgoing,
    incoming: lanes::Incoming,
    histories: Histories,
    unread: Unread,
    /// Whether so much was unread, since the last timer, that segments wait in the link.
    was_full: bool,
    events: VecDeque<Event<In>>,
    /// Whether packing pays: a line without a limit is faster than the packer.
    packing: bool,
    /// Whether the peer takes references in this connection.
    references: bool,
    counters: Counters,
    messages: PhantomData<fn(Out) -> In>,
}

impl<Out: Message, In: Message> Session<Out, In> {
    /// A session that looks for its peer at once.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            endpoint: Endpoint::new(config.link, now),
            channel: None,
            progress: 0,
            up: false,
            refused: None,
            now,
            outgoing: lanes::Outgoing::default(),
            incoming: lanes::Incoming::default(),
            histories: Histories::default(),
            unread: Unread::default(),
            was_full: false,
            events: VecDeque::new(),
            packing: config.link.line_rate.is_some(),
            references: false,
            counters: Counters::default(),
            messages: PhantomData,
            config,
        }
    }

    /// Takes what came from the line, in pieces of any length.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        self.endpoint.handle_bytes(now, bytes);
        self.advance();
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.endpoint.handle_timeout(now);
        self.advance();
        let Some(channel) = &mut self.channel else { return };
        let is_full = self.unread.cost >= UNREAD_MAX;
        if std::mem::replace(&mut self.was_full, is_full) || is_full {
            channel.rest(now);
        }
        if let Err(reason) = channel.handle_timeout(now) {
            if !self.endpoint.is_heard() {
                // Nobody spoke, so nobody failed to prove anything: the peer talks with another.
                channel.take_refusal();
            }
            self.disconnect(reason);
        }
    }

    /// Takes a message for the peer.
    pub fn send(&mut self, _now: Instant, message: &Out) -> Result<(), SendError> {
        if !self.is_up() {
            return Err(SendError::NotUp);
        }
        let lane = message.lane();
        if !self.outgoing.has_room(lane) {
            return Err(SendError::LaneFull { lane });
        }
        let bytes = message.to_bytes()?;
        if bytes.len() > MESSAGE_MAX {
            return Err(SendError::TooLong { length: bytes.len(), limit: MESSAGE_MAX });
        }
        let packed = self.pack(message, &bytes);
        self.counters.messages_sent += 1;
        self.counters.message_bytes_sent += bytes.len() as u64;
        self.counters.packed_bytes_sent += packed.len() as u64;
        self.histories.sent(lane, Entry::new(message, bytes));
        self.outgoing.push(lane, packed);
        Ok(())
    }

    /// The next whole frames for the line, or `None` until `poll_timeout` or another call.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.now = now;
        let (channel, outgoing) = (&mut self.channel, &mut self.outgoing);
        let bytes = self.endpoint.poll_transmit(now, |length_max| {
            channel.as_mut()?.next_segment(now, length_max, outgoing)
        });
        if let Some(failure) = self.channel.as_mut().and_then(Channel::take_fault) {
            self.disconnect(DownReason::Insecure(failure));
        }
        bytes
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event<In>> {
        loop {
            self.advance();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let (lane, packed) = self.unread.pop()?;
            if let Some(event) = self.read(lane, &packed) {
                return Some(event);
            }
        }
    }

    /// When to call `handle_timeout` and drain again at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Some(channel) = &self.channel else { return self.endpoint.poll_timeout(false) };
        let link = self.endpoint.poll_timeout(channel.wants_to_send(&self.outgoing));
        link.into_iter().chain(channel.poll_timeout()).min()
    }

    /// Whether there is a connection with the paired peer.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The smoothed round trip of the present connection, without the line's own time for a
    /// segment.
    pub fn round_trip(&self) -> Option<Duration> {
        self.endpoint.round_trip()
    }

    /// What was counted since the session was made.
    pub fn counters(&self) -> Counters {
        Counters { link: self.endpoint.counters(), ..self.counters }
    }

    /// Packs against the request that the peer sent under the same id and the last messages of
    /// the same kind: whichever is shortest.
    fn pack(&self, message: &Out, bytes: &[u8]) -> Vec<u8> {
        if !self.packing {
            return patch::store(bytes);
        }
        if !self.references {
            return patch::pack(bytes, &[]);
        }
        let request = message.request_id().and_then(|id| self.histories.received_under(id));
        let alike = self.histories.sent_alike(message.lane(), message.kind(), bytes.len());
        let mut choices: Vec<Vec<&[u8]>> = vec![request.into_iter().collect()];
        for candidate in alike.into_iter().take(CANDIDATES_MAX) {
            choices.push(request.into_iter().chain([candidate]).collect());
        }
        patch::pack_shortest(bytes, &choices)
    }

    /// Takes the link's news and as many of its segments as may wait here.
    fn advance(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                link::Event::Up { plain } => {
                    self.forget_connection();
                    self.references = !plain;
                    if let Err(failure) = self.open_channel() {
                        self.refuse(failure);
                        return self.disconnect(DownReason::Insecure(failure));
                    }
                }
                link::Event::Down { reason } => self.end(reason),
                link::Event::Incompatible { theirs } => {
                    self.events.push_back(Event::Incompatible { theirs });
                }
                link::Event::Occupied => self.events.push_back(Event::Occupied),
            }
        }
        while self.unread.cost < UNREAD_MAX
            && let Some(channel) = &mut self.channel
            && let Some(segment) = self.endpoint.poll_segment()
        {
            let (unread, incoming) = (&mut self.unread, &mut self.incoming);
            let taken = channel.handle_segment(self.now, &segment, |chunks| {
                unread.extend(incoming, chunks).map_err(|error| error.rule())
            });
            let (is_open, refusal) = (channel.is_open(), channel.take_refusal());
            if let Some(keys) = channel.take_frame_keys() {
                self.endpoint.secure(keys, is_open);
            }
            if is_open && !self.up {
                (self.up, self.refused) = (true, None);
                self.events.push_back(Event::Up);
            }
            if let Some(failure) = refusal {
                self.refuse(failure);
            }
            if let Err(reason) = taken {
                return self.disconnect(reason);
            }
        }
        self.was_full |= self.unread.cost >= UNREAD_MAX;
        let progress = self.endpoint.progress();
        if std::mem::replace(&mut self.progress, progress) != progress
            && let Some(channel) = &mut self.channel
        {
            channel.postpone(self.now);
        }
    }

    fn open_channel(&mut self) -> Result<(), Failure> {
        let Some(binding) = self.endpoint.binding() else { return Ok(()) };
        let SessionConfig { link, pairing, entropy } = &self.config;
        let (side, line_rate) = (link.side, link.line_rate);
        let config = ChannelConfig { side, line_rate, pairing, entropy, binding: &binding };
        self.channel = Some(Channel::new(config, self.now)?);
        Ok(())
    }

    /// Counts a peer that proved nothing, and tells of it now and then.
    fn refuse(&mut self, failure: Failure) {
        self.counters.handshakes_failed += 1;
        let told = self
            .refused
            .is_some_and(|(told, at)| told == failure && self.now < at + REFUSAL_INTERVAL);
        if !told {
            self.refused = Some((failure, self.now));
            self.events.push_back(Event::Refused { failure });
        }
    }

    /// Ends the link's connection, and takes the news of it.
    fn disconnect(&mut self, reason: DownReason) {
        if let Some(failure) = self.channel.as_mut().and_then(Channel::take_refusal) {
            self.refuse(failure);
        }
        if self.up {
            match reason {
                DownReason::Insecure(Failure::Tampered | Failure::Unfinished { .. }) => {
                    self.counters.records_tampered += 1;
                }
                DownReason::Insecure(Failure::WornOut) => self.counters.keys_worn_out += 1,
                DownReason::PeerMisbehaved { .. } => self.counters.segments_misbehaved += 1,
                _ => {}
            }
        }
        self.endpoint.disconnect(reason);
        self.advance();
    }

    /// The link's connection has ended. The program is told if it knew of it.
    fn end(&mut self, reason: DownReason) {
        self.forget_connection();
        if std::mem::take(&mut self.up) {
            self.events.push_back(Event::Down { reason });
        }
    }

    fn forget_connection(&mut self) {
        self.channel = None;
        self.outgoing = lanes::Outgoing::default();
        self.incoming = lanes::Incoming::default();
        self.histories = Histories::default();
        self.unread = Unread::default();
    }

    /// Unpacks and decodes one message.
    fn read(&mut self, lane: Lane, packed: &[u8]) -> Option<Event<In>> {
        let resolve = |name| self.histories.resolve(lane, name);
        let bytes = match patch::unpack(packed, resolve, MESSAGE_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.give_up(error);
                return None;
            }
        };
        let message = In::from_bytes(&bytes);
        let entry = match &message {
            Ok(message) => Entry::new(message, bytes),
            // Kept all the same: the peer keeps what it sent, and may refer to it.
            Err(_) => Entry::undecodable(bytes),
        };
        self.histories.received(lane, entry);
        Some(match message {
            Ok(message) => {
                self.counters.messages_received += 1;
                Event::Message(message)
            }
            Err(error) => {
                self.counters.messages_undecodable += 1;
                Event::Undecodable { lane, error }
            }
        })
    }

    /// The message is lost with its references, so the connection is: the next one is plain.
    fn give_up(&mut self, error: PatchError) {
        self.counters.patches_failed += 1;
        self.disconnect(DownReason::PatchFailed(error));
    }
}

/// Complete packed messages of the present connection, not unpacked yet: so what waits here is
/// bounded by bytes that came, however much they unpack to.
#[derive(Debug, Default)]
struct Unread {
    messages: VecDeque<(Lane, Vec<u8>)>,
    cost: usize,
}

impl Unread {
    /// Takes the messages that `segment` completes.
    fn extend(
        &mut self,
        incoming: &mut lanes::Incoming,
        segment: &[u8],
    ) -> Result<(), lanes::ChunkError> {
        let before = self.messages.len();
        let result = incoming.take(segment, &mut self.messages);
        self.cost += self.messages.range(before..).map(Self::cost).sum::<usize>();
        result
    }

    fn pop(&mut self) -> Option<(Lane, Vec<u8>)> {
        let message = self.messages.pop_front()?;
        self.cost -= Self::cost(&message);
        Some(message)
    }

    fn cost((_, packed): &(Lane, Vec<u8>)) -> usize {
        packed.len() + UNREAD_EACH
    }
}
