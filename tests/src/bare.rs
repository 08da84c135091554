//! A frontend with nothing behind it: no queue, no checks, no manners.
//!
//! It says to the signer whatever a test wants, as a stolen networked host could, and as fast as
//! the signer takes it.
#![expect(clippy::disallowed_methods, reason = "driver: deadlines of a real cable")]

use std::{
    collections::VecDeque,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollTimeout, poll},
};
use protocol::{
    bounded::List,
    message::{
        ACKNOWLEDGE_MAX, Answer, CatalogueQuery, GeneralName, IssueCertificate, Message, Name,
        Request, RequestId,
    },
    port::{Cable, CableEvent},
    secure::{Entropy, Pairing, SecretKey},
    session::{Event, SendError, Side},
};

use crate::{Seed, World};

/// The frontend's end of a cable in a test's own hands.
pub struct Bare {
    cable: Cable<Request, Answer>,
    answers: VecDeque<Answer>,
    seed: Seed,
    /// Stands for the milliseconds in an id.
    ids: u64,
}

/// What a flood of requests came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flood {
    /// Certificates and certified keys that came back.
    pub issued: usize,
    /// Anything else that came back.
    pub others: usize,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Bare {
    /// Takes the place of the frontend, whose key it has stolen, and waits until the signer
    /// answers. The request ids of a higher boot id come after those of a lower one.
    pub fn connect_to(world: &World, boot_id: u64) -> Result<Self> {
        let read = |name: &str| {
            let path = world.path("frontend/link").join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let secret = SecretKey::from_file(&read("secret")?)?;
        let pairing = Pairing { secret, peer: read("peer")?.parse()? };
        Self::connect(&world.frontend_link(), pairing, boot_id)
    }

    /// Takes a frontend's place with these keys, whether the signer knows them or not.
    pub fn connect(link: &str, pairing: Pairing, boot_id: u64) -> Result<Self> {
        let spec = link
            .parse()
            .map_err(|error: protocol::port::NotAPortSpec| anyhow!("{link}: {error}"))?;
        let entropy = Entropy::seeded(boot_id);
        let cable = Cable::open(spec, Side::Frontend, boot_id, pairing, entropy);
        let mut bare =
            Self { cable, answers: VecDeque::new(), seed: Seed::new(boot_id), ids: boot_id << 32 };
        let deadline = Instant::now() + WITHIN;
        while !bare.cable.is_up() {
            bare.step(deadline).context("the signer does not answer")?;
        }
        let hello = CatalogueQuery { have: None, serial_high: List::empty() };
        bare.ask(&Request::Catalogue(hello))?;
        Ok(bare)
    }

    /// A request id that was not used before, a UUID version 7: they rise, as a frontend's do.
    pub fn fresh_id(&mut self) -> RequestId {
        let mut bytes = [0; 16];
        bytes.fill_with(|| u8::try_from(self.seed.below(256)).unwrap_or_default());
        self.ids += 1;
        bytes[..6].copy_from_slice(&self.ids.to_be_bytes()[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        RequestId::from_bytes(bytes)
    }

    /// Asks the authority `issuing` by its profile `server` for this host.
    pub fn issue(&mut self, csr: &[u8], host: &str) -> Result<IssueCertificate> {
        let names: Vec<GeneralName> = vec![format!("dns:{host}").parse()?];
        Ok(IssueCertificate {
            form: protocol::message::CsrForm::Pkcs10,
            id: self.fresh_id(),
            authority: "issuing".parse::<Name>()?,
            profile: "server".parse::<Name>()?,
            days: None,
            subject: Some(List::empty()),
            subject_alt_names: Some(List::try_from(names)?),
            csr: csr.to_vec().try_into()?,
        })
    }

    /// Sends a request and waits for its answer: that with its id, or the next without any.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        let deadline = Instant::now() + WITHIN;
        self.cable.send(request)?;
        self.cable.turn();
        loop {
            while let Some(answer) = self.answers.pop_front() {
                if answer.request_id() == request.request_id() {
                    return Ok(answer);
                }
            }
            self.step(deadline).context("the signer does not answer a request")?;
        }
    }

    /// Asks for many certificates, so many at a time, and acknowledges each.
    pub fn flood(
        &mut self,
        requests: impl IntoIterator<Item = IssueCertificate>,
        window: usize,
    ) -> Result<Flood> {
        self.flood_of(requests.into_iter().map(Request::Issue), window)
    }

    /// The same with requests of any kind that has an id.
    pub fn flood_of(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
        window: usize,
    ) -> Result<Flood> {
        let mut requests = requests.into_iter();
        let mut next = requests.next();
        let start = Instant::now();
        let (mut waiting, mut issued, mut others) = (0, 0, 0);
        let mut stored = Vec::new();
        while waiting > 0 || next.is_some() {
            while waiting < window
                && let Some(request) = &next
                && self.offer(request)?
            {
                waiting += 1;
                next = requests.next();
            }
            self.step(Instant::now() + WITHIN).context("the flood stands still")?;
            while let Some(answer) = self.answers.pop_front() {
                let Some(id) = answer.request_id() else { continue };
                waiting -= 1;
                stored.push(id);
                match answer {
                    Answer::Issued { .. } | Answer::Certified { .. } => issued += 1,
                    _ => others += 1,
                }
            }
            while stored.len() >= ACKNOWLEDGE_MAX || (waiting == 0 && !stored.is_empty()) {
                let rest = stored.split_off(stored.len().min(ACKNOWLEDGE_MAX));
                let acknowledged = std::mem::replace(&mut stored, rest);
                self.offer(&Request::Acknowledge(List::try_from(acknowledged)?))?;
            }
        }
        let took = start.elapsed();
        self.cable.turn();
        Ok(Flood { issued, others, took })
    }

    /// Does nothing for a while but keep the cable up.
    pub fn pause(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.cable.turn();
            self.collect()?;
            self.wait(left)?;
        }
        Ok(())
    }

    /// Bytes that came over the cable so far, frames and all.
    pub fn bytes_received(&self) -> u64 {
        self.cable.counters().link.bytes_received
    }

    /// Hands a request to the session; false when its lane is full.
    fn offer(&mut self, request: &Request) -> Result<bool> {
        match self.cable.send(request) {
            Ok(()) => Ok(true),
            Err(SendError::LaneFull { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the next thing to happen and takes it in.
    fn step(&mut self, deadline: Instant) -> Result<()> {
        self.cable.turn();
        self.collect()?;
        if !self.answers.is_empty() {
            return Ok(());
        }
        let left = deadline.checked_duration_since(Instant::now());
        let left = left.ok_or_else(|| anyhow!("nothing came in {WITHIN:?}"))?;
        self.wait(left)?;
        self.cable.turn();
        self.collect()
    }

    /// Waits for the cable, but not for longer than `left`.
    fn wait(&self, left: Duration) -> Result<()> {
        let wait = self.cable.timeout().map_or(left, |timeout| timeout.min(left));
        // A millisecond more than too early: poll knows no less.
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1))?;
        let polled = match self.cable.fd() {
            Some((fd, flags)) => poll(&mut [PollFd::new(fd, flags)], wait),
            None => poll(&mut [], wait),
        };
        match polled {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn collect(&mut self) -> Result<()> {
        while let Some(event) = self.cable.poll_event() {
            match event {
                CableEvent::Session(Event::Message(answer)) => self.answers.push_back(answer),
                CableEvent::Session(Event::Incompatible { theirs }) => {
                    bail!("the signer speaks versions {theirs:?} only")
                }
                CableEvent::Session(Event::Refused { failure }) => bail!("{failure}"),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The longest that anything may take.
const WITHIN: Duration = Duration::from_secs(30);
