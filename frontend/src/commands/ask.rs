//! `request`, and what every request has in common: commit, tell the id, wait if told to.
//!
//! The id is printed only after the commit: who has it may leave.

use std::path::Path;

use protocol::{
    bounded::Bytes,
    message::{
        CsrForm, Digest, GeneralName, IssueCertificate, MESSAGE_MAX, Message, Name, RefusalCode,
        Request, RequestId, Serial, Subject,
    },
    time::{Duration, Instant},
};
use serde_json::json;

use super::{print, read_input, show, status};
use crate::{
    catalogue::Catalogues,
    cli::{self, Cli, Queueing},
    clock::{self, Clock},
    crl::{list, mirror::Mirror},
    csr, driver,
    error::Failure,
    home::Home,
    precheck,
    progress::Progress,
    queue::{self, Queue, State},
    refusal::Refusal,
    spkac,
    store::{Store, StoreError},
};

/// `frontend request`
pub(super) fn request(cli: &Cli, home: &Home, wish: &cli::Request) -> Result<(), Failure> {
    let store = home.store()?;
    let subject_alt_names = match wish.san.is_empty() {
        true => None,
        false => Some(wish.san.clone().try_into().map_err(|error| {
            Refusal::new(RefusalCode::NameRule, format!("too many --san are given: {error}"))
        })?),
    };
    let material = match (&wish.csr, &wish.spkac) {
        (Some(path), _) => Material::of_csr(wish, path)?,
        (None, Some(path)) => Material::of_spkac(wish, path)?,
        (None, None) => unreachable!("the command line requires one of the two"),
    };
    if !wish.queueing.no_precheck {
        let asked = if wish.san.is_empty() { &material.names } else { &wish.san };
        let trusted = Catalogues(store.connection()).trusted()?;
        precheck::issue(&trusted, &wish.authority, &wish.profile, wish.days, asked)?;
    }
    let request = Request::Issue(IssueCertificate {
        id: clock::new_request_id(),
        authority: wish.authority.clone(),
        profile: wish.profile.clone(),
        days: wish.days,
        subject: material.subject,
        subject_alt_names,
        form: material.form,
        csr: bounded(material.der, RefusalCode::CsrMalformed, &material.from)?,
    });
    queue(cli, home, store, &request, wish.queueing)
}

/// What shows the key, and what else its file says.
struct Material {
    form: CsrForm,
    der: Vec<u8>,
    subject: Option<Subject>,
    /// The subject alternative names that it asks for by itself.
    names: Vec<GeneralName>,
    /// How to call it in a sentence.
    from: String,
}

impl Material {
    fn of_csr(wish: &cli::Request, path: &Path) -> Result<Self, Failure> {
        let (bytes, from) = read_input(path)?;
        let (form, subject) = (CsrForm::Pkcs10, wish.subject.clone());
        if wish.queueing.no_precheck {
            let der = csr::read_unchecked(&bytes);
            return Ok(Self { form, der, subject, names: Vec::new(), from });
        }
        let csr = csr::read(&bytes, &from)?;
        let names = csr.names().subject_alt_names.clone().unwrap_or_default();
        Ok(Self { form, der: csr.into_der(), subject, names, from })
    }

    /// An SPKAC has no names of its own: the subject is that of the command line or of the file's
    /// lines, and exactly one of the two.
    fn of_spkac(wish: &cli::Request, path: &Path) -> Result<Self, Failure> {
        let (bytes, from) = read_input(path)?;
        let file = spkac::read(&bytes, &from)?;
        let refused = |fact: String| Failure::from(Refusal::new(RefusalCode::SubjectRule, fact));
        let subject = match (&wish.subject, file.subject) {
            (Some(_), Some(_)) => {
                return Err(refused(format!(
                    "{from} has lines for the subject, and --subject is given too; give one of them"
                )));
            }
            (Some(given), None) => Some(given.clone()),
            (None, lines) => lines,
        };
        if !wish.queueing.no_precheck {
            if subject.is_none() {
                return Err(refused(format!(
                    "{from} is an SPKAC, which names nobody; give --subject, or lines such as \
                     CN=name beside SPKAC="
                )));
            }
            spkac::check(&file.der, &from)?;
        }
        let (form, names) = (CsrForm::Spkac, Vec::new());
        Ok(Self { form, der: file.der, subject, names, from })
    }
}

/// What does not fit the cable cannot be queued, checked or not.
pub(super) fn bounded<const N: usize>(
    bytes: Vec<u8>,
    code: RefusalCode,
    from: &str,
) -> Result<Bytes<N>, Refusal> {
    bytes.try_into().map_err(|error| Refusal::new(code, format!("{from} is too long: {error}")))
}

/// Commits `request`, tells its id, and waits for its outcome if told to.
pub(super) fn queue(
    cli: &Cli,
    home: &Home,
    mut store: Store,
    request: &Request,
    queueing: Queueing,
) -> Result<(), Failure> {
    // What the other end could not decode must not get into the queue.
    let bytes = request.to_bytes().unwrap_or_default();
    if bytes.len() > MESSAGE_MAX || Request::from_bytes(&bytes).ok().as_ref() != Some(request) {
        let fact = format!("the request has {} bytes, {MESSAGE_MAX} fit", bytes.len());
        return Err(Refusal::new(RefusalCode::NameRule, fact).into());
    }
    let transaction = store.transaction()?;
    let id = Queue(&transaction).insert(request, clock::unix_us())?;
    transaction.commit().map_err(StoreError::from)?;
    home.wake();
    match queueing.wait {
        None => show(cli, &id.to_string(), &json!({ "id": id.to_string() })),
        Some(longest) => wait(cli, home, &store, (id, request), longest.map(Duration::from_secs)),
    }
}

/// Waits for the outcome, but leaves the request in the queue whatever happens. A revocation is
/// of use to others once it is in the published CRL, so that is waited for too.
fn wait(
    cli: &Cli,
    home: &Home,
    store: &Store,
    (id, request): (RequestId, &Request),
    longest: Option<Duration>,
) -> Result<(), Failure> {
    if !cli.json {
        print(format!("{id}\n").as_bytes())?;
    }
    let clock = Clock::start();
    let mut progress = Progress::start(clock.instant());
    let (mut seen, mut text) = (None, String::new());
    let mut published = Published::new(home, request);
    let entry = loop {
        let version = store.data_version()?;
        if seen != Some(version) {
            seen = Some(version);
            let entry = status::find(store, id)?;
            text = match (entry.state, entry.ticket) {
                (State::Queued, _) if !home.is_running() => {
                    "queued, but no `frontend run` works on this directory".to_owned()
                }
                (State::Held, Some(ticket)) => format!("held, ticket {ticket}"),
                (state, _) => state.to_string(),
            };
            if entry.state.is_final() && entry.state != State::Done {
                break entry;
            }
            if entry.state == State::Done {
                published.outcome = Some(entry);
                text = "done, the CRL is on its way".to_owned();
            }
        }
        if let Some(entry) = published.take()? {
            break entry;
        }
        progress.show(clock.instant(), 0, 1, &text);
        if longest.is_some_and(|longest| clock.instant().saturating_since(Instant::ZERO) >= longest)
        {
            break status::find(store, id)?;
        }
        driver::pause(LOOK_PERIOD);
    };
    progress.finish();
    if cli.json {
        print(format!("{}\n", status::value(store, &entry)?).as_bytes())?;
    }
    match (entry.state, entry.refusal) {
        (State::Done, _) => Ok(()),
        (_, Some((code, text))) => {
            Err(Failure::RefusedBySigner(format!("request {id} was refused ({code}): {text}")))
        }
        (state, None) => {
            let seconds = longest.map(|longest| longest.as_secs()).unwrap_or_default();
            Err(Failure::Waiting(format!(
                "request {id} is {state} after {seconds} s; it stays in the queue, see `frontend \
                 status {id}`"
            )))
        }
    }
}

/// A request that is done, and for a revocation the CRL that must show it.
struct Published {
    outcome: Option<queue::Entry>,
    crl: Option<(Mirror, Name, Serial)>,
    seen: Option<Digest>,
}

impl Published {
    fn new(home: &Home, request: &Request) -> Self {
        let crl = match request {
            Request::Revoke(revoke) => {
                Some((Mirror::new(home), revoke.authority.clone(), revoke.serial.clone()))
            }
            _ => None,
        };
        Self { outcome: None, crl, seen: None }
    }

    /// The outcome, once the CRL lists the serial.
    fn take(&mut self) -> Result<Option<queue::Entry>, Failure> {
        if self.outcome.is_none() {
            return Ok(None);
        }
        if let Some((mirror, authority, serial)) = &self.crl {
            let bytes = mirror.read(authority)?.unwrap_or_default();
            let digest = Digest::of(&bytes);
            if self.seen.replace(digest) == Some(digest) || !list::has(&bytes, serial) {
                return Ok(None);
            }
        }
        Ok(self.outcome.take())
    }
}

/// How soon a waiting command notices an outcome.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
