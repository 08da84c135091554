//! `request`, `revoke` and `certify`: refuse nonsense, commit, tell the id, wait if told to.
//!
//! The id is printed only after the commit: who has it may leave.

use protocol::{
    bounded::Bytes,
    message::{
        CertifyOpenPgp, Digest, IssueCertificate, MESSAGE_MAX, Message, Name, RefusalCode, Request,
        RequestId, Revoke, Serial,
    },
    time::Duration,
};
use serde_json::json;

use super::{print, read_input, show, status};
use crate::{
    catalogue::Catalogues,
    cli::{self, Cli, Queueing},
    clock::{self, Clock},
    crl::{list, mirror::Mirror},
    csr, driver,
    error::{Failure, Refusal},
    home::Home,
    names, openpgp, pem, precheck,
    progress::Progress,
    queue::{self, Queue, State},
    store::{Store, StoreError},
};

/// `frontend request`
pub(super) fn request(cli: &Cli, home: &Home, wish: &cli::Request) -> Result<(), Failure> {
    let (bytes, from) = read_input(&wish.csr)?;
    let store = home.store()?;
    let subject_alt_names = match wish.san.is_empty() {
        true => None,
        false => Some(wish.san.clone().try_into().map_err(|error| {
            Refusal::new(RefusalCode::NameRule, format!("too many --san are given: {error}"))
        })?),
    };
    let der = if wish.queueing.no_precheck {
        csr::read_unchecked(&bytes)
    } else {
        let csr = csr::read(&bytes, &from)?;
        let asked = csr.names().subject_alt_names.clone().unwrap_or_default();
        let asked = if wish.san.is_empty() { &asked } else { &wish.san };
        let trusted = Catalogues(store.connection()).trusted()?;
        precheck::issue(&trusted, &wish.authority, &wish.profile, wish.days, asked)?;
        csr.into_der()
    };
    let request = Request::Issue(IssueCertificate {
        form: protocol::message::CsrForm::Pkcs10,
        id: clock::new_request_id(),
        authority: wish.authority.clone(),
        profile: wish.profile.clone(),
        days: wish.days,
        subject: wish.subject.clone(),
        subject_alt_names,
        csr: bounded(der, RefusalCode::CsrMalformed, &from)?,
    });
    queue(cli, home, store, &request, wish.queueing)
}

/// `frontend revoke`
pub(super) fn revoke(cli: &Cli, home: &Home, wish: &cli::Revoke) -> Result<(), Failure> {
    let store = home.store()?;
    let trusted = Catalogues(store.connection()).trusted()?;
    if !wish.queueing.no_precheck {
        precheck::revoke(&trusted, &wish.authority)?;
    }
    let serial = match (&wish.serial, &wish.cert) {
        (Some(serial), _) => serial.clone(),
        (None, Some(path)) => {
            let (bytes, from) = read_input(path)?;
            let issuer = trusted.authorities.get(&wish.authority);
            let issuer = issuer.filter(|_| !wish.queueing.no_precheck);
            let issuer = issuer.map(|authority| authority.subject());
            serial_of(&bytes, &from, &wish.authority, issuer)?
        }
        (None, None) => unreachable!("the command line requires one of the two"),
    };
    let request = Request::Revoke(Revoke {
        id: clock::new_request_id(),
        authority: wish.authority.clone(),
        serial,
        reason: wish.reason,
    });
    queue(cli, home, store, &request, wish.queueing)
}

/// `frontend certify`
pub(super) fn certify(cli: &Cli, home: &Home, wish: &cli::Certify) -> Result<(), Failure> {
    let (bytes, from) = read_input(&wish.key)?;
    let store = home.store()?;
    let key = if wish.queueing.no_precheck {
        openpgp::read_unchecked(&bytes, &from)?
    } else {
        let key = openpgp::trim(&bytes, &wish.uid, &from, clock::unix_us())?;
        let trusted = Catalogues(store.connection()).trusted()?;
        precheck::certify(&trusted, wish.days)?;
        key.into_bytes()
    };
    let too_long =
        |error| Refusal::new(RefusalCode::OpenPgpUserId, format!("--uid is too long: {error}"));
    let user_ids = wish.uid.iter().map(|uid| uid.as_str().try_into());
    let user_ids: Vec<_> = user_ids.collect::<Result<_, _>>().map_err(too_long)?;
    let request = Request::Certify(CertifyOpenPgp {
        id: clock::new_request_id(),
        user_ids: user_ids.try_into().map_err(too_long)?,
        days: wish.days,
        key: bounded(key, RefusalCode::OpenPgpMalformed, &from)?,
    });
    queue(cli, home, store, &request, wish.queueing)
}

/// What does not fit the cable cannot be queued, checked or not.
fn bounded<const N: usize>(
    bytes: Vec<u8>,
    code: RefusalCode,
    from: &str,
) -> Result<Bytes<N>, Refusal> {
    bytes.try_into().map_err(|error| Refusal::new(code, format!("{from} is too long: {error}")))
}

/// The serial of a certificate, which must be the authority's own.
fn serial_of(
    bytes: &[u8],
    from: &str,
    authority: &Name,
    issuer: Option<&[u8]>,
) -> Result<Serial, Failure> {
    let unusable =
        |why: String| Failure::Usage(format!("{from} is no certificate: {why}; give PEM or DER"));
    let der = match pem::looks_like_pem(bytes) {
        true => pem::only_block(bytes, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(unusable)?,
        false => bytes.to_vec(),
    };
    let certificate = openssl::x509::X509::from_der(&der)
        .map_err(|_| unusable("it cannot be parsed".to_owned()))?;
    let named = certificate.issuer_name().to_der().unwrap_or_default();
    if issuer.is_some_and(|issuer| issuer != named) {
        let name = names::flat_name(certificate.issuer_name()).unwrap_or_default();
        let fact = format!(
            "{from} was issued by `{}`, not by authority `{authority}`",
            names::show(&name)
        );
        return Err(Refusal::new(RefusalCode::SerialUnknown, fact).into());
    }
    let number = certificate.serial_number().to_bn();
    let magnitude = number.map(|number| number.to_vec()).unwrap_or_default();
    Serial::from_magnitude(&magnitude).map_err(|error| unusable(error.to_string()))
}

fn queue(
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
        Some(seconds) => wait(cli, home, &store, (id, request), Duration::from_secs(seconds)),
    }
}

/// Waits for the outcome, but leaves the request in the queue whatever happens. A revocation is
/// of use to others once it is in the published CRL, so that is waited for too.
fn wait(
    cli: &Cli,
    home: &Home,
    store: &Store,
    (id, request): (RequestId, &Request),
    longest: Duration,
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
        if clock.instant().saturating_since(protocol::time::Instant::ZERO) >= longest {
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
            let seconds = longest.as_secs();
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
