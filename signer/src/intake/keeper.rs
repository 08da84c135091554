//! The gate's side of the intake: one worker, kept alive, and the jobs that wait for it.
//!
//! It never vets anything itself and never waits: the gate polls [`Intake::fd`], calls
//! [`Intake::turn`] with the time, and drains [`Intake::poll_verdict`]. A worker has a few jobs
//! before it, so that it never waits for the next. One that dies, hangs or talks nonsense is
//! killed and replaced; only the job it was at is lost, and that is said; those behind it go to
//! the next worker.

use std::{
    collections::VecDeque,
    fmt, io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::poll::PollFlags;
use protocol::time::{Duration, Instant};

use crate::{
    framing::Framed,
    intake::{
        csr::VettedCsr,
        openpgp::VettedOpenPgp,
        worker::{Ask, Job, Say, Verdict},
    },
    refusal::Refusal,
};

/// How long one job may take (invariant I16: one bad request delays others by less).
pub const JOB_LIMIT: Duration = Duration::from_secs(2);
/// How long a worker may take to come up.
const START_LIMIT: Duration = Duration::from_secs(5);
/// How long after a failed start the next is tried.
const START_AGAIN: Duration = Duration::from_millis(100);
/// Failed starts in a row after which the intake gives up.
const STARTS_MAX: u32 = 8;
/// Jobs and outcomes held at once.
pub const JOBS_MAX: usize = 64;
/// Jobs that a worker is given ahead: enough for the time in which the gate does other things.
const AHEAD_MAX: usize = 8;
/// Bytes of jobs held at once; the gate stays within 16 MiB whatever comes.
const JOB_BYTES_MAX: usize = 512 * 1024;
/// After so many jobs a worker is replaced, so that nothing it gathered lives for long.
const WORKER_JOBS_MAX: u64 = 4096;

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The CSR is good; the vault decides whether it is permitted.
    Csr(Box<VettedCsr>),
    /// The OpenPGP key and user IDs are good; the vault decides.
    OpenPgp(Box<VettedOpenPgp>),
    /// The rules say no.
    Refused(Refusal),
    /// The job broke its worker and is set aside.
    Broke {
        /// What happened, for a person.
        text: String,
    },
}

/// No worker can be started.
#[derive(Debug, thiserror::Error)]
#[error("the intake worker failed to start {STARTS_MAX} times in a row: {last}")]
pub struct IntakeError {
    last: String,
}

/// The intake does not take more; offer the job again after outcomes were drained.
#[derive(Debug)]
pub struct Full<T> {
    /// The job's tag.
    pub tag: T,
    /// The job.
    pub job: Job,
}

/// One worker and the jobs that wait for it. `T` names a job to the caller.
pub struct Intake<T = u64> {
    command: Box<dyn FnMut() -> Command + Send>,
    worker: Option<Worker<T>>,
    start_at: Instant,
    failed_starts: u32,
    last_failure: String,
    waiting: VecDeque<(T, Job)>,
    /// Of the jobs that wait here or at the worker.
    held_bytes: usize,
    outcomes: VecDeque<(T, Outcome)>,
    next_number: u64,
}

struct Worker<T> {
    child: Child,
    framed: Framed,
    jobs_done: u64,
    state: State<T>,
}

/// | state | `Ready` | `Done` | deadline | end or nonsense |
/// |---|---|---|---|---|
/// | starting | idle | worker replaced | worker replaced | worker replaced |
/// | idle | worker replaced | worker replaced | – | worker replaced |
/// | busy | job broke | outcome; next job, or idle | job broke | job broke |
enum State<T> {
    Starting {
        deadline: Instant,
    },
    Idle,
    /// It works on the first of these jobs, of which there is one at least.
    Busy {
        jobs: VecDeque<Handed<T>>,
        deadline: Instant,
    },
}

/// A job at the worker.
struct Handed<T> {
    number: u64,
    tag: T,
    job: Job,
}

impl<T> Intake<T> {
    /// Will run `program intake`, which must call
    /// [`run_on_stdin`](super::worker::run_on_stdin), from the first [`Intake::turn`] on. Turn it
    /// on a thread that lives as long as the process: a worker dies with the thread that started
    /// it.
    pub fn spawn(program: &Path) -> io::Result<Self> {
        let program = program.canonicalize()?;
        Ok(Self::with_command(move || {
            let mut command = Command::new(&program);
            // One heap, so that the address space is not eaten by empty ones.
            command.arg("intake").env_clear().env("MALLOC_ARENA_MAX", "1");
            command
        }))
    }

    fn with_command(command: impl FnMut() -> Command + Send + 'static) -> Self {
        Self {
            command: Box::new(command),
            worker: None,
            start_at: Instant::ZERO,
            failed_starts: 0,
            last_failure: String::new(),
            waiting: VecDeque::new(),
            held_bytes: 0,
            outcomes: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Whether [`Intake::submit`] takes a job of any size now.
    pub fn has_room(&self) -> bool {
        self.held() < JOBS_MAX && self.held_bytes < JOB_BYTES_MAX
    }

    /// Whether no job is held and no outcome waits.
    pub fn is_idle(&self) -> bool {
        self.held() == 0
    }

    /// Queues a job; call [`Intake::turn`] to move it.
    pub fn submit(&mut self, tag: T, job: Job) -> Result<(), Full<T>> {
        if !self.has_room() {
            return Err(Full { tag, job });
        }
        self.held_bytes += job.size();
        self.waiting.push_back((tag, job));
        Ok(())
    }

    /// The descriptor to poll and for what, while there is a worker.
    pub fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.worker.as_ref().map(|worker| (worker.framed.fd(), worker.framed.interest()))
    }

    /// When [`Intake::turn`] must be called at the latest, even if nothing comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.worker.as_ref().map(|worker| &worker.state) {
            None => Some(self.start_at),
            Some(State::Idle) => None,
            Some(State::Starting { deadline } | State::Busy { deadline, .. }) => Some(*deadline),
        }
    }

    /// Does what can be done without waiting. An error means that no worker can be started; the
    /// jobs that wait stay as they are.
    pub fn turn(&mut self, now: Instant) -> Result<(), IntakeError> {
        if self.failed_starts >= STARTS_MAX {
            return Err(IntakeError { last: self.last_failure.clone() });
        }
        if self.worker.is_none() && now >= self.start_at {
            match self.start(now) {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => self.start_failed(now, error.to_string()),
            }
        }
        if let Err(what) = self.listen(now) {
            self.replace(now, &what);
        }
        if let Err(what) = self.hand_over(now) {
            self.replace(now, &what);
        }
        Ok(())
    }

    /// The next job that is finished.
    pub fn poll_verdict(&mut self) -> Option<(T, Outcome)> {
        self.outcomes.pop_front()
    }

    fn held(&self) -> usize {
        let handed = match self.worker.as_ref().map(|worker| &worker.state) {
            Some(State::Busy { jobs, .. }) => jobs.len(),
            _ => 0,
        };
        self.waiting.len() + self.outcomes.len() + handed
    }

    fn start(&mut self, now: Instant) -> io::Result<Worker<T>> {
        let (ours, theirs) = UnixStream::pair()?;
        let framed = Framed::new(ours)?;
        let child = (self.command)()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        tracing::debug!(pid = child.id(), "intake worker started");
        let state = State::Starting { deadline: now + START_LIMIT };
        Ok(Worker { child, framed, jobs_done: 0, state })
    }

    /// Takes what the worker says; an error tells why it cannot be kept.
    fn listen(&mut self, now: Instant) -> Result<(), String> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        worker.framed.turn().map_err(|error| error.to_string())?;
        while let Some(said) = worker.framed.recv::<Say>().map_err(|error| error.to_string())? {
            let state = std::mem::replace(&mut worker.state, State::Idle);
            match (state, said) {
                (State::Starting { .. }, Say::Ready) => self.failed_starts = 0,
                (State::Busy { mut jobs, .. }, Say::Done { number, verdict })
                    if jobs.front().is_some_and(|first| first.number == number) =>
                {
                    worker.jobs_done += 1;
                    if let Some(Handed { tag, job, .. }) = jobs.pop_front() {
                        self.held_bytes -= job.size();
                        self.outcomes.push_back((tag, Outcome::from(verdict)));
                    }
                    if !jobs.is_empty() {
                        worker.state = State::Busy { jobs, deadline: now + JOB_LIMIT };
                    }
                }
                (state, _) => {
                    worker.state = state;
                    return Err("it spoke out of turn".to_owned());
                }
            }
        }
        match worker.state {
            State::Starting { deadline } if now >= deadline => {
                Err(format!("it did not come up within {START_LIMIT:?}"))
            }
            State::Busy { deadline, .. } if now >= deadline => {
                Err(format!("the job took longer than {JOB_LIMIT:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Gives the worker jobs until it has enough before it.
    fn hand_over(&mut self, now: Instant) -> Result<(), String> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        if matches!(worker.state, State::Idle) && worker.jobs_done >= WORKER_JOBS_MAX {
            // No failure, and nobody waits for it: the next turn starts a fresh one.
            worker.end();
            self.worker = None;
            self.start_at = now;
            return Ok(());
        }
        let mut handed = false;
        while worker.takes_more()
            && let Some((tag, job)) = self.waiting.pop_front()
        {
            let ask = Ask { number: self.next_number, job };
            self.next_number += 1;
            let sent = worker.framed.send(&ask).map_err(|error| error.to_string());
            let Ask { number, job } = ask;
            worker.take(Handed { number, tag, job }, now);
            sent?;
            handed = true;
        }
        if handed {
            worker.framed.turn().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Ends the worker because of `what`; the job it was at is lost, the next worker starts at the
    /// next turn and gets those behind it first.
    fn replace(&mut self, now: Instant, what: &str) {
        let Some(mut worker) = self.worker.take() else { return };
        let end = worker.end();
        tracing::warn!(pid = worker.child.id(), what, end, "intake worker replaced");
        self.start_at = now;
        match std::mem::replace(&mut worker.state, State::Idle) {
            State::Starting { .. } => self.start_failed(now, format!("{what} ({end})")),
            State::Idle => {}
            State::Busy { mut jobs, .. } => {
                if let Some(Handed { tag, job, .. }) = jobs.pop_front() {
                    self.held_bytes -= job.size();
                    let text = format!("the request broke the intake worker: {what} ({end})");
                    self.outcomes.push_back((tag, Outcome::Broke { text }));
                }
                for Handed { tag, job, .. } in jobs.into_iter().rev() {
                    self.waiting.push_front((tag, job));
                }
            }
        }
    }

    fn start_failed(&mut self, now: Instant, what: String) {
        self.failed_starts += 1;
        self.last_failure = what;
        self.start_at = now + START_AGAIN;
    }
}

impl<T> Worker<T> {
    /// Whether it is given another job now. One that had its share gets no more.
    fn takes_more(&self) -> bool {
        let ahead = match &self.state {
            State::Starting { .. } => return false,
            State::Idle => 0,
            State::Busy { jobs, .. } => jobs.len(),
        };
        ahead < AHEAD_MAX
            && self.jobs_done + (ahead as u64) < WORKER_JOBS_MAX
            && self.framed.has_room()
    }

    fn take(&mut self, handed: Handed<T>, now: Instant) {
        match &mut self.state {
            State::Busy { jobs, .. } => jobs.push_back(handed),
            state => {
                *state = State::Busy { jobs: [handed].into(), deadline: now + JOB_LIMIT };
            }
        }
    }

    /// Kills it if it still lives, and reaps it. Says how it ended.
    fn end(&mut self) -> String {
        // A worker that has ended by itself keeps its own status; killing it then is no error.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("its end is unknown: {error}"),
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> fmt::Debug for Intake<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("pid", &self.worker.as_ref().map(|worker| worker.child.id()))
            .field("waiting", &self.waiting.len())
            .field("outcomes", &self.outcomes.len())
            .finish_non_exhaustive()
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Csr(vetted) => Self::Csr(Box::new(vetted)),
            Verdict::OpenPgp(vetted) => Self::OpenPgp(vetted),
            Verdict::Refused { code, text } => Self::Refused(Refusal::new(code, text.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
