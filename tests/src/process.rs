//! One running program: its lines as they come, its end, and its death with ours.
//!
//! Every wait has a deadline and is woken by the event itself: a line, the end of the output.
#![expect(clippy::disallowed_methods, reason = "driver: deadlines of real processes")]

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

/// The processes below this one that were started with `word` on their command line.
pub fn below(process: u32, word: &str) -> Vec<u32> {
    let mut family = vec![process];
    let mut asked = 0;
    // Who ends while it is asked about has no more children and no words.
    while let Some(parent) = family.get(asked) {
        let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .collect::<String>();
        family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        asked += 1;
    }
    family.retain(|id| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        *id != process && words.split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    });
    family
}

/// A program that runs until it is told to stop, or for the length of one command.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    status: Option<ExitStatus>,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, if it ended with 0.
    pub fn done(self) -> Result<Self> {
        self.with_code(0)
    }

    /// Itself, if it ended with this code.
    pub fn with_code(self, code: i32) -> Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { command, code: actual, stderr, .. } = &self;
        let ended = actual.map_or("a signal".to_owned(), |code| format!("code {code}"));
        bail!("`{command}` ended with {ended}, expected {code}\n{}{stderr}", self.text())
    }
}

/// What a program has written so far.
#[derive(Default)]
struct Output {
    state: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
}

/// The two streams.
#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl Process {
    /// Starts a program with these arguments and variables. It dies when the thread that started
    /// it dies, however that happens.
    pub fn start<I, S>(
        name: &str,
        program: &Path,
        arguments: I,
        variables: &[(&str, &OsStr)],
        input: Option<&[u8]>,
        log: Option<&Path>,
    ) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let arguments: Vec<OsString> =
            arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(&arguments);
        command.envs(variables.iter().copied());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("setpriv (package util-linux) does not start")?;

        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let log = match log {
            Some(path) => Some(File::options().create(true).append(true).open(path)?),
            None => None,
        };
        let stdout = child.stdout.take().context("standard output is piped")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        output.follow(stdout, Stream::Out, log.as_ref().map(File::try_clone).transpose()?);
        output.follow(stderr, Stream::Err, log);
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            let input = input.to_owned();
            // In a thread of its own: a program may answer before it has read all. One that ends
            // without reading closes the pipe, which is its right.
            thread::spawn(move || stdin.write_all(&input).unwrap_or_default());
        }
        Ok(Self { name: format!("{name} {}", words.join(" ")), child, output, status: None })
    }

    /// Runs a program to its end, at most this long.
    pub fn run<I, S>(
        program: &Path,
        arguments: I,
        variables: &[(&str, &OsStr)],
        input: Option<&[u8]>,
        within: Duration,
    ) -> Result<Ended>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        Self::start(&name, program, arguments, variables, input, None)?.ended(within)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line that holds `words` is written to either stream, and returns it.
    pub fn wait_for(&self, words: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        let output = Arc::clone(&self.output);
        let mut state = output.lock();
        loop {
            let found = [&state.stdout, &state.stderr].into_iter().find_map(|bytes| {
                let text = String::from_utf8_lossy(bytes);
                text.split_inclusive('\n')
                    .find(|line| line.ends_with('\n') && line.contains(words))
                    .map(|line| line.trim_end().to_owned())
            });
            if let Some(line) = found {
                return Ok(line);
            }
            if state.open == 0 {
                bail!("`{}` ended before it said `{words}`", self.name);
            }
            state = output
                .wait(state, deadline)
                .ok_or_else(|| anyhow!("`{}` did not say `{words}` in {within:?}", self.name))?;
        }
    }

    /// Waits until so many more lines are written to standard error. False when it stays quiet
    /// for too long or ends.
    pub fn wait_for_more(&self, lines: usize, quiet_max: Duration) -> Result<bool> {
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        let deadline = Instant::now() + quiet_max;
        let output = Arc::clone(&self.output);
        let mut state = output.lock();
        let wanted = count(&state.stderr) + lines;
        while count(&state.stderr) < wanted {
            if state.open == 0 {
                return Ok(false);
            }
            state = match output.wait(state, deadline) {
                Some(state) => state,
                None => return Ok(false),
            };
        }
        Ok(true)
    }

    /// Waits until `check` holds, which is asked again after every line on standard error.
    pub fn until(&self, within: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.output.lock().stderr.len();
            if check()? {
                return Ok(());
            }
            let mut state = self.output.lock();
            while state.stderr.len() == seen {
                if state.open == 0 {
                    bail!("`{}` ended before it happened", self.name);
                }
                state = self
                    .output
                    .wait(state, deadline)
                    .ok_or_else(|| anyhow!("it did not happen in {within:?}"))?;
            }
        }
    }

    /// Waits until the program and all that it started have ended.
    pub fn ended(&mut self, within: Duration) -> Result<Ended> {
        let deadline = Instant::now() + within;
        let output = Arc::clone(&self.output);
        let mut state = output.lock();
        while state.open > 0 {
            state = match output.wait(state, deadline) {
                Some(state) => state,
                None => {
                    self.kill_only()?;
                    bail!("`{}` did not end in {within:?}", self.name)
                }
            };
        }
        drop(state);
        let status = self.reap()?;
        let state = output.lock();
        Ok(Ended {
            command: self.name.clone(),
            code: status.code(),
            stdout: state.stdout.clone(),
            stderr: String::from_utf8_lossy(&state.stderr).into_owned(),
        })
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_none())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        let id = i32::try_from(self.child.id()).context("a process id is positive")?;
        signal::kill(Pid::from_raw(id), signal)
            .with_context(|| format!("cannot send {signal} to `{}`", self.name))
    }

    /// Asks it to end and waits.
    pub fn stop(&mut self, within: Duration) -> Result<Ended> {
        self.signal(Signal::SIGTERM)?;
        self.ended(within)
    }

    /// `kill -9`, and the wait until everything that it started is gone too.
    pub fn kill(&mut self) -> Result<()> {
        self.kill_only()?;
        self.ended(Duration::from_secs(10)).map(drop)
    }

    /// The last lines of what it wrote.
    pub fn tail(&self, lines: usize) -> String {
        let state = self.output.lock();
        let mut text = String::from_utf8_lossy(&state.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&state.stderr));
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Everything that it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().stderr).into_owned()
    }

    fn kill_only(&mut self) -> Result<()> {
        if self.status.is_none() {
            self.child.kill().with_context(|| format!("cannot kill `{}`", self.name))?;
            self.reap()?;
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: the death signal stays behind it.
        let _ = self.kill_only();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Written> {
        // A reader that panicked has at worst lost some lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next change; nothing when the deadline is past.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, Written>,
        deadline: Instant,
    ) -> Option<MutexGuard<'a, Written>> {
        let left = deadline.checked_duration_since(Instant::now())?;
        let (state, _) =
            self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        Some(state)
    }

    fn follow(
        self: &Arc<Self>,
        stream: impl Read + Send + 'static,
        which: Stream,
        mut log: Option<File>,
    ) {
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            // By lines, so that two streams do not mix within one in the log.
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                if let Some(log) = &mut log {
                    let _ = log.write_all(&line);
                }
                let mut state = output.lock();
                match which {
                    Stream::Out => state.stdout.append(&mut line),
                    Stream::Err => state.stderr.append(&mut line),
                }
                output.changed.notify_all();
            }
            output.lock().open -= 1;
            output.changed.notify_all();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start("sh", Path::new("sh"), ["-c", script], &[], None, None).unwrap()
    }

    #[test]
    fn a_line_is_waited_for_and_its_absence_is_told() {
        let mut process = shell("echo one; echo two three >&2; exec tail -f /dev/null");
        assert_eq!(process.wait_for("three", LONG).unwrap(), "two three");
        assert_eq!(process.wait_for("one", LONG).unwrap(), "one");
        assert!(process.wait_for("four", SHORT).is_err());
        assert!(process.is_running().unwrap());
    }

    #[test]
    fn a_program_that_ended_says_no_more() {
        let process = shell("echo one");
        assert!(process.wait_for("two", LONG).unwrap_err().to_string().contains("ended before"));
        assert!(!process.wait_for_more(1, LONG).unwrap());
    }

    #[test]
    fn the_end_is_waited_for_with_all_that_was_said() {
        let ended = shell("cat; echo bad >&2; exit 3").ended(LONG).unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), "bad\n"));
        assert!(ended.with_code(0).unwrap_err().to_string().contains("expected 0"));
        let words: [&str; 0] = [];
        let ended = Process::run(Path::new("cat"), words, &[], Some(b"in"), LONG).unwrap();
        assert_eq!(ended.done().unwrap().text(), "in");
    }

    #[test]
    fn a_program_that_hangs_is_ended_at_its_deadline() {
        let mut process = shell("exec tail -f /dev/null");
        assert!(process.ended(SHORT).unwrap_err().to_string().contains("did not end"));
        assert!(!process.is_running().unwrap());
    }

    #[test]
    fn a_signal_and_a_kill_end_a_program() {
        assert_eq!(shell("exec tail -f /dev/null").stop(LONG).unwrap().code, None);
        let mut process = shell("exec tail -f /dev/null");
        process.kill().unwrap();
        assert!(!process.is_running().unwrap());
    }
}
