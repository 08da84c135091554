//! Stories of cables on real ptys and sockets.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::symlink,
    path::PathBuf,
    time,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollTimeout, poll},
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
    unistd,
};

use super::*;
use crate::message::{Answer, Request, TimeHint};

mod taken;

//------------ Streams -------------------------------------------------------

#[test]
fn every_byte_value_passes_a_pty_unchanged_both_ways() {
    for kind in ["pty", "serial"] {
        let scratch = Scratch::new(&format!("values-{kind}"));
        let mut master = new_pty_at(&scratch.path("tty"));
        let spec = format!("{kind}:{}", scratch.path("tty").display());
        let mut stream = Source::new(spec.parse().unwrap(), Side::Signer).open().unwrap().unwrap();
        let values: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();

        assert_eq!(stream.write(&values).unwrap(), Some(values.len()));
        let mut seen = vec![0; values.len()];
        read_exactly(&mut master, &mut seen);
        assert_eq!(seen, values);

        assert_eq!(master.write(&values).unwrap(), values.len());
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while seen.len() < values.len() {
            wait_for(stream.as_fd(), PollFlags::POLLIN);
            let count = stream.read(&mut buffer).unwrap().unwrap_or(0);
            seen.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(seen, values);
        assert_eq!(stream.read(&mut buffer).unwrap(), None);
    }
}

#[test]
fn input_from_before_the_opening_is_thrown_away() {
    let scratch = Scratch::new("stale");
    let mut master = new_pty_at(&scratch.path("tty"));
    // Raw as an earlier program left it, and held open so that the bytes stay.
    drop(pty_source(&scratch).open().unwrap());
    let mut held = fs::OpenOptions::new().read(true).open(scratch.path("tty")).unwrap();
    master.write_all(b"stale bytes").unwrap();
    wait_for(held.as_fd(), PollFlags::POLLIN);
    let mut one = [0; 1];
    assert_eq!((held.read(&mut one).unwrap(), &one), (1, b"s"));

    let mut stream = pty_source(&scratch).open().unwrap().unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), None);
}

#[test]
fn second_program_on_a_device_is_told_that_it_is_in_use_until_the_first_is_gone() {
    let scratch = Scratch::new("busy");
    let _master = new_pty_at(&scratch.path("tty"));
    let first = pty_source(&scratch).open().unwrap();
    let error = pty_source(&scratch).open().unwrap_err();
    assert!(matches!(error, PortError::Busy { .. }), "{error}");
    drop(first);
    pty_source(&scratch).open().unwrap();
}

#[test]
fn socket_left_by_a_killed_signer_is_replaced_but_a_live_one_or_a_file_is_not() {
    let scratch = Scratch::new("socket");
    let path = scratch.path("signer.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let spec = PortSpec::Unix { path: path.clone() };
    let mut alive = Source::new(spec.clone(), Side::Signer);
    assert!(alive.open().unwrap().is_none());

    let error = Source::new(spec.clone(), Side::Signer).open().unwrap_err();
    assert!(matches!(error, PortError::Busy { .. }), "{error}");
    drop(alive);
    assert!(!path.exists());

    fs::write(&path, "precious").unwrap();
    let error = Source::new(spec, Side::Signer).open().unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

//------------ Cables --------------------------------------------------------

#[test]
fn question_and_answer_cross_a_pty() {
    let mut bench = Bench::on_ptys("pty-exchange");
    bench.exchange(1);
    bench.exchange(2);
    bench.log.sort();
    assert_eq!(bench.log, ["frontend opened", "frontend up", "signer opened", "signer up"]);
}

#[test]
fn question_and_answer_cross_a_unix_socket() {
    let mut bench = Bench::on_socket("unix-exchange");
    bench.exchange(1);
    assert_eq!(bench.frontend.counters().messages_received, 1);
    assert_eq!(bench.signer.counters().messages_received, 1);
    assert!(bench.frontend.round_trip().is_some());
}

#[test]
fn second_frontend_waits_while_the_first_is_connected() {
    let mut bench = Bench::on_socket("unix-second");
    bench.exchange(1);
    let mut second: Cable<Request, Answer> =
        open(bench.frontend.spec().clone(), Side::Frontend, 77);
    bench.exchange(2);
    second.turn();
    assert!(!second.is_up());

    std::mem::swap(&mut bench.frontend, &mut second);
    drop(second);
    bench.exchange(3);
}

#[test]
fn unplugged_pty_is_reported_once_and_heals_when_plugged_in_again() {
    let mut bench = Bench::on_ptys("replug");
    bench.exchange(1);
    bench.log.clear();

    bench.unplug();
    bench.run_until("both ports are lost", |bench| bench.log.len() == 2);
    assert!(bench.log[0].starts_with("frontend lost: "), "{:?}", bench.log);
    assert!(bench.log[1].starts_with("signer lost: "), "{:?}", bench.log);

    // Longer than a trial to open: nothing more is said.
    let lost_at = time::Instant::now();
    bench.run_until("a trial to open", |_| lost_at.elapsed() > RETRY_AFTER + RETRY_AFTER / 2);
    assert_eq!(bench.log.len(), 2, "{:?}", bench.log);

    bench.plug_in();
    bench.exchange(2);
    assert!(bench.log.contains(&"frontend opened".to_owned()), "{:?}", bench.log);
    assert!(bench.log.contains(&"signer opened".to_owned()), "{:?}", bench.log);
}

#[test]
fn frontend_finds_a_signer_that_comes_later_and_one_that_starts_anew() {
    let mut bench = Bench::on_socket("restart");
    let spec = bench.signer.spec().clone();
    drop(std::mem::replace(&mut bench.signer, open(nowhere(), Side::Signer, 1)));
    bench.run_until("the frontend lost the signer", |bench| {
        bench.log.iter().any(|line| line.starts_with("frontend lost"))
    });
    bench.signer = open(spec.clone(), Side::Signer, 2);
    bench.exchange(1);

    bench.log.clear();
    bench.signer = open(nowhere(), Side::Signer, 3);
    bench.signer = open(spec, Side::Signer, 4);
    bench.run_until("the frontend noticed", |bench| bench.log.contains(&"frontend up".to_owned()));
    bench.exchange(2);
}

#[test]
fn idle_cable_sleeps() {
    for mut bench in [Bench::on_ptys("idle-pty"), Bench::on_socket("idle-unix")] {
        bench.exchange(1);
        let (start, mut turns) = (time::Instant::now(), 0);
        bench.run_until("a second of idleness", |_| {
            turns += 1;
            start.elapsed() > Duration::from_secs(1)
        });
        assert!(turns < 50, "{turns} turns in a second");
    }
}

#[test]
fn port_that_takes_no_bytes_does_not_keep_the_program_busy() {
    // Nobody reads the masters, and a line without a limit fills them.
    let mut bench = Bench::on_ptys_with("blocked", "?baud=0");
    bench.exchange(1);
    let masters = std::mem::take(&mut bench.masters);
    for number in 0..150 {
        let request = Request::Acknowledge(vec![id(number); 64].try_into().unwrap());
        bench.frontend.send(&request).unwrap();
    }
    bench.frontend.turn();
    let (_, flags) = bench.frontend.fd().unwrap();
    assert!(flags.contains(PollFlags::POLLOUT), "the pty took everything");
    let (start, mut turns) = (time::Instant::now(), 0);
    bench.run_until("a second of waiting", |_| {
        turns += 1;
        start.elapsed() > Duration::from_secs(1)
    });
    assert!(turns < 300, "{turns} turns in a second");

    bench.masters = masters;
    bench.exchange(2);
    let arrived = |bench: &mut Bench| bench.requests.len() == 152;
    bench.run_until("everything arrived after all", arrived);
}

//------------ The bench -----------------------------------------------------

/// Both programs, reduced to their cables, and the cable between them.
struct Bench {
    frontend: Cable<Request, Answer>,
    signer: Cable<Answer, Request>,
    /// With ptys: what the test carries bytes between, instead of a cable.
    masters: Vec<PtyMaster>,
    requests: Vec<Request>,
    answers: Vec<Answer>,
    log: Vec<String>,
    scratch: Scratch,
}

impl Bench {
    fn on_ptys(name: &str) -> Self {
        Self::on_ptys_with(name, "")
    }

    fn on_ptys_with(name: &str, setting: &str) -> Self {
        Self::on_ptys_as("pty", name, setting)
    }

    fn on_ptys_as(kind: &str, name: &str, setting: &str) -> Self {
        let scratch = Scratch::new(name);
        let masters = vec![new_pty_at(&scratch.path("a")), new_pty_at(&scratch.path("b"))];
        let spec =
            |end| format!("{kind}:{}{setting}", scratch.path(end).display()).parse().unwrap();
        Self::new(spec("a"), spec("b"), masters, scratch)
    }

    fn on_socket(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let spec = PortSpec::Unix { path: scratch.path("socket") };
        Self::new(spec.clone(), spec, Vec::new(), scratch)
    }

    fn new(a: PortSpec, b: PortSpec, masters: Vec<PtyMaster>, scratch: Scratch) -> Self {
        let signer = open(b, Side::Signer, 2);
        let frontend = open(a, Side::Frontend, 1);
        let (requests, answers, log) = (Vec::new(), Vec::new(), Vec::new());
        Self { frontend, signer, masters, requests, answers, log, scratch }
    }

    /// The names go with the ptys: the kernel gives their numbers to the next one who asks.
    fn unplug(&mut self) {
        for end in ["a", "b"] {
            fs::remove_file(self.scratch.path(end)).unwrap();
        }
        self.masters.clear();
    }

    /// New ptys under the old names, as an adapter that was plugged in again.
    fn plug_in(&mut self) {
        self.masters = ["a", "b"].map(|end| new_pty_at(&self.scratch.path(end))).into();
    }

    /// One question there and one answer back, asked again on each connection until it is there.
    fn exchange(&mut self, number: i64) {
        let question = Request::TimeHint(TimeHint {
            unix_us: number,
            round_trip_us: None,
            synchronised: false,
        });
        let reply = Answer::TimeHintTaken { unix_us: -number };
        self.run_until("both ends are up", |b| b.frontend.is_up() && b.signer.is_up());
        self.frontend.send(&question).unwrap();
        self.run_until("the question is there", |bench| bench.requests.contains(&question));
        self.signer.send(&reply).unwrap();
        self.run_until("the answer is there", |bench| bench.answers.contains(&reply));
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = time::Instant::now();
        loop {
            self.frontend.turn();
            self.signer.turn();
            self.take_events();
            self.carry();
            if done(self) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", self.log);
            self.wait();
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.frontend.poll_event() {
            note("frontend", event, &mut self.answers, &mut self.log);
        }
        while let Some(event) = self.signer.poll_event() {
            note("signer", event, &mut self.requests, &mut self.log);
        }
    }

    fn carry(&mut self) {
        let [a, b] = &self.masters[..] else { return };
        for (from, to) in [(a, b), (b, a)] {
            let mut buffer = [0; 1024];
            match unistd::read(from, &mut buffer) {
                Ok(count) => assert_eq!(unistd::write(to, &buffer[..count]), Ok(count)),
                Err(Errno::EAGAIN) => {}
                Err(error) => panic!("carrying: {error}"),
            }
        }
    }

    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = [self.frontend.fd(), self.signer.fd()]
            .into_iter()
            .flatten()
            .map(|(fd, flags)| PollFd::new(fd, flags))
            .collect();
        fds.extend(self.masters.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeouts = [self.frontend.timeout(), self.signer.timeout()];
        let timeout = timeouts.into_iter().flatten().min().unwrap_or(RETRY_AFTER);
        let millis = timeout.as_micros().div_ceil(1_000).min(100) as u16;
        poll(&mut fds, PollTimeout::from(millis)).unwrap();
    }
}

fn note<In>(who: &str, event: CableEvent<In>, inbox: &mut Vec<In>, log: &mut Vec<String>) {
    match event {
        CableEvent::Opened => log.push(format!("{who} opened")),
        CableEvent::Lost { error } => log.push(format!("{who} lost: {error}")),
        CableEvent::Session(Event::Up) => log.push(format!("{who} up")),
        CableEvent::Session(Event::Down { .. }) => log.push(format!("{who} down")),
        CableEvent::Session(Event::Message(message)) => inbox.push(message),
        CableEvent::Session(Event::Occupied) => log.push(format!("{who} waits for its turn")),
        CableEvent::Session(event) => panic!("{who}: unexpected {}", name_of(&event)),
    }
}

fn name_of<In>(event: &Event<In>) -> &'static str {
    match event {
        Event::Refused { .. } => "refusal",
        Event::Incompatible { .. } => "version",
        _ => "event",
    }
}

fn id(number: u8) -> crate::message::RequestId {
    crate::message::RequestId::from_bytes([number; 16])
}

fn pty_source(scratch: &Scratch) -> Source {
    Source::new(PortSpec::Pty { path: scratch.path("tty"), baud: 115_200 }, Side::Signer)
}

fn nowhere() -> PortSpec {
    "pty:/nonexistent/tty".parse().unwrap()
}

/// A pty whose device has this name, also if another had it before.
fn new_pty_at(path: &PathBuf) -> PtyMaster {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let _ = fs::remove_file(path);
    symlink(ptsname_r(&master).unwrap(), path).unwrap();
    master
}

fn read_exactly(master: &mut PtyMaster, mut buffer: &mut [u8]) {
    while !buffer.is_empty() {
        wait_for(master.as_fd(), PollFlags::POLLIN);
        let count = master.read(buffer).unwrap();
        buffer = &mut buffer[count..];
    }
}

fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    let ready = poll(&mut [PollFd::new(fd, flags)], PollTimeout::from(5_000u16)).unwrap();
    assert_eq!(ready, 1, "nothing within five seconds");
}

/// A directory of this test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cable-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A cable of one and the same pair.
fn open<Out: Message, In: Message>(spec: PortSpec, side: Side, boot_id: u64) -> Cable<Out, In> {
    let (frontend, signer) = Pairing::both(1);
    let pairing = if side == Side::Frontend { frontend } else { signer };
    Cable::open(spec, side, boot_id, pairing, Entropy::seeded(boot_id))
}
