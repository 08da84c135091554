//! The program itself: two pty devices and the line between them, as scripts use it.
#![expect(clippy::disallowed_methods, reason = "measures real time")]
#![expect(clippy::unwrap_used, reason = "tests and what they are made of")]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use protocol::{
    message::{Answer, Request, TimeHint},
    port::{Cable, CableEvent},
    secure::{Entropy, Pairing},
    session::{Event, Side},
};

#[test]
fn every_byte_value_passes_both_ways_and_sigterm_ends_it_with_counts() {
    let line = Line::start(&["--baud", "0"]);
    let (mut a, mut b) = (open(&line.a), open(&line.b));
    let values: Vec<u8> = (0..=255).collect();
    a.write_all(&values).unwrap();
    assert_eq!(read_exactly(&mut b, 256), values);
    b.write_all(&values).unwrap();
    assert_eq!(read_exactly(&mut a, 256), values);

    let output = line.stop();
    assert_eq!(output.status.code(), Some(0));
    let counts = String::from_utf8(output.stderr).unwrap();
    assert!(counts.contains("A to B: 256 bytes in, 256 delivered, 0 bits inverted"), "{counts}");
    assert!(counts.contains("B to A: 256 bytes in, 256 delivered, 0 bits inverted"), "{counts}");
}

#[test]
fn stable_names_replace_old_links_and_go_away_at_the_end() {
    let scratch = scratch_dir("links");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    std::os::unix::fs::symlink("/nonexistent", &a).unwrap();
    let names = [a.to_str().unwrap(), b.to_str().unwrap()];
    let line = Line::start(&["--links", names[0], names[1], "--baud", "0"]);
    assert_eq!((line.a.as_path(), line.b.as_path()), (a.as_path(), b.as_path()));
    open(&a).write_all(b"through a name").unwrap();
    assert_eq!(read_exactly(&mut open(&b), 14), b"through a name");

    line.stop();
    assert!(fs::symlink_metadata(&a).is_err() && fs::symlink_metadata(&b).is_err());
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn file_in_the_place_of_a_name_is_left_alone() {
    let scratch = scratch_dir("precious");
    let file = scratch.join("file");
    fs::write(&file, "precious").unwrap();
    let links = [file.to_str().unwrap(), "/tmp/never-made"];
    let output = run(&["--links", links[0], links[1]]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot make the link") && text.contains("not a link"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn program_may_close_its_end_and_come_back() {
    let line = Line::start(&["--baud", "0"]);
    let mut a = open(&line.a);
    drop(open(&line.b));
    a.write_all(b"while nobody listens").unwrap();
    let mut b = open(&line.b);
    assert_eq!(read_exactly(&mut b, 20), b"while nobody listens");
    b.write_all(b"back").unwrap();
    assert_eq!(read_exactly(&mut a, 4), b"back");
}

#[test]
fn both_directions_carry_a_tenth_of_the_baud_rate_at_the_same_time() {
    let line = Line::start(&["--baud", "115200"]);
    let (mut a, mut b) = (open(&line.a), open(&line.b));
    let (mut to_a, mut to_b) = (0, 0);
    let mut measured = None;
    let sent = [0x5a; 1_024];
    let start = Instant::now();
    // After the first bytes, so that the start of the programs is not measured.
    while to_a.min(to_b) < 13_000 {
        for (end, count) in [(&mut a, &mut to_a), (&mut b, &mut to_b)] {
            let _ = end.write(&sent);
            let mut buffer = [0; 4_096];
            *count += end.read(&mut buffer).unwrap_or(0);
        }
        if measured.is_none() && to_a.min(to_b) >= 1_000 {
            measured = Some((Instant::now(), to_a, to_b));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{to_a} and {to_b} bytes");
        let fds = [&a, &b].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        poll(&mut { fds }, PollTimeout::from(100u16)).unwrap();
    }
    let (since, a_then, b_then) = measured.unwrap();
    for bytes in [to_a - a_then, to_b - b_then] {
        let rate = bytes as f64 / since.elapsed().as_secs_f64();
        // Within 1 % on a quiet machine; this one may be busy, but never carries more.
        assert!((10_800.0..11_640.0).contains(&rate), "{rate} bytes per second");
    }
}

#[test]
fn signals_take_the_cable_out_and_put_it_in_again() {
    let line = Line::start(&["--baud", "0"]);
    let (mut a, mut b) = (open(&line.a), open(&line.b));
    a.write_all(b"?").unwrap();
    assert_eq!(read_exactly(&mut b, 1), b"?");

    line.signal(Signal::SIGUSR1);
    drain_until_quiet(&mut a, &mut b);
    a.write_all(b"lost").unwrap();
    assert!(!is_readable(&b, 300));

    line.signal(Signal::SIGUSR2);
    let mut seen = Vec::new();
    while seen.is_empty() {
        a.write_all(b"!").unwrap();
        if is_readable(&b, 100) {
            seen = read_some(&mut b);
        }
    }
    assert!(seen.iter().all(|byte| *byte == b'!'), "{seen:?}");
    let counts = String::from_utf8(line.stop().stderr).unwrap();
    let (_, to_a) = counts.split_once("B to A: ").unwrap();
    assert!(to_a.starts_with("0 bytes in"), "{counts}");
    assert!(!counts.contains("A to B: 0 bytes in"), "{counts}");
}

#[test]
fn planned_cut_and_bit_errors_happen() {
    let cut = Line::start(&["--baud", "0", "--cut", "0:3600"]);
    let mut a = open(&cut.a);
    a.write_all(b"never there").unwrap();
    assert!(!is_readable(&open(&cut.b), 300));
    let counts = String::from_utf8(cut.stop().stderr).unwrap();
    assert!(counts.contains("A to B: 11 bytes in, 0 delivered"), "{counts}");
    assert!(counts.contains("11 lost while cut"), "{counts}");

    let run_once = || {
        let noisy = Line::start(&["--baud", "0", "--ber", "0.01", "--seed", "0x7"]);
        let (mut a, mut b) = (open(&noisy.a), open(&noisy.b));
        a.write_all(&[0; 2_000]).unwrap();
        read_exactly(&mut b, 2_000)
    };
    let bytes = run_once();
    let flipped: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    assert!((100..230).contains(&flipped), "{flipped}");
    assert_eq!(bytes, run_once(), "the same seed damages the same bits");
}

#[test]
fn latency_is_added_each_way() {
    let line = Line::start(&["--latency-ms", "150"]);
    let (mut a, mut b) = (open(&line.a), open(&line.b));
    let start = Instant::now();
    a.write_all(b"?").unwrap();
    read_exactly(&mut b, 1);
    b.write_all(b"!").unwrap();
    read_exactly(&mut a, 1);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn two_sessions_talk_over_a_bad_line() {
    let line = Line::start(&["--baud", "460800", "--ber", "1e-5", "--latency-ms", "5"]);
    let spec = |path: &Path| format!("pty:{}?baud=460800", path.display()).parse().unwrap();
    let (ours, theirs) = Pairing::both(1);
    let (a, b, entropy) = (spec(&line.a), spec(&line.b), Entropy::seeded(1));
    let mut frontend: Cable<Request, Answer> =
        Cable::open(a, Side::Frontend, 1, ours, entropy.clone());
    let mut signer: Cable<Answer, Request> = Cable::open(b, Side::Signer, 2, theirs, entropy);
    let (mut sent, mut answered, start) = (0, 0, Instant::now());
    while answered < 500 {
        frontend.turn();
        signer.turn();
        while sent < 500 && frontend.send(&question(sent)).is_ok() {
            sent += 1;
        }
        while let Some(event) = signer.poll_event() {
            if let CableEvent::Session(Event::Message(Request::TimeHint(hint))) = event {
                signer.send(&Answer::TimeHintTaken { unix_us: hint.unix_us }).unwrap();
            }
        }
        while let Some(event) = frontend.poll_event() {
            if let CableEvent::Session(Event::Message(answer)) = event {
                assert_eq!(answer, Answer::TimeHintTaken { unix_us: answered });
                answered += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{answered} of {sent} answered");
        frontend.turn();
        signer.turn();
        wait(&frontend, &signer);
    }
}

fn question(number: i64) -> Request {
    Request::TimeHint(TimeHint { unix_us: number, round_trip_us: None, synchronised: true })
}

fn wait(frontend: &Cable<Request, Answer>, signer: &Cable<Answer, Request>) {
    let ready = [frontend.fd(), signer.fd()].map(|fd| fd.unwrap());
    let mut fds = ready.map(|(fd, flags)| PollFd::new(fd, flags));
    let timeouts = [frontend.timeout(), signer.timeout()].into_iter().flatten();
    let millis = timeouts.min().unwrap().as_micros().div_ceil(1_000).min(1_000) as u16;
    poll(&mut fds, PollTimeout::from(millis)).unwrap();
}

#[test]
fn senseless_options_end_with_4_and_a_sentence() {
    for (arguments, part) in [
        (&["--ber", "2"][..], "from 0 to 1"),
        (&["--drop", "x"], "from 0 to 1"),
        (&["--preset", "perfect"], "choose one of clean, ber-1e-6"),
        (&["--cut", "10"], "AT:FOR"),
        (&["--seed", "0xg"], "whole number"),
        (&["--links", "a"], "2 values"),
        (&["--bauds", "9600"], "--baud"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

//------------ A running line ------------------------------------------------

struct Line {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    a: PathBuf,
    b: PathBuf,
}

impl Line {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program(arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = || {
            let mut text = String::new();
            stdout.read_line(&mut text).unwrap();
            text.trim_end().to_owned()
        };
        let (a, b, ready) = (line(), line(), line());
        assert_eq!(ready, "ready");
        Self { child: Some(child), stdout, a: a.into(), b: b.into() }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(id as i32), signal).unwrap();
    }

    fn stop(mut self) -> Output {
        self.signal(Signal::SIGTERM);
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing follows `ready`");
        output
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_link-sim"));
    command.arg("pty").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn open(path: &Path) -> File {
    let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

fn is_readable(end: &File, millis: u16) -> bool {
    let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(millis)).unwrap() == 1
}

fn read_some(end: &mut File) -> Vec<u8> {
    let mut buffer = [0; 4_096];
    let count = end.read(&mut buffer).unwrap();
    buffer[..count].to_vec()
}

fn read_exactly(end: &mut File, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        assert!(is_readable(end, 5_000), "{} of {count} bytes within five seconds", bytes.len());
        bytes.extend(read_some(end));
    }
    bytes
}

/// Writes until nothing more comes out at the other end.
fn drain_until_quiet(a: &mut File, b: &mut File) {
    while {
        a.write_all(b".").unwrap();
        is_readable(b, 100)
    } {
        read_some(b);
    }
}

fn scratch_dir(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("link-sim-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}
