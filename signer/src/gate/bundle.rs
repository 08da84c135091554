//! The gate of a signer without a cable: untrusted bytes come as a file, answers go into another.
//!
//! A process of its own, as on the cable: it holds the link's key and no other, opens no store,
//! and has every request vetted by the intake and decided by the vault, in the order that
//! [`Gate`] knows. Not one request is looked at before the whole bundle was found to be the paired
//! frontend's and the vault has taken its number. Memory is bounded by a record, a message and
//! the requests in work, whatever the size of the bundle.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::BufReader,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use nix::poll::PollFd;
use protocol::{
    bounded::Text,
    bundle::{BadBundle, BundleError, Head, Reader, Writer},
    message::{Answer, Catalogue, CrlPiece, CrlScope, FetchCrl, Message as _, Name, Request},
    secure::{Entropy, Pairing, PublicKey, SecretKey},
    session::Side,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{
    Action, Gate,
    pump::{self, Clock},
};
use crate::{
    call::{Call, Reply, Tagged},
    framing::{Framed, FramingError},
    intake::{Intake, worker::Job},
    vault::BundleFacts,
};

/// From this process to the vault's.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// The bundle is whole and the paired frontend's.
    Opened {
        /// What it says of itself.
        facts: BundleFacts,
        /// How many messages are in it.
        messages: u64,
    },
    /// A call, as on the cable.
    Call(Tagged<Call>),
    /// Every answer is in the file, and the file is on the medium.
    Done(Outcome),
    /// The bundle is refused; nothing in it was looked at.
    Refused(Text<TEXT_MAX>),
    /// It cannot go on.
    Failed(Text<TEXT_MAX>),
}

/// From the vault's process to this one.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// The link's keys.
    Keys {
        /// The secret one.
        secret: SecretText,
        /// The paired frontend's key.
        peer: [u8; 32],
    },
    /// The bundle is taken and answered under this number.
    Taken {
        /// The number.
        answer: u64,
    },
    /// A reply, as on the cable.
    Reply(Tagged<Reply>),
}

/// Our secret key of the link, as it stands in its file: wiped when dropped, and never shown.
#[derive(Serialize, Deserialize)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text of the file over.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText")
    }
}

/// What was done, beyond what the vault knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The length of the file with the answers.
    pub length: u64,
    /// Requests with an id that got no answer.
    pub unanswered: u64,
    /// CRLs in the file.
    pub crls: u64,
    /// CRLs that did not fit.
    pub left_out: u64,
    /// Messages that this program does not know.
    pub unknown: u64,
}

const TEXT_MAX: usize = 1024;
/// Requests in work at once: as many as a frontend on the cable has under way.
const WINDOW: usize = 128;
/// CRLs asked for in one bundle: every shard of many authorities.
const WISHES_MAX: usize = 4096;

/// Why it ends early.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    Refused(#[from] BadBundle),
    #[error("the answers: {0}")]
    Medium(#[from] BundleError),
    #[error("{0:#}")]
    Process(#[from] anyhow::Error),
    /// The vault has said no, or is gone: nobody is left to be told.
    #[error("the vault is gone")]
    Alone,
}

/// The process: standard input is the socket to the vault, standard output the file for the
/// answers, empty.
pub fn run(input: &Path, entropy: &Entropy) -> anyhow::Result<ExitCode> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    let mut vault = Framed::new(UnixStream::from(socket)).context("the socket to the vault")?;
    let said = match serve(input, File::from(output), &mut vault, entropy) {
        Ok(outcome) => Said::Done(outcome),
        Err(Stop::Alone) => return Ok(ExitCode::FAILURE),
        Err(Stop::Refused(BadBundle::Io(error))) => {
            failed(&format!("{}: {}", input.display(), BadBundle::Io(error)))
        }
        Err(Stop::Refused(bad)) => {
            Said::Refused(Text::truncated(&format!("{}: {bad}", input.display())))
        }
        Err(stop) => failed(&stop.to_string()),
    };
    vault.send(&said)?;
    while vault.wants_write() {
        wait(&mut [PollFd::new(vault.fd(), vault.interest())], None)?;
        vault.turn()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(text: &str) -> Said {
    Said::Failed(Text::truncated(text))
}

fn serve(
    input: &Path,
    output: File,
    vault: &mut Framed,
    entropy: &Entropy,
) -> Result<Outcome, Stop> {
    let Told::Keys { secret, peer } = hear(vault)? else { return Err(Stop::Alone) };
    let secret = SecretKey::from_file(&secret.0).context("the link's secret key")?;
    let pairing = Pairing { secret, peer: PublicKey(peer) };
    // A pipe or a device on the medium would keep us waiting.
    if !std::fs::metadata(input).map_err(BadBundle::Io)?.is_file() {
        return Err(BadBundle::Foreign.into());
    }
    let file = File::open(input).map_err(BadBundle::Io)?;
    let reader = Reader::open(BufReader::new(file), &pairing, Side::Signer)?;
    let head = reader.head();
    let facts =
        BundleFacts { peer, number: head.number, taken_in: head.answers, digest: reader.digest() };
    send(vault, &Said::Opened { facts, messages: reader.messages() })?;
    let Told::Taken { answer } = hear(vault)? else { return Err(Stop::Alone) };
    let head = Head { from: Side::Signer, number: answer, answers: facts.number };
    let program = std::env::current_exe().context("cannot find the signer's own program")?;
    let driver = Driver {
        reader,
        writer: Writer::begin(output, &head, &pairing, entropy)?,
        intake: Intake::spawn(&program).context("cannot start the intake worker")?,
        vault,
        gate: Gate::default(),
        calls: VecDeque::new(),
        jobs: VecDeque::new(),
        wishes: Wishes::default(),
        read_all: false,
        outcome: Outcome::default(),
        clock: Clock::start(),
    };
    driver.run()
}

struct Driver<'v> {
    reader: Reader<BufReader<File>>,
    writer: Writer<File>,
    intake: Intake<u64>,
    vault: &'v mut Framed,
    gate: Gate,
    /// Calls that the socket did not take yet.
    calls: VecDeque<Tagged<Call>>,
    /// Jobs that the intake did not take yet.
    jobs: VecDeque<(u64, Job)>,
    wishes: Wishes,
    read_all: bool,
    outcome: Outcome,
    clock: Clock,
}

impl Driver<'_> {
    fn run(mut self) -> Result<Outcome, Stop> {
        loop {
            self.feed()?;
            let moved = self.turn()?;
            if self.is_done() {
                break;
            }
            if !moved {
                self.wait()?;
            }
        }
        let (file, written) = self.writer.finish()?;
        file.sync_all().map_err(BundleError::Io)?;
        Ok(Outcome { length: written.length, ..self.outcome })
    }

    fn is_done(&self) -> bool {
        self.read_all && self.calls.is_empty() && self.gate.pending() == 0 && self.wishes.is_empty()
    }

    /// Hands requests to the gate while it has room. CRLs come last, when every revocation of the
    /// bundle is decided, and one after the other.
    fn feed(&mut self) -> Result<(), Stop> {
        while !self.read_all && self.gate.pending() < WINDOW && self.calls.len() < WINDOW {
            if self.wishes.catalogue_awaited {
                // The frontend checks every answer against the catalogue: it is written first.
                if self.gate.pending() > 0 || !self.calls.is_empty() {
                    return Ok(());
                }
                self.wishes.catalogue_awaited = false;
            }
            let Some(bytes) = self.reader.next_message()? else {
                self.read_all = true;
                break;
            };
            match Request::from_bytes(&bytes) {
                Ok(Request::FetchCrl(fetch)) => self.wishes.add(fetch),
                Ok(Request::FetchLog(_)) => {} // shipped over the cable only
                Ok(request) => {
                    self.wishes.catalogue_awaited |= matches!(request, Request::Catalogue(_));
                    self.outcome.unanswered += u64::from(request.request_id().is_some());
                    let action = self.gate.on_request(request, None);
                    self.act(action)?;
                }
                Err(error) => {
                    tracing::warn!(%error, "a message of the bundle is none that is known here");
                    self.outcome.unknown += 1;
                }
            }
        }
        if self.read_all
            && self.gate.pending() == 0
            && self.calls.is_empty()
            && let Some(fetch) = self.wishes.next()
        {
            let action = self.gate.on_request(Request::FetchCrl(fetch), None);
            self.act(action)?;
        }
        Ok(())
    }

    /// Moves what can be moved; whether anything came.
    fn turn(&mut self) -> Result<bool, Stop> {
        let mut moved = false;
        pump::turn_intake(&mut self.intake, &mut self.jobs, self.clock.now())?;
        while let Some((tag, outcome)) = self.intake.poll_verdict() {
            moved = true;
            let action = self.gate.on_verdict(tag, outcome);
            self.act(action)?;
        }
        while let Some(call) = self.calls.pop_front() {
            match self.vault.send(&Said::Call(call.clone())) {
                Ok(()) => {}
                Err(FramingError::Full { .. }) => {
                    self.calls.push_front(call);
                    break;
                }
                Err(error) => return Err(gone(error)),
            }
        }
        self.vault.turn().map_err(gone)?;
        while let Some(told) = self.vault.recv::<Told>().map_err(gone)? {
            moved = true;
            let Told::Reply(reply) = told else { return Err(Stop::Alone) };
            let tag = reply.tag;
            let waits = self.gate.pending();
            let action = self.gate.on_reply(reply, pump::unix_s());
            if action.is_none() && self.gate.pending() < waits {
                tracing::warn!(tag, "the vault does not answer this one now");
            }
            self.act(action)?;
        }
        Ok(moved)
    }

    fn act(&mut self, action: Option<Action>) -> Result<(), Stop> {
        match action {
            None => {}
            Some(Action::Call(call)) => self.calls.push_back(call),
            Some(Action::Vet(tag, job)) => self.jobs.push_back((tag, job)),
            Some(Action::Answer(answer)) => self.write(&answer)?,
        }
        Ok(())
    }

    fn write(&mut self, answer: &Answer) -> Result<(), Stop> {
        match answer {
            Answer::Catalogue(catalogue) => self.wishes.add_all_of(catalogue),
            Answer::CrlPiece(piece) => {
                let length = usize::try_from(piece.packed_length).unwrap_or(usize::MAX);
                if piece.offset == 0 && !self.writer.has_room(length) {
                    let (authority, number) = (&piece.authority, piece.crl_number);
                    tracing::warn!(%authority, number, "a CRL does not fit; it waits for the next bundle");
                    self.outcome.left_out += 1;
                    return Ok(());
                }
                let ended = self.wishes.go_on(piece);
                self.outcome.crls += u64::from(ended);
            }
            answer if answer.request_id().is_some() => {
                self.outcome.unanswered = self.outcome.unanswered.saturating_sub(1);
            }
            _ => {}
        }
        let bytes = answer.to_bytes().context("an answer has no encoding")?;
        Ok(self.writer.add(&bytes)?)
    }

    fn wait(&self) -> Result<(), Stop> {
        let timeout = self.intake.poll_timeout().map(|at| at.saturating_since(self.clock.now()));
        let mut fds = vec![PollFd::new(self.vault.fd(), self.vault.interest())];
        if let Some((fd, flags)) = self.intake.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        wait(&mut fds, timeout)
    }
}

/// The CRLs that are to be in the answers.
#[derive(Default)]
struct Wishes {
    wanted: BTreeMap<(Name, CrlScope), FetchCrl>,
    /// The question for the next piece of the one that is being written.
    further: Option<FetchCrl>,
    /// The question whose piece comes next.
    asked: Option<FetchCrl>,
    catalogue_awaited: bool,
}

impl Wishes {
    /// The frontend asks, and says what it holds.
    fn add(&mut self, fetch: FetchCrl) {
        if self.wanted.len() < WISHES_MAX {
            // What was asked for in pieces over a cable begins anew on a medium.
            let fetch = FetchCrl { resume: None, ..fetch };
            self.wanted.insert((fetch.authority.clone(), fetch.scope), fetch);
        }
    }

    /// A frontend that hears of an authority by this very bundle could not ask for its CRLs.
    fn add_all_of(&mut self, catalogue: &Catalogue) {
        for entry in catalogue.authorities.iter() {
            let delta = entry.delta_crl.then_some(CrlScope::Delta);
            let shards = (0..entry.crl_shards).map(CrlScope::Shard);
            for scope in std::iter::once(CrlScope::Full).chain(delta).chain(shards) {
                let authority = entry.name.clone();
                if !self.wanted.contains_key(&(authority.clone(), scope)) {
                    self.add(FetchCrl { authority, scope, have: None, resume: None });
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.further.is_none()
    }

    fn next(&mut self) -> Option<FetchCrl> {
        let first = || Some(self.wanted.pop_first()?.1);
        self.asked = self.further.take().or_else(first);
        self.asked.clone()
    }

    /// Asks for the piece behind this one; whether it was the last.
    fn go_on(&mut self, piece: &CrlPiece) -> bool {
        let end = piece.offset.saturating_add(piece.bytes.len() as u64);
        let Some(asked) = self.asked.take() else { return false };
        let expected = asked.resume.map_or(0, |(_, offset)| offset);
        if piece.offset != expected || piece.bytes.is_empty() {
            return false; // another transfer began: it comes with the next bundle
        }
        if end >= piece.packed_length {
            return true;
        }
        self.further = Some(FetchCrl { resume: Some((piece.packed_digest, end)), ..asked });
        false
    }
}

fn hear(vault: &mut Framed) -> Result<Told, Stop> {
    loop {
        vault.turn().map_err(gone)?;
        if let Some(told) = vault.recv().map_err(gone)? {
            return Ok(told);
        }
        wait(&mut [PollFd::new(vault.fd(), vault.interest())], None)?;
    }
}

fn send(vault: &mut Framed, said: &Said) -> Result<(), Stop> {
    vault.send(said).map_err(gone)?;
    vault.turn().map_err(gone)
}

fn gone(error: FramingError) -> Stop {
    tracing::info!(%error, "the vault is gone");
    Stop::Alone
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Stop> {
    Ok(pump::wait(fds, timeout).context("cannot wait")?)
}

#[cfg(test)]
mod tests {
    use protocol::{bounded::Bytes, message::Digest};

    use super::*;

    fn fetch(scope: CrlScope, have: Option<Digest>) -> FetchCrl {
        FetchCrl { authority: "issuing".parse().unwrap(), scope, have, resume: None }
    }

    fn piece(offset: u64, length: usize, packed_length: u64) -> CrlPiece {
        CrlPiece {
            authority: "issuing".parse().unwrap(),
            scope: CrlScope::Full,
            crl_number: 1,
            crl_digest: Digest::of(b"crl"),
            crl_length: 9,
            packed_digest: Digest::of(b"packed"),
            packed_length,
            offset,
            bytes: Bytes::try_from(vec![0; length]).unwrap(),
        }
    }

    #[test]
    fn all_pieces_of_a_crl_are_asked_for_in_their_order_and_then_the_next_one() {
        let mut wishes = Wishes::default();
        wishes.add(fetch(CrlScope::Shard(1), None));
        wishes.add(fetch(CrlScope::Full, Some(Digest::of(b"old"))));
        let first = wishes.next().unwrap();
        assert_eq!(first, fetch(CrlScope::Full, Some(Digest::of(b"old"))));
        assert!(!wishes.go_on(&piece(0, 10, 25)));
        let resumed = |end| Some((Digest::of(b"packed"), end));
        assert_eq!(wishes.next().unwrap(), FetchCrl { resume: resumed(10), ..first.clone() });
        assert!(!wishes.go_on(&piece(10, 10, 25)));
        assert_eq!(wishes.next().unwrap(), FetchCrl { resume: resumed(20), ..first });
        assert!(wishes.go_on(&piece(20, 5, 25)));
        assert_eq!(wishes.next().unwrap().scope, CrlScope::Shard(1));
        // A vault that begins another transfer, or sends nothing, is not asked for ever.
        assert!(!wishes.go_on(&piece(7, 10, 25)));
        assert!(wishes.is_empty() && wishes.next().is_none());
    }

    #[test]
    fn wishes_are_bounded_whatever_a_bundle_asks_for() {
        let mut wishes = Wishes::default();
        for shard in 0..=u16::MAX {
            wishes.add(fetch(CrlScope::Shard(shard), None));
        }
        assert_eq!(wishes.wanted.len(), WISHES_MAX);
    }

    #[test]
    fn secret_of_the_link_is_never_shown() {
        let told = Told::Keys { secret: SecretText::new("0123456789"), peer: [0; 32] };
        assert!(!format!("{told:?}").contains("0123"));
    }
}
