//! The signing threads: one for each core, with work for all of them at any time.
//!
//! What is put in is on disk as an intent; what comes out is not recorded yet and must not be
//! told to anybody. Nothing here opens the ledger or a file, so no thread that signs ever waits
//! for a disk. A pool without threads signs when it is told to: for a simulation, in which the
//! order of everything follows from one number.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use protocol::message::Serial;

use super::certify::{self, SignedOpenPgp};
use crate::{
    authority::Authority,
    fault::Fault,
    ledger::{Intent, OpenPgpIntent, OpenPgpJob},
    openpgp::OpenPgpAuthority,
};

/// Tasks for each core beyond which new requests wait for what is being signed: with so much in
/// hand no core runs dry while a batch is decided and recorded.
const PLENTY_PER_CORE: usize = 4;

/// An intent, and who signs it.
pub(super) enum Task {
    /// A certificate.
    Certificate { authority: Arc<Authority>, intent: Intent },
    /// Certifications of an OpenPGP key, or their revocations.
    OpenPgp { authority: Arc<OpenPgpAuthority>, intent: Box<OpenPgpIntent> },
}

impl Task {
    fn serial(&self) -> Option<Serial> {
        match self {
            Self::Certificate { intent, .. } => Some(intent.serial().clone()),
            Self::OpenPgp { intent, .. } => match intent.job() {
                OpenPgpJob::Certify { user_ids, .. } => user_ids.first()?.serial.clone(),
                OpenPgpJob::Revoke { .. } => None,
            },
        }
    }
}

/// What a task became; it is not recorded yet.
pub(super) enum Done {
    Certificate(Signed),
    OpenPgp(SignedOpenPgp),
}

/// A certificate that is not recorded yet.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) intent: Intent,
    pub(super) der: Vec<u8>,
}

/// The signing threads. They end when it is dropped.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Tasks that were put in and not taken out.
    in_hand: usize,
}

/// What the threads and the vault share.
struct Shared {
    state: Mutex<State>,
    /// Told when there is work, or none ever again.
    work: Condvar,
    /// Told when the bell rings.
    rung: Condvar,
    bell: EventFd,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Task>,
    signed: Vec<Result<Done, Fault>>,
    /// The vault was told that there is something to record.
    rung: bool,
    stopped: bool,
}

impl State {
    /// As much is done as is still to be done: recording it now shares one sync of the disk among
    /// as many as possible, and new work comes before the old runs out.
    fn is_worth_recording(&self) -> bool {
        !self.signed.is_empty() && self.signed.len() >= self.waiting.len()
    }
}

impl Pool {
    /// Starts a thread for each core.
    pub(super) fn start() -> Result<Self, Fault> {
        let mut pool = Self::without_threads()?;
        for _ in 0..cores() {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name("sign".into()).spawn(move || shared.serve());
            pool.threads.push(thread.map_err(|error| failed(&error.to_string()))?);
        }
        Ok(pool)
    }

    /// Nothing is signed but by [`Self::sign_next`] and while [`Self::wait`] waits for it.
    pub(super) fn without_threads() -> Result<Self, Fault> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|errno| failed(errno.desc()))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            rung: Condvar::new(),
            bell,
        });
        Ok(Self { shared, threads: Vec::new(), in_hand: 0 })
    }

    /// Signs the oldest task here and now; says its serial, or nothing if no task waits
    /// or what is signed has none.
    pub(super) fn sign_next(&self) -> Option<Serial> {
        let task = self.shared.lock().waiting.pop_front()?;
        let serial = task.serial();
        let signed = sign(task);
        self.shared.lock().signed.push(signed);
        serial
    }

    /// Readable when there is something to record.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// How many tasks were put in and not taken out.
    pub(super) fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Whether every core has enough to do while new work is prepared.
    pub(super) fn has_plenty(&self) -> bool {
        self.shared.lock().waiting.len() > PLENTY_PER_CORE * self.threads.len().max(1)
    }

    /// Puts in what the ledger holds as intents.
    pub(super) fn submit(&mut self, tasks: Vec<Task>) {
        let count = tasks.len();
        if count == 0 {
            return;
        }
        self.in_hand += count;
        self.shared.lock().waiting.extend(tasks);
        match count {
            1 => self.shared.work.notify_one(),
            _ => self.shared.work.notify_all(),
        }
    }

    /// Whether so much is signed that it should be recorded now.
    pub(super) fn is_worth_recording(&self) -> bool {
        let state = self.shared.lock();
        state.rung || state.is_worth_recording()
    }

    /// Takes what is signed; the first failure is the fault.
    pub(super) fn take(&mut self) -> Result<Vec<Done>, Fault> {
        let signed = {
            let mut state = self.shared.lock();
            if std::mem::take(&mut state.rung) {
                // It was rung, so there is something to read; nothing else reads it.
                let _ = self.shared.bell.read();
            }
            std::mem::take(&mut state.signed)
        };
        self.in_hand -= signed.len();
        signed.into_iter().collect()
    }

    /// Waits until there is something to take. Does not return early while tasks are in hand.
    pub(super) fn wait(&self) {
        if self.threads.is_empty() {
            while self.sign_next().is_some() {}
            return;
        }
        let mut state = self.shared.lock();
        while self.in_hand > 0 && !state.rung && !state.is_worth_recording() {
            state = self.shared.rung.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        // They stay in the ledger as intents, for the next start.
        state.waiting.clear();
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // It can only have panicked, and that was told as a fault.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of one thread.
    fn serve(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let Some(task) = state.waiting.pop_front() else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let signed = sign(task);
            state = self.lock();
            state.signed.push(signed);
            if !state.rung && state.is_worth_recording() {
                state.rung = true;
                self.rung.notify_one();
                // The counter cannot overflow: it is read before it is rung again.
                let _ = self.bell.write(1);
            }
        }
    }
}

fn sign(task: Task) -> Result<Done, Fault> {
    let sign = || match task {
        Task::Certificate { authority, intent } => {
            let der = authority.sign(&intent)?;
            Ok(Done::Certificate(Signed { intent, der }))
        }
        Task::OpenPgp { authority, intent } => {
            certify::sign(&authority, *intent).map(Done::OpenPgp)
        }
    };
    catch_unwind(AssertUnwindSafe(sign))
        .unwrap_or_else(|_| Err(Fault::Internal("a signing thread failed".into())))
}

fn failed(what: &str) -> Fault {
    Fault::Internal(format!("the signing threads: {what}"))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
