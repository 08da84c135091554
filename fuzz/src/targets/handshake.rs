//! A paired session and a peer that it is not paired with: any bytes, any segments, or a correct
//! program with other keys. It never counts as up, takes no message and gives none.

use protocol::{
    link::{Endpoint, EndpointConfig, Side},
    message::{Answer, Message, Request},
    secure::Pairing,
    session::{Event, Session},
    time::{Duration, Instant},
};
use std::{collections::VecDeque, fmt::Debug, sync::OnceLock};

use super::session::{Numbered, config, pairings};
use crate::input::Input;

const OPERATIONS_MAX: usize = 100;
/// Pieces of talk at one moment.
const EXCHANGES_MAX: usize = 64;

/// The first byte says who is asked and by whom.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (frontend, signer) = pairings();
    let choice = input.byte();
    let rate = [None, Some(11_520)][usize::from(choice >> 3 & 1)];
    match choice & 1 {
        0 => {
            let config = config(Side::Frontend, 0x100, rate, frontend.clone());
            besiege(Session::<Request, Answer>::new(config, Instant::ZERO), choice, rate, input);
        }
        _ => {
            let config = config(Side::Signer, 0x201, rate, signer.clone());
            besiege(Session::<Answer, Request>::new(config, Instant::ZERO), choice, rate, input);
        }
    }
}

/// Keys that nobody here is paired with.
fn strangers() -> &'static (Pairing, Pairing) {
    static STRANGERS: OnceLock<(Pairing, Pairing)> = OnceLock::new();
    STRANGERS.get_or_init(|| Pairing::both(2))
}

fn besiege<Out: Numbered, In: Message + Debug>(
    session: Session<Out, In>,
    choice: u8,
    rate: Option<u32>,
    input: Input<'_>,
) {
    let now = Instant::ZERO;
    let own = if choice & 1 == 0 { Side::Frontend } else { Side::Signer };
    let other = if choice & 1 == 0 { Side::Signer } else { Side::Frontend };
    let mut besieged = Besieged { session, now };
    match choice >> 1 & 3 {
        // Bytes as they are.
        0 => besieged.with(Raw, input),
        // Segments within a connection of the link.
        1 | 2 => {
            let endpoint =
                Endpoint::new(EndpointConfig { side: other, boot_id: 7, line_rate: rate }, now);
            besieged.with(Segments { endpoint, says: VecDeque::new() }, input);
        }
        // A correct program with other keys, one of which may be known to it.
        _ => {
            let (frontend, signer) = strangers();
            let (theirs, ours) = match own {
                Side::Frontend => (signer, &pairings().0),
                Side::Signer => (frontend, &pairings().1),
            };
            let mut pairing = theirs.clone();
            if choice & 0x10 != 0 {
                // It knows whom it talks to, and lacks only the right key of its own.
                pairing.peer = ours.secret.public();
            }
            let config = config(other, 0x302, rate, pairing);
            match own {
                Side::Frontend => {
                    let stranger = Session::<Answer, Request>::new(config, now);
                    besieged.with(Stranger { session: stranger }, input);
                }
                Side::Signer => {
                    let stranger = Session::<Request, Answer>::new(config, now);
                    besieged.with(Stranger { session: stranger }, input);
                }
            }
        }
    }
}

/// Who talks to the paired session.
trait Besieger {
    /// Takes what the session said; what is said to it.
    fn turn(&mut self, now: Instant, heard: &[u8]) -> Vec<u8>;
    /// Uses what the input says next.
    fn advance(&mut self, input: &mut Input<'_>) -> Vec<u8>;
    /// When it wants to be called.
    fn wakeup(&self) -> Option<Instant>;
}

struct Besieged<Out, In> {
    session: Session<Out, In>,
    now: Instant,
}

impl<Out: Numbered, In: Message + Debug> Besieged<Out, In> {
    fn with(&mut self, mut besieger: impl Besieger, mut input: Input<'_>) {
        self.exchange(&mut besieger);
        for _ in 0..OPERATIONS_MAX {
            if input.is_empty() {
                break;
            }
            match input.byte() % 8 {
                0 => {
                    let wakeups = [self.session.poll_timeout(), besieger.wakeup()];
                    let next = wakeups.into_iter().flatten().min().unwrap_or(self.now);
                    self.now = next.max(self.now);
                }
                1 => self.now += Duration::from_millis(u64::from(input.word())),
                _ => {
                    let bytes = besieger.advance(&mut input);
                    self.session.handle_bytes(self.now, &bytes);
                }
            }
            self.session.handle_timeout(self.now);
            self.exchange(&mut besieger);
        }
    }

    fn exchange(&mut self, besieger: &mut impl Besieger) {
        for _ in 0..EXCHANGES_MAX {
            let mut said = Vec::new();
            while let Some(bytes) = self.session.poll_transmit(self.now) {
                said.extend(bytes);
            }
            let answer = besieger.turn(self.now, &said);
            self.session.handle_bytes(self.now, &answer);
            self.stay_closed();
            if said.is_empty() && answer.is_empty() {
                return;
            }
        }
    }

    fn stay_closed(&mut self) {
        while let Some(event) = self.session.poll_event() {
            let opened = matches!(event, Event::Up | Event::Message(_) | Event::Undecodable { .. });
            assert!(!opened, "{event:?} from a stranger");
        }
        assert!(!self.session.is_up(), "it is up with a stranger");
        let message = Out::make(0, 0, 1);
        assert!(self.session.send(self.now, &message).is_err(), "it talks to a stranger");
        assert_eq!(self.session.counters().messages_received, 0);
    }
}

struct Raw;

impl Besieger for Raw {
    fn turn(&mut self, _now: Instant, _heard: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let length = 1 + input.below(256);
        input.take(length).to_vec()
    }

    fn wakeup(&self) -> Option<Instant> {
        None
    }
}

struct Segments {
    endpoint: Endpoint,
    says: VecDeque<Vec<u8>>,
}

impl Besieger for Segments {
    fn turn(&mut self, now: Instant, heard: &[u8]) -> Vec<u8> {
        self.endpoint.handle_bytes(now, heard);
        self.endpoint.handle_timeout(now);
        while self.endpoint.poll_event().is_some() {}
        while let Some(segment) = self.endpoint.poll_segment() {
            // What was said may be said back, altered by the input or not.
            if self.says.len() < 4 {
                self.says.push_back(segment);
            }
        }
        let mut out = Vec::new();
        while let Some(bytes) = self.endpoint.poll_transmit(now, |length_max| {
            let mut segment = self.says.pop_front()?;
            segment.truncate(length_max);
            Some(segment)
        }) {
            out.extend(bytes);
        }
        out
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (choice, length) = (input.byte(), 1 + input.below(300));
        let bytes = input.take(length);
        if choice % 2 == 0
            && let Some(segment) = self.says.back_mut()
        {
            let at = usize::from(choice) % segment.len();
            segment[at..].iter_mut().zip(bytes).for_each(|(old, new)| *old ^= new);
        } else if !bytes.is_empty() && self.says.len() < 64 {
            self.says.push_back(bytes.to_vec());
        }
        Vec::new()
    }

    fn wakeup(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(!self.says.is_empty())
    }
}

struct Stranger<Out, In> {
    session: Session<Out, In>,
}

impl<Out: Message, In: Message + Debug> Besieger for Stranger<Out, In> {
    fn turn(&mut self, now: Instant, heard: &[u8]) -> Vec<u8> {
        self.session.handle_bytes(now, heard);
        self.session.handle_timeout(now);
        while let Some(event) = self.session.poll_event() {
            let opened = matches!(event, Event::Up | Event::Message(_));
            assert!(!opened, "{event:?} at the stranger");
        }
        let mut out = Vec::new();
        while let Some(bytes) = self.session.poll_transmit(now) {
            out.extend(bytes);
        }
        out
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let length = input.below(64);
        input.take(length).to_vec()
    }

    fn wakeup(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }
}
