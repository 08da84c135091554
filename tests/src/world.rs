//! A scratch folder with a signer, a frontend and the cable between them.
//!
//! It starts, stops and kills the real programs and types their commands. It decides nothing
//! about what is right: that is for the tests and the tools they ask.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Process};

/// How the two programs are joined.
#[derive(Clone, Debug)]
pub enum Cable {
    /// A unix socket: no line limit.
    Unix,
    /// `link-sim pty`.
    Line {
        /// The line's speed.
        baud: u32,
        /// Further options of `link-sim pty`.
        options: Vec<String>,
    },
}

impl Cable {
    /// A clean line at 115,200 baud.
    pub fn line() -> Self {
        Self::faulty(&[])
    }

    /// A line at 115,200 baud with these faults.
    pub fn faulty(options: &[&str]) -> Self {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        Self::Line { baud: 115_200, options }
    }

    /// A clean line at another speed.
    pub fn slow(baud: u32) -> Self {
        Self::Line { baud, options: Vec::new() }
    }
}

/// Everything that one story needs.
pub struct World {
    scratch: PathBuf,
    /// Removes the folder at the end, unless it is to be kept.
    removal: Option<TempDir>,
    programs: PathBuf,
    cable: Cable,
    wire: Option<Process>,
    signer: Option<Process>,
    frontend: Option<Process>,
}

/// The longest that a single command may take before the test gives up.
pub const COMMAND_MAX: Duration = Duration::from_secs(120);
/// The longest that a program may take to start or to stop.
pub const START_MAX: Duration = Duration::from_secs(20);
/// Looks of some milliseconds each.
const LOOKS_MAX: usize = 1000;

impl World {
    /// An empty world; nothing runs yet.
    pub fn new(cable: Cable) -> Result<Self> {
        let removal = tempfile::Builder::new().prefix("signer-test-").tempdir()?;
        let scratch = removal.path().to_owned();
        Self::at(scratch, Some(removal), cable)
    }

    /// An empty world in a folder that stays.
    pub fn kept(scratch: &Path, cable: Cable) -> Result<Self> {
        fs::create_dir_all(scratch)?;
        Self::at(scratch.to_owned(), None, cable)
    }

    fn at(scratch: PathBuf, removal: Option<TempDir>, cable: Cable) -> Result<Self> {
        let world = Self {
            scratch,
            removal,
            programs: programs()?,
            cable,
            wire: None,
            signer: None,
            frontend: None,
        };
        fs::create_dir_all(world.path("gnupg"))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(world.path("gnupg"), private)?;
        Ok(world)
    }

    //--- Files ---

    /// A path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A path as text, for command lines.
    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of an authority in the signer's store.
    pub fn authority(&self, authority: &str, name: &str) -> String {
        self.file(&format!("signer/authorities/{authority}/{name}"))
    }

    /// Writes a file into the scratch folder and returns its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<String> {
        fs::write(self.path(name), bytes).with_context(|| name.to_owned())?;
        Ok(self.file(name))
    }

    //--- Commands ---

    /// The path of one of our programs, for command lines.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    /// Types a command of the signer and returns however it ended.
    pub fn signer(&self, words: &[&str]) -> Result<Ended> {
        self.run("signer", words, None)
    }

    /// Types a command of the frontend and returns however it ended.
    pub fn frontend(&self, words: &[&str]) -> Result<Ended> {
        self.run("frontend", words, None)
    }

    /// Types a command of the frontend with something on its standard input.
    pub fn frontend_fed(&self, words: &[&str], input: &[u8]) -> Result<Ended> {
        self.run("frontend", words, Some(input))
    }

    /// Runs somebody else's tool and returns however it ended.
    pub fn tool(&self, name: &str, words: &[&str]) -> Result<Ended> {
        let folder = self.path("gnupg");
        let variables = [("GNUPGHOME", folder.as_os_str())];
        let ended = Process::run(Path::new(name), words, &variables, None, COMMAND_MAX)?;
        let absent = ended.code == Some(NOT_FOUND) && ended.stderr.contains("failed to execute");
        ensure!(!absent, "`{name}` is not installed; run `cargo xtask setup`");
        Ok(ended)
    }

    /// Runs `openssl`, which must end well.
    pub fn openssl(&self, words: &[&str]) -> Result<Ended> {
        self.tool("openssl", words)?.done()
    }

    /// What a reading command of the frontend prints with `--json`.
    pub fn frontend_json(&self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        parse(self.frontend(&words)?.done()?)
    }

    /// What a reading command of the signer prints with `--json`.
    pub fn signer_json(&self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        parse(self.signer(&words)?.done()?)
    }

    /// Queues a request, revocation or certification and returns its id.
    pub fn queue(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        id_in(&self.frontend(&words)?.done()?)
    }

    /// Sends a request and waits for its certificate, whose file it returns with the id.
    pub fn complete(&self, words: &[&str]) -> Result<(String, String)> {
        let words: Vec<&str> = words.iter().copied().chain(["--wait", WAIT_S, "--json"]).collect();
        let id = id_in(&self.frontend(&words)?.done()?)?;
        let file = self.file(&format!("{id}.pem"));
        self.frontend(&["get", &id, "--out", &file])?.done()?;
        Ok((id, file))
    }

    /// Has the issuing authority certify a new P-256 key for `NAME.example.org`; the certificate's
    /// file.
    pub fn issued(&self, name: &str) -> Result<String> {
        let host = format!("dns:{name}.example.org");
        let csr = self.csr(name, "ec:P-256", &format!("/CN={name}.example.org"))?;
        let words = ["request", "--authority", "issuing", "--profile", "server"];
        let (_, file) = self.complete(&[&words[..], &["--csr", &csr, "--san", &host]].concat())?;
        Ok(file)
    }

    /// Sends what must be refused and returns the refusal's code. Whether the frontend refuses at
    /// once or the signer does, the exit code is 2 and the error names the code.
    pub fn refusal(&self, words: &[&str]) -> Result<String> {
        let words: Vec<&str> = words.iter().copied().chain(["--wait", WAIT_S]).collect();
        let ended = self.frontend(&words)?.with_code(2)?;
        let code = ended.stderr.split_once("refused (").and_then(|(_, rest)| rest.split_once(')'));
        let (code, _) =
            code.ok_or_else(|| anyhow!("a refusal without a code: {}", ended.stderr))?;
        Ok(code.to_owned())
    }

    /// Waits until the mirrored CRL of an authority lists this serial; the CRL's file.
    pub fn crl_with(&self, authority: &str, serial: &str) -> Result<String> {
        let file = self.file(&format!("{authority}.crl"));
        let frontend = self.frontend.as_ref().context("the frontend was not started")?;
        let entry = format!("Serial Number: {serial}");
        frontend
            .until(START_MAX, || {
                self.frontend(&["crl", authority, "--out", &file])?.done()?;
                let text = self.openssl(&["crl", "-in", &file, "-noout", "-text"])?.text();
                Ok(text.contains(&entry))
            })
            .with_context(|| format!("{serial} does not come into {authority}'s mirrored CRL"))?;
        Ok(file)
    }

    /// What `look` finds, as soon as it finds something. A program's line in its log is no sign that
    /// `status` tells of it already: both are of one turn, and the line comes first. Each look runs a
    /// program, so the loop is no busy one; it has a bound all the same.
    pub fn once<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        for _ in 0..LOOKS_MAX {
            if let Some(found) = look()? {
                return Ok(found);
            }
        }
        bail!("it does not come:\n{}", self.log_tails())
    }

    /// What `status` shows once all these words are in it.
    pub fn told(&self, status: impl Fn() -> Result<Ended>, words: &[&str]) -> Result<String> {
        let mut text = String::new();
        let found = self.once(|| {
            text = status()?.text();
            Ok(words.iter().all(|word| text.contains(word)).then(|| text.clone()))
        });
        found.with_context(|| format!("{words:?} are not all in: {text}"))
    }

    fn run(&self, program: &str, words: &[&str], input: Option<&[u8]>) -> Result<Ended> {
        let (signer, frontend) = (self.path("signer"), self.path("frontend"));
        let variables = variables(&signer, &frontend);
        Process::run(&self.programs.join(program), words, &variables, input, COMMAND_MAX)
    }

    //--- Programs ---

    /// Makes the stores of both sides: a root, an issuing authority with this key, no OpenPGP key.
    pub fn found(&self, key: &str) -> Result<()> {
        self.signer(&["init"])?.done()?;
        let root = ["authority", "create", "root", "--subject", ROOT, "--key", "ec:P-256"];
        self.signer(&root)?.done()?;
        let issuing = ["authority", "create", "issuing", "--subject", ISSUING, "--key", key];
        let issuing: Vec<&str> = issuing.into_iter().chain(["--issued-by", "root"]).collect();
        self.signer(&issuing)?.done()?;
        self.frontend(&["init"])?.done()?;
        self.pair()
    }

    /// Types the key of each side at the other; a frontend that is new takes the place of the old.
    pub fn pair(&self) -> Result<()> {
        let key = |shown: Value, whose: &str| {
            let key = shown[whose]["key"].as_str().map(str::to_owned);
            key.with_context(|| format!("`pair --show` shows no key of the {whose}"))
        };
        let signer = key(self.signer_json(&["pair", "--show"])?, "signer")?;
        let frontend = key(self.frontend_json(&["pair", "--show"])?, "frontend")?;
        self.signer(&["pair", "--peer", &frontend, "--replace"])?.done()?;
        self.frontend(&["pair", "--peer", &signer])?.done().map(drop)
    }

    /// Lays the cable and starts both programs.
    pub fn start(&mut self) -> Result<()> {
        self.start_wire()?;
        self.start_signer()?;
        self.start_frontend(&[])
    }

    /// Lays the cable, if it is a line.
    pub fn start_wire(&mut self) -> Result<()> {
        let Cable::Line { baud, options } = &self.cable else { return Ok(()) };
        let (a, b, baud) = (self.file("tty-frontend"), self.file("tty-signer"), baud.to_string());
        let words = ["pty", "--links", &a, &b, "--baud", &baud];
        let words = words.into_iter().chain(options.iter().map(String::as_str));
        let wire = self.begin("link-sim", words)?;
        wire.wait_for("ready", START_MAX)?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Starts the signer.
    pub fn start_signer(&mut self) -> Result<()> {
        self.start_signer_with(&[])
    }

    /// Starts the signer with further options.
    pub fn start_signer_with(&mut self, options: &[&str]) -> Result<()> {
        let link = self.link("tty-signer");
        let words = ["run", "--link", &link].into_iter().chain(options.iter().copied());
        self.signer = Some(self.begin("signer", words)?);
        Ok(())
    }

    /// Starts the frontend with further options, such as `--until-idle`.
    pub fn start_frontend(&mut self, options: &[&str]) -> Result<()> {
        let link = self.frontend_link();
        let words = ["run", "--link", &link].into_iter().chain(options.iter().copied());
        self.frontend = Some(self.begin("frontend", words)?);
        Ok(())
    }

    /// The frontend's end of the cable, as `--link` takes it.
    pub fn frontend_link(&self) -> String {
        self.link("tty-frontend")
    }

    /// The running cable.
    pub fn wire(&mut self) -> Result<&mut Process> {
        self.wire.as_mut().context("there is no simulated line")
    }

    /// The running signer.
    pub fn running_signer(&mut self) -> Result<&mut Process> {
        self.signer.as_mut().context("the signer was not started")
    }

    /// The running frontend.
    pub fn running_frontend(&mut self) -> Result<&mut Process> {
        self.frontend.as_mut().context("the frontend was not started")
    }

    /// `kill -9` to the signer, then a new start.
    pub fn kill_and_restart_signer(&mut self) -> Result<()> {
        self.running_signer()?.kill()?;
        self.start_signer()
    }

    /// `kill -9` to the frontend, then a new start.
    pub fn kill_and_restart_frontend(&mut self) -> Result<()> {
        self.running_frontend()?.kill()?;
        self.start_frontend(&[])
    }

    /// Takes the cable out.
    pub fn cut(&mut self) -> Result<()> {
        self.wire()?.signal(Signal::SIGUSR1)
    }

    /// Puts the cable in again.
    pub fn plug(&mut self) -> Result<()> {
        self.wire()?.signal(Signal::SIGUSR2)
    }

    /// Stops the frontend, then runs it until nothing waits any more.
    pub fn run_until_idle(&mut self, within: Duration) -> Result<()> {
        if let Some(mut frontend) = self.frontend.take() {
            frontend.stop(START_MAX)?;
        }
        self.start_frontend(&["--until-idle"])?;
        let ended = self.running_frontend()?.ended(within);
        self.frontend = None;
        ended?.done().map(drop)
    }

    /// Stops everything in order; each program must end by itself with 0.
    pub fn stop(&mut self) -> Result<Stopped> {
        let stop = |process: Option<Process>| match process {
            Some(mut process) => process.stop(START_MAX)?.done().map(|ended| ended.stderr),
            None => Ok(String::new()),
        };
        Ok(Stopped {
            frontend: stop(self.frontend.take())?,
            signer: stop(self.signer.take())?,
            wire: stop(self.wire.take())?,
        })
    }

    /// Ends whatever daemon gpg left in the background.
    pub fn end_gpg(&self) {
        if self.path("gnupg").read_dir().is_ok_and(|mut folder| folder.next().is_some()) {
            // Best effort: without a daemon there is nothing to end.
            let _ = self.tool("gpgconf", &["--kill", "all"]);
        }
    }

    /// The last lines of every program's log.
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        for name in PROGRAMS {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            text.push_str(&format!("--- the end of {name}'s log\n{}\n", tail.join("\n")));
        }
        text
    }

    fn begin<'a>(
        &self,
        program: &str,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Process> {
        let (signer, frontend) = (self.path("signer"), self.path("frontend"));
        let log = self.path(&format!("{program}.log"));
        let path = self.programs.join(program);
        Process::start(program, &path, words, &variables(&signer, &frontend), None, Some(&log))
    }

    fn link(&self, device: &str) -> String {
        match &self.cable {
            Cable::Unix => format!("unix:{}", self.file("link.sock")),
            Cable::Line { baud, .. } => format!("pty:{}?baud={baud}", self.file(device)),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_gpg();
        if thread::panicking() {
            if let Some(removal) = &mut self.removal {
                removal.disable_cleanup(true);
            }
            eprintln!("{}the files stay in {}", self.log_tails(), self.scratch.display());
        }
    }
}

/// What the programs wrote to standard error by their end.
#[derive(Debug)]
pub struct Stopped {
    /// The frontend.
    pub frontend: String,
    /// The signer.
    pub signer: String,
    /// The simulated line, with its counts.
    pub wire: String,
}

/// The request id that a command printed with `--json`.
pub fn id_in(ended: &Ended) -> Result<String> {
    let value: Value = serde_json::from_slice(&ended.stdout)
        .with_context(|| format!("`{}` printed no JSON: {}", ended.command, ended.text()))?;
    let id = value["id"].as_str();
    Ok(id.ok_or_else(|| anyhow!("`{}` printed no id", ended.command))?.to_owned())
}

fn parse(ended: Ended) -> Result<Value> {
    serde_json::from_slice(&ended.stdout)
        .with_context(|| format!("`{}` printed no JSON: {}", ended.command, ended.text()))
}

fn variables<'a>(signer: &'a Path, frontend: &'a Path) -> [(&'static str, &'a OsStr); 2] {
    [("SIGNER_DIR", signer.as_os_str()), ("FRONTEND_DIR", frontend.as_os_str())]
}

/// The folder of the built programs: where this program lies, or above a test's `deps`.
pub fn programs() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .find(|folder| PROGRAMS.into_iter().all(|name| folder.join(name).is_file()));
    found.map(Path::to_owned).ok_or_else(|| {
        anyhow!("signer, frontend and link-sim are not built; run `cargo xtask test`")
    })
}

const PROGRAMS: [&str; 3] = ["signer", "frontend", "link-sim"];
const ROOT: &str = "/O=Test/CN=Test Root";
const ISSUING: &str = "/O=Test/CN=Test Issuing";
/// How `setpriv` ends when there is no such program.
pub(crate) const NOT_FOUND: i32 = 127;
/// How long a command waits for an answer, in seconds.
const WAIT_S: &str = "60";
/// So many lines of each log are quoted.
const LOG_TAIL: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_is_a_failure_that_says_how_to_get_it() {
        let world = World::new(Cable::Unix).unwrap();
        let error = world.tool("no-such-judge", &["--verify"]).unwrap_err().to_string();
        assert_eq!(error, "`no-such-judge` is not installed; run `cargo xtask setup`");
        assert!(world.tool("false", &[]).unwrap().with_code(1).is_ok());
    }
}
