//! The program itself over a unix socket, with a scripted signer at the other end: exit codes,
//! kills, signals, and that the same bytes are asked for again.
#![expect(clippy::disallowed_methods, reason = "driver: a test that would hang ends instead")]
#![expect(clippy::unwrap_used, reason = "a test may unwrap, also outside its functions")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, ppoll},
    sys::{
        signal::{Signal, kill},
        time::TimeSpec,
    },
    unistd::Pid,
};
use openssl::pkey::{PKey, Private};
use protocol::{
    message::{Answer, Message, RefusalCode, Request, RequestId, SignerStatus},
    port::{Cable, CableEvent},
    secure::{Entropy, Pairing, SecretKey},
    session::{Event, Side},
};
use serde_json::Value;

#[expect(dead_code, reason = "shared with the unit tests, which use all of it")]
#[path = "../src/test_ca.rs"]
mod test_ca;

use test_ca::{CertificateRecipe, CsrRecipe, TestCa, ec_key};

/// What the signer does with a request for a certificate.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Issue,
    Refuse,
    KeepSilent,
}

struct Signer {
    cable: Cable<Answer, Request>,
    ca: TestCa,
    key: PKey<Private>,
    manner: Manner,
    seen: HashMap<RequestId, Vec<Vec<u8>>>,
    acknowledged: Vec<RequestId>,
}

fn command_in(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frontend"));
    command.arg("--dir").arg(dir.join("f")).args(arguments);
    command.env_remove("FRONTEND_DIR").env_remove("FRONTEND_LOG").env_remove("JOURNAL_STREAM");
    command
}

/// Makes a frontend and pairs it; the signer's half.
fn pair(dir: &Path) -> Pairing {
    let secret = SecretKey::generate(&Entropy::seeded(1));
    assert_eq!(code(&command_in(dir, &["init"]).output().unwrap()), 0);
    let key = secret.public().to_string();
    let paired = command_in(dir, &["pair", "--peer", &key, "--json"]).output().unwrap();
    let shown: Value = serde_json::from_slice(&paired.stdout).unwrap();
    assert_eq!(shown["signer"]["key"], key);
    Pairing { secret, peer: shown["frontend"]["key"].as_str().unwrap().parse().unwrap() }
}

/// A directory with a frontend in it, and its signer.
struct Scene {
    dir: tempfile::TempDir,
    signer: Signer,
}

impl Scene {
    fn new(manner: Manner) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = format!("unix:{}", dir.path().join("cable").display()).parse().unwrap();
        let pairing = pair(dir.path());
        let signer = Signer {
            cable: Cable::open(spec, Side::Signer, 7, pairing, Entropy::seeded(7)),
            ca: TestCa::new("Root").issuing("Issuing"),
            key: ec_key(),
            manner,
            seen: HashMap::new(),
            acknowledged: Vec::new(),
        };
        let scene = Self { dir, signer };
        let csr = CsrRecipe::new(&scene.signer.key, "h.example").dns("h.example").build();
        std::fs::write(scene.path("h.csr"), csr.to_pem().unwrap()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command_in(self.dir.path(), arguments)
    }

    fn frontend(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn request(&self) -> String {
        let csr = self.path("h.csr");
        let csr = csr.to_str().unwrap();
        let request = ["request", "--authority", "issuing", "--profile", "server", "--csr", csr];
        self.json(&request)["id"].as_str().unwrap().to_owned()
    }

    fn run(&self, more: &[&str]) -> Child {
        let link = format!("unix:{}", self.path("cable").display());
        let mut command = self.command(&["run", "--link", &link, "--log", "text"]);
        command.args(more).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
    }

    /// Plays the signer until `done`, which may look at the signer.
    fn play(&mut self, mut done: impl FnMut(&Signer) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done(&self.signer) {
            assert!(Instant::now() < end, "the story does not go on");
            self.signer.turn();
        }
    }

    fn play_until_exit(&mut self, child: &mut Child) -> i32 {
        let mut status = None;
        self.play(|_| {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap()
    }

    fn state(&self, id: &str) -> String {
        self.json(&["status", id])["state"].as_str().unwrap().to_owned()
    }
}

impl Signer {
    fn turn(&mut self) {
        self.cable.turn();
        while let Some(event) = self.cable.poll_event() {
            if let CableEvent::Session(Event::Message(request)) = event
                && let Some(answer) = self.answer(request)
            {
                self.cable.send(&answer).unwrap();
            }
        }
        self.cable.turn();
        let longest = Duration::from_millis(20);
        let timeout = self.cable.timeout().map_or(longest, |timeout| timeout.min(longest));
        let mut fds: Vec<_> =
            self.cable.fd().into_iter().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None).unwrap();
    }

    fn answer(&mut self, request: Request) -> Option<Answer> {
        if let Some(id) = request.request_id() {
            self.seen.entry(id).or_default().push(request.to_bytes().unwrap());
        }
        match request {
            Request::TimeHint(hint) => Some(Answer::TimeHintTaken { unix_us: hint.unix_us }),
            Request::Status => Some(Answer::Status(SignerStatus {
                version: "test".try_into().unwrap(),
                uptime_s: 1,
                issued: 0,
                held: 0,
                warnings: vec!["look at the paper".try_into().unwrap()].try_into().unwrap(),
            })),
            Request::Catalogue(_) => Some(Answer::Catalogue(self.ca.catalogue("issuing"))),
            Request::FetchCrl(fetch) => {
                Some(Answer::CrlUnknown { authority: fetch.authority, scope: fetch.scope })
            }
            Request::Acknowledge(ids) => {
                self.acknowledged.extend(ids.iter());
                None
            }
            Request::Issue(issue) => match self.manner {
                Manner::KeepSilent => None,
                Manner::Refuse => Some(Answer::Refused {
                    id: issue.id,
                    code: RefusalCode::Denied,
                    text: "not today".try_into().unwrap(),
                }),
                Manner::Issue => {
                    let der = CertificateRecipe::new(&self.ca, &self.key)
                        .subject(&[("CN", "h.example")])
                        .names(&["DNS:h.example"])
                        .serial(self.seen.len() as u64)
                        .build();
                    Some(Answer::Issued { id: issue.id, certificate: der.try_into().unwrap() })
                }
            },
            Request::Certify(_)
            | Request::Revoke(_)
            | Request::RevokeOpenPgp(_)
            | Request::FetchLog(_) => None,
        }
    }

    fn requests(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn terminate(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn is_pem(path: &Path) -> bool {
    std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN CERTIFICATE-----\n")
}

#[test]
fn a_request_travels_and_its_certificate_can_be_fetched() {
    let mut scene = Scene::new(Manner::Issue);
    let ids = [scene.request(), scene.request()];
    assert_eq!(code(&scene.frontend(&["get", &ids[0]])), 5);
    let mut run = scene.run(&["--until-idle"]);
    assert_eq!(scene.play_until_exit(&mut run), 0);
    assert_eq!(scene.signer.acknowledged.len(), 2);
    let (file, beside) = (scene.path("out.pem"), scene.path("out.pem.new"));
    std::fs::write(&beside, "somebody's").unwrap();
    for id in &ids {
        assert_eq!(scene.state(id), "done");
        let output = scene.frontend(&["get", id, "--out", file.to_str().unwrap()]);
        assert!(code(&output) == 0 && output.stdout.is_empty() && is_pem(&file));
    }
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "somebody's");
    let status = scene.json(&["status"]);
    assert_eq!(status["requests"]["done"], 2);
    assert_eq!(status["link"]["state"], "down");
    assert_eq!(status["signer"]["warnings"][0], "look at the paper");
    assert!(scene.json(&["time"])["round_trip_us"].is_u64());
}

#[test]
fn after_a_kill_the_same_bytes_are_asked_for_again() {
    let mut scene = Scene::new(Manner::KeepSilent);
    let id = scene.request();
    let mut run = scene.run(&[]);
    scene.play(|signer| signer.requests() == 1);
    terminate(&run, Signal::SIGKILL);
    run.wait().unwrap();
    assert_eq!(scene.state(&id), "sent");

    scene.signer.manner = Manner::Issue;
    let mut run = scene.run(&["--until-idle"]);
    assert_eq!(scene.play_until_exit(&mut run), 0);
    assert_eq!(scene.state(&id), "done");
    let seen = &scene.signer.seen[&id.parse().unwrap()];
    assert!(seen.len() == 2 && seen[0] == seen[1]);
}

#[test]
fn a_refusal_is_an_outcome_with_exit_code_2() {
    let mut scene = Scene::new(Manner::Refuse);
    let id = scene.request();
    let mut run = scene.run(&["--until-idle"]);
    assert_eq!(scene.play_until_exit(&mut run), 0);
    let status = scene.json(&["status", &id]);
    assert_eq!(status["state"], "refused");
    assert_eq!(status["refusal"]["code"], "denied");
    assert_eq!(status["refusal"]["text"], "not today");
    let output = scene.frontend(&["get", &id]);
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8(output.stderr).unwrap().contains("not today"));
}

#[test]
fn a_carrier_serves_a_waiting_command_and_stops_when_told() {
    let mut scene = Scene::new(Manner::Issue);
    let mut run = scene.run(&[]);
    let csr = scene.path("h.csr");
    let request = ["request", "--authority", "issuing", "--profile", "server", "--csr"];
    let mut request = scene.command(&request);
    let mut waiting = request.arg(csr).args(["--wait", "50"]).stdout(Stdio::piped()).spawn();
    let waiting = waiting.as_mut().unwrap();
    assert_eq!(scene.play_until_exit(waiting), 0);

    let second = scene.run(&[]).wait_with_output().unwrap();
    assert_eq!(code(&second), 3);
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("another `frontend run`"), "{told}");
    assert_eq!(scene.json(&["status"])["link"]["state"], "up");

    terminate(&run, Signal::SIGTERM);
    assert_eq!(scene.play_until_exit(&mut run), 0);
    assert_eq!(scene.json(&["status"])["link"]["carrier_running"], false);
}

#[test]
fn without_a_signer_until_idle_gives_up_and_keeps_the_queue() {
    let scene = Scene::new(Manner::Issue);
    let id = scene.request();
    let link = format!("unix:{}", scene.path("nobody").display());
    let run = ["run", "--link", &link, "--until-idle", "--link-wait", "1"];
    assert_eq!(code(&scene.frontend(&run)), 3);
    assert_eq!(scene.state(&id), "queued");
}

#[test]
fn nonsense_is_refused_in_one_sentence_before_it_is_queued() {
    let scene = Scene::new(Manner::Issue);
    let pem = std::fs::read(scene.path("h.csr")).unwrap();
    std::fs::write(scene.path("two"), pem.repeat(2)).unwrap();
    std::fs::write(scene.path("empty"), b"").unwrap();
    std::fs::write(scene.path("junk"), b"junk").unwrap();
    std::fs::write(scene.path("big"), vec![b'A'; 65 * 1024]).unwrap();
    let ask = |file: &str, more: &[&str]| {
        let file = scene.path(file);
        let mut arguments = vec!["request", "--authority", "issuing", "--profile", "server"];
        arguments.extend(["--csr", file.to_str().unwrap()]);
        arguments.extend(more);
        scene.frontend(&arguments)
    };
    for file in ["two", "empty", "junk", "big"] {
        let output = ask(file, &[]);
        let told = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!((code(&output), told.lines().count()), (2, 1), "{told}");
        assert!(told.starts_with("frontend: refused (csr-malformed): "), "{told}");
    }
    for (file, more) in [("absent", &[][..]), ("h.csr", &["--san", "x"]), ("h.csr", &["--days"])] {
        let output = ask(file, more);
        let told = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!((code(&output), told.lines().count()), (4, 1), "{told}");
    }
    assert_eq!(scene.json(&["status"])["requests"]["queued"], 0);
    assert_eq!(code(&ask("two", &["--no-precheck"])), 0, "the signer will say no");
    assert_eq!(code(&ask("big", &["--no-precheck"])), 2, "it does not fit the cable");
    assert_eq!(scene.json(&["status"])["requests"]["queued"], 1);
}
