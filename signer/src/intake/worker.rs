//! The disposable worker: a child process that vets one job at a time within hard limits.
//!
//! It first takes its own rights away, then serves until its socket closes. It holds no key,
//! opens no file, starts no process, and writes to nothing but its socket. What a hostile request
//! could make of it is one wrong verdict about itself, and the vault checks again what matters.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, UsageWho, getrusage, setrlimit},
        signal::Signal,
    },
};
use protocol::{
    bounded::{Bytes, List, Text},
    message::{ApprovedUserId, CSR_MAX, OPENPGP_KEY_MAX, RefusalCode, USER_IDS_MAX},
};
use serde::{Deserialize, Serialize};

use crate::{
    framing::{Framed, FramingError},
    intake::{
        csr::{self, VettedCsr},
        openpgp::{self, Limits, VettedOpenPgp},
        spkac,
    },
    refusal::Refusal,
};

/// The worker's whole address space; vetting the largest key needs a tenth.
pub const MEMORY_MAX: u64 = 256 * 1024 * 1024;
/// Processor seconds for one job, whole ones only; the keeper's limit is shorter in most cases.
const CPU_SECONDS_MAX: u64 = 3;
/// Socket, error output, and what libcrypto opens while it starts.
const FILES_MAX: u64 = 16;

/// What the worker is asked to vet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// A CSR, DER.
    Csr(Bytes<CSR_MAX>),
    /// An SPKAC, DER.
    Spkac(Bytes<CSR_MAX>),
    /// An OpenPGP key with the user IDs to certify.
    OpenPgp {
        /// One transferable public key, binary.
        key: Bytes<OPENPGP_KEY_MAX>,
        /// The user IDs that were approved.
        user_ids: List<ApprovedUserId, USER_IDS_MAX>,
        /// What time it is, in seconds since 1970-01-01 UTC.
        unix_s: u64,
    },
}

impl Job {
    /// How much memory it holds.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Csr(bytes) | Self::Spkac(bytes) => bytes.len(),
            Self::OpenPgp { key, user_ids, .. } => {
                key.len() + std::mem::size_of_val::<[ApprovedUserId]>(user_ids)
            }
        }
    }
}

/// What the worker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    Csr(VettedCsr),
    OpenPgp(Box<VettedOpenPgp>),
    Refused { code: RefusalCode, text: Text<1024> },
}

/// From the keeper to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) job: Job,
}

/// From the worker to the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Say {
    /// The limits are in force; jobs may come.
    Ready,
    Done {
        number: u64,
        verdict: Verdict,
    },
}

/// The whole life of a worker whose keeper holds the other end of `stream`.
pub fn run(stream: UnixStream) -> ExitCode {
    match restrict().map_err(io::Error::from).map_err(FramingError::from).and_then(|()| {
        openssl::init();
        serve(stream, vet)
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be a file, and writing to a file is forbidden by now, so the
            // exit code is all that the keeper can count on.
            tracing::error!(%error, "intake worker ends");
            ExitCode::FAILURE
        }
    }
}

/// [`run`] on standard input, where [`super::Intake`] puts the socket.
pub fn run_on_stdin() -> ExitCode {
    match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => run(UnixStream::from(socket)),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes away what vetting does not need. What cannot be taken away stops the worker.
fn restrict() -> nix::Result<()> {
    let hard = |resource, limit| setrlimit(resource, limit, limit);
    hard(Resource::RLIMIT_AS, MEMORY_MAX)?;
    hard(Resource::RLIMIT_NOFILE, FILES_MAX)?;
    hard(Resource::RLIMIT_NPROC, 0)?; // no effect on root, but the gate is not root
    hard(Resource::RLIMIT_FSIZE, 0)?;
    hard(Resource::RLIMIT_CORE, 0)?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    // A worker that hangs must not outlive its keeper.
    prctl::set_pdeathsig(Signal::SIGKILL)
}

/// Gives the next job its own processor time; the kernel counts for the whole process.
fn allow_cpu() -> nix::Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    let soft = u64::try_from(used).unwrap_or(0) + 1 + CPU_SECONDS_MAX;
    setrlimit(Resource::RLIMIT_CPU, soft, nix::sys::resource::RLIM_INFINITY)
}

fn serve(stream: UnixStream, vet: impl Fn(Job) -> Verdict) -> Result<(), FramingError> {
    let mut framed = Framed::new(stream)?;
    framed.send(&Say::Ready)?;
    loop {
        framed.turn()?;
        match framed.recv::<Ask>() {
            Ok(Some(Ask { number, job })) => {
                allow_cpu().map_err(io::Error::from)?;
                framed.send(&Say::Done { number, verdict: vet(job) })?;
            }
            Ok(None) => {
                let mut polled = [PollFd::new(framed.fd(), framed.interest())];
                match poll(&mut polled, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(FramingError::Socket(errno.into())),
                }
            }
            Err(FramingError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn vet(job: Job) -> Verdict {
    let vetted = match job {
        Job::Csr(csr) => csr::vet(&csr).map(Verdict::Csr),
        Job::Spkac(spkac) => spkac::vet(&spkac).map(Verdict::Csr),
        Job::OpenPgp { key, user_ids, unix_s } => {
            openpgp::vet(&key, &user_ids, system_time(unix_s), &Limits::WIRE)
                .map(|vetted| Verdict::OpenPgp(Box::new(vetted)))
        }
    };
    vetted.unwrap_or_else(|Refusal { code, text }| Verdict::Refused {
        code,
        text: Text::truncated(&text),
    })
}

/// Times that the system's type cannot hold become its origin, at which no key is valid.
fn system_time(unix_s: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(unix_s)).unwrap_or(UNIX_EPOCH)
}

/// A worker in a test: the test binary itself, started again with this variable set.
#[cfg(test)]
pub(super) mod stand_in {
    use std::{io::Write, process::Command};

    use super::*;

    pub(crate) const VARIABLE: &str = "INTAKE_STAND_IN";

    /// The command that starts this test binary as a worker of the given manner.
    pub(crate) fn command(manner: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = format!("{}::plays_the_worker", module_path!().split_once("::").unwrap().1);
        command.args(["--exact", &test, "--test-threads=1"]);
        command.env_clear().env(VARIABLE, manner).env("MALLOC_ARENA_MAX", "1");
        command
    }

    /// Idle in a plain test run; in a process started by [`command`] it is the worker.
    #[test]
    fn plays_the_worker() {
        let Ok(manner) = std::env::var(VARIABLE) else { return };
        let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let stream = UnixStream::from(socket);
        match manner.as_str() {
            "honest" => std::process::exit(if run(stream) == ExitCode::SUCCESS { 0 } else { 1 }),
            "fragile" => {
                restrict().unwrap();
                let _ = serve(stream, fragile);
            }
            "stillborn" => std::process::exit(7),
            "mute" => loop {
                std::thread::park();
            },
            "oversize" | "nonsense" => answer_badly(stream, &manner),
            other => panic!("no manner `{other}`"),
        }
        std::process::exit(0);
    }

    /// Vets as the real one does, but the words in a request can break it, each by a real limit.
    fn fragile(job: Job) -> Verdict {
        let words = match &job {
            Job::Csr(csr) => Some(&csr[..]),
            Job::OpenPgp { key, .. } => Some(&key[..]),
            Job::Spkac(_) => None,
        };
        if let Some(words) = words {
            match words {
                b"eat memory" => {
                    let endless: Vec<u8> = vec![1; usize::try_from(MEMORY_MAX).unwrap()];
                    assert!(endless[endless.len() / 2] == 1);
                }
                b"spin" => loop {
                    std::hint::spin_loop();
                },
                b"hang" => loop {
                    std::thread::park();
                },
                b"panic" => panic!("as asked"),
                b"open files" => {
                    let files: Vec<_> =
                        (0..FILES_MAX).map(|_| std::fs::File::open("/dev/null")).collect();
                    assert!(files.iter().all(Result::is_ok), "the limit holds");
                }
                _ => {}
            }
        }
        vet(job)
    }

    fn answer_badly(mut stream: UnixStream, manner: &str) {
        stream.set_nonblocking(false).unwrap();
        let mut framed = Framed::new(stream.try_clone().unwrap()).unwrap();
        framed.send(&Say::Ready).unwrap();
        framed.turn().unwrap();
        while framed.recv::<Ask>().unwrap().is_none() {
            let mut polled = [PollFd::new(framed.fd(), framed.interest())];
            poll(&mut polled, PollTimeout::NONE).unwrap();
            framed.turn().unwrap();
        }
        stream.set_nonblocking(false).unwrap();
        let length = if manner == "oversize" { u32::MAX } else { 4 };
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(&[0xee; 4]).unwrap();
        loop {
            std::thread::park();
        }
    }
}
