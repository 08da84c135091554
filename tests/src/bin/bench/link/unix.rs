//! What the cable itself costs over a unix socket, in the time of one RSA-4096 signature.
//!
//! Both ends run in one thread, with requests and answers as long as real ones, so the time that
//! passes is the processor time of both together, system calls included.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::poll::{PollFd, PollTimeout, poll};
use protocol::{
    message::{Answer, CsrForm, IssueCertificate, Request, RequestId},
    port::{Cable, CableEvent, PortSpec},
    secure::{Entropy, Pairing},
    session::{Event, SendError, Side},
};
use tests::{Seed, World};

use crate::{csrs::cores, figures::Figures, peers, report::Target};

/// A second's work or more.
const REQUESTS: u64 = 20_000;
/// Requests under way at once.
const WINDOW: u64 = 64;
/// Of an RSA-2048 CSR in DER, and of a certificate by RSA-4096 for it.
const CSR_LENGTH: usize = 640;
const CERTIFICATE_LENGTH: usize = 1300;
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    eprintln!("bench: the cable over a unix socket");
    let world = World::new(tests::Cable::Unix)?;
    let spec = || -> Result<PortSpec> {
        let text = format!("unix:{}", world.file("bench.sock"));
        text.parse().map_err(|error| anyhow!("{text}: {error}"))
    };
    let (ours, theirs) = Pairing::both(1);
    let mut signer =
        Cable::<Answer, Request>::open(spec()?, Side::Signer, 2, theirs, Entropy::seeded(2));
    let mut frontend =
        Cable::<Request, Answer>::open(spec()?, Side::Frontend, 1, ours, Entropy::seeded(1));
    let each = carry(&mut frontend, &mut signer)?;
    let signature = cores() as f64 / peers::signatures_per_s(&world)?;
    figures.add("unix_link_us", each * 1e6, "us", "the cable over a unix socket, per certificate");
    let share = each / signature * 100.0;
    let what = "  of the time of an RSA-4096 signature";
    figures.promised("unix_link_share_percent", share, "%", what, Target::AtMost(5.0));
    Ok(())
}

/// Seconds per request and its answer.
fn carry(
    frontend: &mut Cable<Request, Answer>,
    signer: &mut Cable<Answer, Request>,
) -> Result<f64> {
    let mut contents = Seed::new(3);
    let mut bytes =
        |length: usize| -> Vec<u8> { (0..length).map(|_| contents.below(256) as u8).collect() };
    let (csr, certificate) = (bytes(CSR_LENGTH), bytes(CERTIFICATE_LENGTH));
    let deadline = Instant::now() + WITHIN;
    let (mut sent, mut heard) = (0, 0);
    let mut start = None;
    let mut answers = Vec::new();
    while heard < REQUESTS {
        ensure!(Instant::now() < deadline, "{heard} answers of {REQUESTS} in {WITHIN:?}");
        if frontend.is_up() && signer.is_up() {
            start.get_or_insert_with(Instant::now);
            while sent < REQUESTS && sent < heard + WINDOW && offer(frontend, sent, &csr)? {
                sent += 1;
            }
        }
        frontend.turn();
        signer.turn();
        while let Some(event) = signer.poll_event() {
            let CableEvent::Session(Event::Message(Request::Issue(issue))) = event else {
                continue;
            };
            let certificate = certificate.clone().try_into()?;
            answers.push(Answer::Issued { id: issue.id, certificate });
        }
        for answer in answers.drain(..) {
            signer.send(&answer)?;
        }
        signer.turn();
        frontend.turn();
        let before = heard;
        while let Some(event) = frontend.poll_event() {
            if let CableEvent::Session(Event::Message(Answer::Issued { .. })) = event {
                heard += 1;
            }
        }
        if heard == before {
            wait(frontend, signer)?;
        }
    }
    let start = start.context("the cable came up")?;
    Ok(start.elapsed().as_secs_f64() / REQUESTS as f64)
}

/// Hands over a request; false when its lane is full.
fn offer(frontend: &mut Cable<Request, Answer>, number: u64, csr: &[u8]) -> Result<bool> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let request = Request::Issue(IssueCertificate {
        id: RequestId::from_bytes(id),
        authority: "issuing".parse()?,
        profile: "server".parse()?,
        days: None,
        subject: None,
        subject_alt_names: None,
        form: CsrForm::Pkcs10,
        csr: csr.to_vec().try_into()?,
    });
    match frontend.send(&request) {
        Ok(()) => Ok(true),
        Err(SendError::LaneFull { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Until either end has something to do.
fn wait(frontend: &Cable<Request, Answer>, signer: &Cable<Answer, Request>) -> Result<()> {
    let timeouts = [frontend.timeout(), signer.timeout()];
    let timeout = timeouts.into_iter().flatten().min().unwrap_or(WITHIN);
    let mut fds: Vec<PollFd<'_>> = [frontend.fd(), signer.fd()]
        .into_iter()
        .flatten()
        .map(|(fd, flags)| PollFd::new(fd, flags))
        .collect();
    let timeout = PollTimeout::try_from(timeout.min(WITHIN) + Duration::from_millis(1))?;
    poll(&mut fds, timeout)?;
    Ok(())
}
