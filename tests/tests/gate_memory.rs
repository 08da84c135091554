//! The gate's memory: 16 MiB, whatever whoever is at the other end sends or does not read.
//!
//! Hostile frontends with the stolen key of the paired one, and strangers without it, against the
//! real signer; read is the most memory that the gate process ever had, less the pages of the
//! program itself: those of a build for tests are twice those of a release, where
//! `cargo xtask bench link` measures the gate with its share of them.
#![expect(clippy::disallowed_methods, reason = "driver: deadlines of a real cable")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use protocol::{
    bounded::{Bytes, List},
    link::EndpointConfig,
    message::{
        ACKNOWLEDGE_MAX, CSR_MAX, CatalogueQuery, CertifyOpenPgp, CrlScope, CsrForm, FetchCrl,
        FetchLog, GeneralName, IssueCertificate, NAMES_MAX, OPENPGP_KEY_MAX, Request, RequestId,
        RevocationReason, Revoke, Serial,
    },
    secure::{Entropy, Pairing, SecretKey},
    session::{Event, FrontendSession, SendError, Session, SessionConfig, Side},
};
use tests::{Cable, Seed, World, batch::Batch, story};

/// What the gate may have beside the program's pages, so that it stays below 16 MiB with its share of
/// those of a release: 5 MiB of 11, which it has in common with the vault.
const MEMORY_MAX_KIB: u64 = 8 * 1024;
/// How long each attack goes on.
const ATTACK: Duration = Duration::from_millis(1500);

/// The gate takes the next connection within this.
const UP_MAX: Duration = Duration::from_secs(20);

/// A frontend's session in hostile hands.
struct Hostile {
    socket: UnixStream,
    session: FrontendSession,
    started: Instant,
    seed: Seed,
    sent: u64,
    heard: u64,
}

impl Hostile {
    fn connect(world: &World, pairing: Pairing, boot_id: u64) -> Result<Self> {
        let socket = UnixStream::connect(world.path("link.sock"))?;
        socket.set_nonblocking(true)?;
        // It packs, so that few bytes become many at the other end.
        let link = EndpointConfig { side: Side::Frontend, boot_id, line_rate: Some(50_000_000) };
        let config = SessionConfig { link, pairing, entropy: Entropy::seeded(boot_id) };
        let session = Session::new(config, protocol::time::Instant::ZERO);
        let (started, seed) = (Instant::now(), Seed::new(boot_id));
        Ok(Self { socket, session, started, seed, sent: 0, heard: 0 })
    }

    fn now(&self) -> protocol::time::Instant {
        let micros = self.started.elapsed().as_micros();
        protocol::time::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Moves bytes; what came as messages is read or left.
    fn turn(&mut self, reads: bool) -> Result<()> {
        let now = self.now();
        self.session.handle_timeout(now);
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => anyhow::bail!("the gate closed the cable"),
                Ok(count) => self.session.handle_bytes(now, &buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        while reads && let Some(event) = self.session.poll_event() {
            self.heard += u64::from(matches!(event, Event::Message(_)));
        }
        while let Some(bytes) = self.session.poll_transmit(now) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match self.socket.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    // The gate must go on reading, whatever it is sent.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Waits for the session: the gate keeps a pause after the connection before.
    fn up(mut self) -> Result<Self> {
        let end = Instant::now() + UP_MAX;
        while !self.session.is_up() {
            ensure!(Instant::now() < end, "the gate does not answer");
            self.turn(false)?;
        }
        Ok(self)
    }

    /// Sends what `make` gives as fast as it goes.
    fn attack(&mut self, reads: bool, make: impl Fn(&mut Seed) -> Request) -> Result<()> {
        let end = Instant::now() + ATTACK;
        while Instant::now() < end {
            for _ in 0..64 {
                let request = make(&mut self.seed);
                match self.session.send(self.now(), &request) {
                    Ok(()) => self.sent += 1,
                    Err(SendError::LaneFull { .. } | SendError::NotUp) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            self.turn(reads)?;
        }
        Ok(())
    }
}

fn octets(seed: &mut Seed) -> [u8; 16] {
    std::array::from_fn(|_| seed.below(256) as u8)
}

fn id(seed: &mut Seed) -> RequestId {
    RequestId::from_bytes(octets(seed))
}

/// As long as a request can be, and a hundred bytes once it is packed.
fn certify(seed: &mut Seed) -> Request {
    Request::Certify(CertifyOpenPgp {
        id: id(seed),
        authority: "openpgp".parse().expect("a name"),
        policy: None,
        user_ids: List::empty(),
        days: None,
        renew: false,
        key: Bytes::try_from(vec![b'k'; OPENPGP_KEY_MAX]).expect("as long as a key can be"),
    })
}

fn issue(seed: &mut Seed) -> Request {
    let name: GeneralName = format!("uri:{}", "u".repeat(1000)).parse().expect("a name");
    Request::Issue(IssueCertificate {
        id: id(seed),
        authority: "issuing".parse().expect("a name"),
        profile: "server".parse().expect("a name"),
        days: None,
        subject: None,
        subject_alt_names: Some(vec![name; NAMES_MAX / 4].try_into().expect("few names")),
        form: CsrForm::Pkcs10,
        csr: Bytes::try_from(vec![0x30; CSR_MAX]).expect("as long as a CSR can be"),
    })
}

fn catalogue(_: &mut Seed) -> Request {
    Request::Catalogue(CatalogueQuery { have: None, serial_high: List::empty() })
}

fn crl(_: &mut Seed) -> Request {
    let authority = "issuing".parse().expect("a name");
    Request::FetchCrl(FetchCrl { authority, scope: CrlScope::Full, have: None, resume: None })
}

fn log(_: &mut Seed) -> Request {
    Request::FetchLog(FetchLog { after: 0, head: None, offset: 0 })
}

fn revoke(seed: &mut Seed) -> Request {
    Request::Revoke(Revoke {
        id: id(seed),
        authority: "issuing".parse().expect("a name"),
        serial: Serial::from_magnitude(&octets(seed)).expect("a serial"),
        reason: RevocationReason::Unspecified,
    })
}

fn acknowledge(seed: &mut Seed) -> Request {
    let ids: Vec<_> = (0..ACKNOWLEDGE_MAX).map(|_| id(seed)).collect();
    Request::Acknowledge(ids.try_into().expect("as many as fit"))
}

/// The keys of the paired frontend.
fn stolen(world: &World) -> Result<Pairing> {
    let read = |name: &str| {
        let path = world.path("frontend/link").join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let secret = SecretKey::from_file(&read("secret")?)?;
    Ok(Pairing { secret, peer: read("peer")?.parse()? })
}

/// The most memory that the gate ever had, in KiB, less its program's pages; and its process id.
fn gate_memory(world: &mut World) -> Result<(u64, u32)> {
    let signer = world.running_signer()?.id();
    let children = fs::read_to_string(format!("/proc/{signer}/task/{signer}/children"))?;
    for child in children.split_whitespace() {
        let command = fs::read(format!("/proc/{child}/cmdline"))?;
        if command.split(|byte| *byte == 0).any(|word| word == b"gate") {
            let status = fs::read_to_string(format!("/proc/{child}/status"))?;
            let kib = |name: &str| -> Result<u64> {
                let value = status.lines().find_map(|line| line.strip_prefix(name));
                let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
                Ok(value.context(name.to_owned())?.parse()?)
            };
            return Ok((kib("VmHWM:")?.saturating_sub(kib("RssFile:")?), child.parse()?));
        }
    }
    anyhow::bail!("the signer has no gate")
}

fn assert_small(world: &mut World, gate: u32, what: &str) -> Result<()> {
    let (kib, now) = gate_memory(world)?;
    println!("{what}: the gate has had {kib} KiB");
    ensure!(now == gate, "{what}: the gate died");
    ensure!(kib <= MEMORY_MAX_KIB, "{what}: {kib} KiB of {MEMORY_MAX_KIB}");
    Ok(())
}

#[test]
fn the_gate_stays_within_16_mib_whatever_the_paired_frontend_sends_or_does_not_read() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        Batch::queue(world, 40)?;
        world.start_signer()?;
        world.run_until_idle(Duration::from_secs(60))?;
        let (_, gate) = gate_memory(world)?;
        assert_small(world, gate, "after forty certificates")?;
        type Make = fn(&mut Seed) -> Request;
        let kinds: [(&str, Make); 7] = [
            ("long keys", certify),
            ("long CSRs", issue),
            ("catalogues", catalogue),
            ("CRLs", crl),
            ("the log", log),
            ("revocations", revoke),
            ("acknowledgements", acknowledge),
        ];
        let mut boot_id = 1;
        for reads in [false, true] {
            for (what, make) in kinds {
                boot_id += 1;
                let mut hostile = Hostile::connect(world, stolen(world)?, boot_id)?.up()?;
                hostile.attack(reads, make)?;
                ensure!(hostile.sent > 100, "{what}: only {} were sent", hostile.sent);
                assert_small(world, gate, &format!("{what}, read: {reads}"))?;
            }
        }
        // All at once, on every lane.
        let mut hostile = Hostile::connect(world, stolen(world)?, 1000)?.up()?;
        for _ in 0..3 {
            hostile.attack(false, |seed| kinds[seed.below(7) as usize].1(seed))?;
        }
        assert_small(world, gate, "everything at once, nothing read")?;
        drop(hostile);

        // An honest frontend is served as before.
        Batch::queue(world, 3)?;
        world.run_until_idle(Duration::from_secs(60))?;
        assert_small(world, gate, "afterwards")
    });
}

#[test]
fn the_gate_stays_within_16_mib_whatever_a_stranger_sends() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        world.run_until_idle(Duration::from_secs(60))?;
        let (_, gate) = gate_memory(world)?;
        // Noise, long frames, and frames without an end.
        let mut seed = Seed::new(3);
        let noise: Vec<u8> = (0..1 << 16).map(|_| seed.below(256) as u8).collect();
        let blocks: [(&str, Vec<u8>); 4] = [
            ("noise", noise),
            ("no delimiter", vec![0x55; 1 << 16]),
            ("delimiters", vec![0; 1 << 16]),
            ("frames of one byte", [1, 0].repeat(1 << 15)),
        ];
        for (what, block) in &blocks {
            let mut socket = UnixStream::connect(world.path("link.sock"))?;
            let end = Instant::now() + ATTACK / 2;
            while Instant::now() < end {
                socket.write_all(block)?;
            }
            assert_small(world, gate, what)?;
        }
        // A session with another key greets well and gets nowhere.
        let (stranger, _) = Pairing::both(77);
        let ours = stolen(world)?;
        let pairing = Pairing { secret: stranger.secret, peer: ours.peer };
        let mut hostile = Hostile::connect(world, pairing, 9)?;
        hostile.attack(true, certify)?;
        ensure!(hostile.sent == 0 && hostile.heard == 0, "a stranger was let in");
        assert_small(world, gate, "a stranger's session")?;
        drop(hostile);
        Batch::queue(world, 1)?;
        world.run_until_idle(Duration::from_secs(60))
    });
}
