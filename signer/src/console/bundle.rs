//! `signer bundle answer`: the vault for one bundle of requests on a medium, no cable anywhere.
//!
//! The store is taken as `signer run` takes it, so the two never work at once. The file is opened
//! by a process of its own, which has the link's key and none of ours ([`crate::gate::bundle`]);
//! here come its typed calls, as from the cable. The answers are a file only when all of them are
//! in it.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use protocol::{
    message::{Answer, TimeHint},
    secure::Pairing,
};

use super::{
    Failure, LogForm, Passphrase, boot_id,
    gate::{self, Running},
    now, system_random,
};
use crate::{
    calendar::UnixTime,
    call::{Call, Reply, Tagged},
    clock::Moment,
    durable,
    fault::Fault,
    framing::FramingError,
    gate::bundle::{Outcome, Said, SecretText, Told},
    link_key,
    vault::{BundleVerdict, Settings, Vault},
};

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Decide, sign and answer everything in the bundle IN, which `frontend bundle export` wrote,
    /// and write the answers to OUT. The same bundle may be answered again: the answers are the
    /// same. Not while `signer run` runs
    Answer(AnswerArguments),
}

/// `signer bundle answer`
#[derive(Debug, Args)]
pub(super) struct AnswerArguments {
    /// The bundle of requests
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file for the answers, which must not be there yet
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Open the bundle as this user, who must be allowed to read IN
    #[arg(long)]
    gate_user: Option<String>,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// Answers one bundle.
pub(super) fn answer(
    store: &Path,
    arguments: &AnswerArguments,
    log: LogForm,
    json: bool,
) -> Result<(), Failure> {
    let pairing = link_key::pairing(store)?;
    let settings = Settings {
        directory: store.to_owned(),
        passphrase: arguments.passphrase.read()?,
        boot_id: boot_id()?,
    };
    let vault = Vault::open(settings, system_random(), now()?)?;
    let output = Output::create(&arguments.output)?;
    let gate = start_gate(arguments, &output, log)?;
    let mut desk = Desk {
        vault,
        gate,
        replies: VecDeque::new(),
        counts: Counts::default(),
        crls_signed: false,
        notes: Vec::new(),
    };
    let (facts, outcome) = desk.serve(&pairing)?;
    output.keep()?;
    // What was answered is in the files of the store as well before the person leaves.
    desk.vault.handle(now()?, Vec::new())?;
    desk.vault.settle_files(now()?)?;
    report(arguments, &desk, &facts, &outcome, json);
    Ok(())
}

/// Which bundle was answered under which number.
struct Facts {
    number: u64,
    answer: u64,
    again: bool,
    messages: u64,
}

fn report(arguments: &AnswerArguments, desk: &Desk, facts: &Facts, outcome: &Outcome, json: bool) {
    let Facts { number, answer, again, messages } = *facts;
    let Counts { issued, certified, revoked, refused, quarantined, held } = desk.counts;
    let Outcome { length, unanswered, crls, left_out, unknown } = *outcome;
    let output = arguments.output.display();
    let mut notes = desk.notes.clone();
    notes.extend(desk.vault.warnings().iter().cloned());
    if unanswered > 0 {
        notes.push(format!(
            "{unanswered} requests have no answer; the webdb asks again in its next bundle"
        ));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} CRLs did not fit; they come with the next bundle"));
    }
    if unknown > 0 {
        notes.push(format!(
            "{unknown} messages of the bundle are none that this program knows; upgrade it"
        ));
    }
    if json {
        say!(
            "{}",
            serde_json::json!({
                "bundle": number, "answers": answer, "again": again, "messages": messages,
                "issued": issued, "certified": certified, "revoked": revoked,
                "refused": refused, "quarantined": quarantined, "held": held, "crls": crls,
                "unanswered": unanswered, "left_out": left_out, "unknown": unknown,
                "length": length, "file": output.to_string(), "notes": notes,
            })
        );
        return;
    }
    let again = if again { " again" } else { "" };
    say!("bundle {number} is answered{again}, answers number {answer}:");
    for (count, what) in [
        (issued, "certificates"),
        (certified, "OpenPGP keys"),
        (revoked, "revocations"),
        (refused, "refusals"),
        (quarantined, "quarantined"),
        (held, "wait for a person"),
        (crls, "CRLs"),
    ] {
        if count > 0 {
            say!("  {count} {what}");
        }
    }
    for note in &notes {
        say!("note: {note}");
    }
    say!("written to {output}, {length} bytes; unmount the medium before you pull it out");
}

/// How many answers of each kind there are.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    issued: u64,
    certified: u64,
    revoked: u64,
    refused: u64,
    quarantined: u64,
    held: u64,
}

impl Counts {
    fn note(&mut self, answer: &Answer) {
        match answer {
            Answer::Issued { .. } => self.issued += 1,
            Answer::Certified { .. } => self.certified += 1,
            Answer::Revoked { .. } | Answer::CertificationRevoked { .. } => self.revoked += 1,
            Answer::Refused { .. } => self.refused += 1,
            Answer::Quarantined { .. } => self.quarantined += 1,
            Answer::Held { .. } => self.held += 1,
            _ => {}
        }
    }
}

//------------ Output --------------------------------------------------------

/// The file for the answers: under another name until it is whole, gone if it never is.
struct Output {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    kept: bool,
}

impl Output {
    fn create(path: &Path) -> Result<Self, Failure> {
        let exists = || {
            Fault::Configuration(format!(
                "{} is there already, and nothing is written over; name another file",
                path.display()
            ))
        };
        if path.symlink_metadata().is_ok() {
            return Err(exists().into());
        }
        let unfinished = path.with_added_extension("unfinished");
        // Whoever had the medium may have put a link there: what is made is new, or nothing is.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Fault::disk("remove", &unfinished)(error).into());
            }
            _ => {}
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&unfinished)
            .map_err(Fault::disk("make", &unfinished))?;
        // It is sealed; at the webdb another user reads it.
        match file.set_permissions(fs::Permissions::from_mode(0o644)) {
            // A medium without owners and modes has none to set.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                return Err(Fault::disk("set the mode of", &unfinished)(error).into());
            }
            _ => {}
        }
        Ok(Self { path: path.to_owned(), unfinished, file, kept: false })
    }

    /// Gives the file its name. The gate has synced what is in it.
    fn keep(mut self) -> Result<(), Failure> {
        fs::rename(&self.unfinished, &self.path)
            .map_err(Fault::disk("rename", &self.unfinished))?;
        self.kept = true;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(durable::sync_directory(parent.unwrap_or(Path::new(".")))?)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.kept {
            // A medium that was pulled out has nothing to remove.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

//------------ Gate ----------------------------------------------------------

/// Starts the process that opens the bundle.
fn start_gate(
    arguments: &AnswerArguments,
    output: &Output,
    log: LogForm,
) -> Result<Running, Failure> {
    let file = output.file.try_clone().context("cannot hand the file for the answers over")?;
    let words = [OsStr::new("bundle-gate"), arguments.input.as_os_str()];
    gate::start(&words, file, arguments.gate_user.as_deref(), log)
}

//------------ Desk ----------------------------------------------------------

/// The vault at work on one bundle.
struct Desk {
    vault: Vault,
    gate: Running,
    /// Replies that the socket did not take yet.
    replies: VecDeque<Tagged<Reply>>,
    counts: Counts,
    /// Whether every revocation of the bundle is in a CRL.
    crls_signed: bool,
    /// Sentences for the operator.
    notes: Vec<String>,
}

impl Desk {
    fn serve(&mut self, pairing: &Pairing) -> Result<(Facts, Outcome), Failure> {
        let facts = self.open(pairing)?;
        loop {
            let mut calls = Vec::new();
            self.gate.framed.turn().map_err(|error| ended(&error))?;
            // A gate that does not take its replies gets no more of them.
            while self.replies.is_empty() && calls.len() < self.vault.room() {
                match self.hear()? {
                    Some(Said::Call(call)) => calls.push(call),
                    Some(Said::Done(outcome)) => return Ok((facts, outcome)),
                    Some(said) => return Err(out_of_step(&said)),
                    None => break,
                }
            }
            let idle = calls.is_empty();
            self.work_off(calls)?;
            self.flush()?;
            if idle {
                self.wait()?;
            }
        }
    }

    /// Has the gate open the bundle, and takes its number.
    fn open(&mut self, pairing: &Pairing) -> Result<Facts, Failure> {
        // A command at the console may read it, and standard output is taken.
        let secret = SecretText::new(&pairing.secret.to_file());
        self.tell(&Told::Keys { secret, peer: pairing.peer.0 })?;
        let (facts, messages) = loop {
            match self.hear()? {
                Some(Said::Opened { facts, messages }) => break (facts, messages),
                Some(said) => return Err(out_of_step(&said)),
                None => self.wait()?,
            }
            self.gate.framed.turn().map_err(|error| ended(&error))?;
        };
        match self.vault.take_bundle(now()?, &facts)? {
            BundleVerdict::Taken { answer, again } => {
                self.tell(&Told::Taken { answer })?;
                Ok(Facts { number: facts.number, answer, again, messages })
            }
            BundleVerdict::Refused(text) => Err(Failure::BadFile(text)),
        }
    }

    /// What the gate says next; its refusals and faults are ours to tell.
    fn hear(&mut self) -> Result<Option<Said>, Failure> {
        match self.gate.framed.recv::<Said>() {
            Ok(Some(Said::Refused(text))) => Err(Failure::BadFile(text.to_string())),
            Ok(Some(Said::Failed(text))) => Err(Failure::Away(text.to_string())),
            Ok(said) => Ok(said),
            Err(error) => Err(ended(&error)),
        }
    }

    fn tell(&mut self, told: &Told) -> Result<(), Failure> {
        let sent = self.gate.framed.send(told).and_then(|()| self.gate.framed.turn());
        sent.map_err(|error| ended(&error))
    }

    /// A turn of the vault with these calls.
    fn work_off(&mut self, calls: Vec<Tagged<Call>>) -> Result<(), Failure> {
        let moment = now()?;
        let mut for_vault = Vec::new();
        for Tagged { tag, body } in calls {
            match body {
                // It is hours old: good for a look at the clock, never for setting it.
                Call::TimeHint { hint, .. } => {
                    self.notes.extend(clock_note(moment, hint));
                    let answer = Answer::TimeHintTaken { unix_us: moment.unix_us };
                    self.replies.push_back(Tagged { tag, body: Reply::Answer(answer) });
                }
                // The gate asks for CRLs when everything else has its answer.
                Call::FetchCrl(_) if !self.crls_signed => {
                    self.vault.sign_crls_of_bundle(moment)?;
                    self.crls_signed = true;
                    for_vault.push(Tagged { tag, body });
                }
                // Only the cable's gate has a cable to speak of.
                Call::Link { .. } => {}
                body => for_vault.push(Tagged { tag, body }),
            }
        }
        for reply in self.vault.turn(moment, for_vault)? {
            if let Reply::Answer(answer) = &reply.body {
                self.counts.note(answer);
            }
            self.replies.push_back(reply);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while let Some(reply) = self.replies.pop_front() {
            let told = Told::Reply(reply);
            match self.gate.framed.send(&told) {
                Ok(()) => {}
                Err(FramingError::Full { .. }) => {
                    let Told::Reply(reply) = told else { break };
                    self.replies.push_front(reply);
                    break;
                }
                Err(error) => return Err(ended(&error)),
            }
        }
        self.gate.framed.turn().map_err(|error| ended(&error))
    }

    fn wait(&self) -> Result<(), Failure> {
        let framed = &self.gate.framed;
        let mut fds = vec![PollFd::new(framed.fd(), framed.interest())];
        fds.extend(self.vault.bell().map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::Process(errno.into())),
        }
    }
}

/// What the frontend's clock, when it wrote the bundle, says about ours.
fn clock_note(now: Moment, hint: TimeHint) -> Option<String> {
    let written = UnixTime(hint.unix_us.div_euclid(1_000_000));
    let behind_s = written.0 - now.unix().0;
    let text = match behind_s {
        CLOCK_TOLERANCE_S.. => format!(
            "this clock says {}, before the bundle was written at {written} by the webdb's clock: \
             one of the two is wrong; compare with your watch, see hsm-docs/time-visit.md",
            now.unix()
        ),
        behind_s if behind_s < -AGE_ODD_S => format!(
            "the bundle was written at {written} by the webdb's clock, {} days ago by this one: \
             compare with your watch",
            -behind_s / 86_400
        ),
        _ => return None,
    };
    Some(text)
}

/// So far may two good clocks be apart.
const CLOCK_TOLERANCE_S: i64 = 60;
/// A medium that was on its way for longer than this, or a clock that is wrong.
const AGE_ODD_S: i64 = 31 * 86_400;

/// The gate crashed or was killed. What was decided stays decided, and the same bundle may be
/// answered again.
fn ended(error: &FramingError) -> Failure {
    Failure::Away(format!(
        "the process that opens the bundle ended: {error}; its words are above, run the command \
         again"
    ))
}

fn out_of_step(said: &Said) -> Failure {
    let what = match said {
        Said::Opened { .. } => "opened it twice",
        Said::Call(_) => "called before it had opened it",
        _ => "ended before it had begun",
    };
    Failure::Away(format!("the process that opens the bundle {what}; nothing was written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_before_the_bundle_and_a_very_old_bundle_are_told() {
        let now = Moment { unix_us: 1_800_000_000_000_000, boot_us: 0 };
        let note = |seconds: i64| {
            let unix_us = now.unix_us + seconds * 1_000_000;
            clock_note(now, TimeHint { unix_us, round_trip_us: None, synchronised: true })
        };
        assert_eq!(note(0), None);
        assert_eq!(note(-86_400), None, "a day on the way is usual");
        assert_eq!(note(59), None);
        assert!(note(3600).unwrap().contains("before the bundle was written"));
        assert!(note(-40 * 86_400).unwrap().contains("40 days ago"));
    }

    #[test]
    fn answers_have_their_name_only_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers");
        drop(Output::create(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        Output::create(&path).unwrap().keep().unwrap();
        assert!(path.exists());
        let error = Output::create(&path).err().unwrap().to_string();
        assert!(error.contains("nothing is written over"), "{error}");
    }

    // MEDIA-6: a medium that the webdb prepared does not lead a pen elsewhere.
    #[test]
    fn link_on_the_medium_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("answers.unfinished")).unwrap();
        Output::create(&dir.path().join("answers")).unwrap().keep().unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("link")).unwrap();
        assert!(Output::create(&dir.path().join("link")).is_err());
    }
}
