//! What the swarm works with: two authorities, CSRs that were made beforehand, names.
//!
//! Everything here is the same in every process, or a seed would not replay. So the authorities
//! sign with RSA, whose signatures follow from key and message alone (ECDSA draws a number for
//! each), and with 1,024 bits, which no `signer authority create` makes and no frontend of a
//! person should pin: these keys lie in the open and protect nothing.

use std::{
    collections::BTreeMap,
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

use openssl::x509::X509Req;
use protocol::message::Name;
use signer::{
    intake::{
        Outcome, csr,
        openpgp::{self, Limits},
        worker::Job,
    },
    profile,
};

/// Who signs for the link.
pub(crate) const ISSUING: &str = "issuing";
/// Who does not.
pub(crate) const ROOT: &str = "root";
/// What may be asked for over the link.
pub(crate) const SERVER: &str = "server";
/// What may not.
pub(crate) const CONSOLE_ONLY: &str = "subca";

/// One authority's fixed parts.
pub(crate) struct Authority {
    pub(crate) name: &'static str,
    pub(crate) certificate: &'static str,
    /// Its own first.
    pub(crate) chain: &'static [&'static str],
    pub(crate) key: &'static str,
    pub(crate) profiles: &'static [&'static str],
}

const ROOT_CERTIFICATE: &str = include_str!("material/root.crt.pem");
const ISSUING_CERTIFICATE: &str = include_str!("material/issuing.crt.pem");

pub(crate) const AUTHORITIES: [Authority; 2] = [
    Authority {
        name: ROOT,
        certificate: ROOT_CERTIFICATE,
        chain: &[ROOT_CERTIFICATE],
        key: include_str!("material/root.key.pem"),
        profiles: &[CONSOLE_ONLY],
    },
    Authority {
        name: ISSUING,
        certificate: ISSUING_CERTIFICATE,
        chain: &[ISSUING_CERTIFICATE, ROOT_CERTIFICATE],
        key: include_str!("material/issuing.key.pem"),
        profiles: &[SERVER, CONSOLE_ONLY],
    },
];

/// The text of a default profile.
pub(crate) fn profile_text(name: &str) -> &'static str {
    let found = profile::DEFAULTS.iter().find(|row| row.0 == name);
    found.map(|row| row.1).expect("the swarm uses default profiles only")
}

/// The CSRs: P-256 keys, each with one name, DER.
pub(crate) fn csrs() -> &'static [Vec<u8>] {
    static CSRS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CSRS.get_or_init(|| {
        let blocks = include_str!("material/csrs.pem")
            .split_inclusive("-----END CERTIFICATE REQUEST-----\n");
        let der = |block: &str| X509Req::from_pem(block.as_bytes()).and_then(|csr| csr.to_der());
        blocks.map(|block| der(block).expect("the file holds CSRs")).collect()
    })
}

/// The name in the subject of the nth of [`csrs`].
pub(crate) fn name_in_csr(nth: usize) -> String {
    format!("dns:host{nth}.example.org")
}

/// What the intake's worker says of a job. The verdict about a CSR follows from its bytes alone,
/// so it is reached once for all seeds; a CSR of [`BREAKS_THE_WORKER`] breaks the worker.
pub(crate) fn vet(job: &Job) -> Outcome {
    static VERDICTS: OnceLock<BTreeMap<&'static [u8], Outcome>> = OnceLock::new();
    let verdicts =
        VERDICTS.get_or_init(|| csrs().iter().map(|csr| (csr.as_slice(), vet_csr(csr))).collect());
    match job {
        Job::Csr(csr) if csr[..] == *BREAKS_THE_WORKER => {
            Outcome::Broke { text: "the worker died of it".into() }
        }
        Job::Csr(csr) => verdicts.get(&csr[..]).cloned().unwrap_or_else(|| vet_csr(csr)),
        Job::OpenPgp { key, user_ids, unix_s } => {
            let now = UNIX_EPOCH + Duration::from_secs(*unix_s);
            openpgp::vet(key, user_ids, now, &Limits::WIRE)
                .map_or_else(Outcome::Refused, |vetted| Outcome::OpenPgp(Box::new(vetted)))
        }
        Job::Spkac(_) => Outcome::Broke { text: "the swarm asks for no SPKAC".into() },
    }
}

fn vet_csr(csr: &[u8]) -> Outcome {
    csr::vet(csr).map_or_else(Outcome::Refused, |vetted| Outcome::Csr(Box::new(vetted)))
}

/// Stands for a request that crashes whoever parses it.
pub(crate) const BREAKS_THE_WORKER: &[u8] = b"a CSR that no parser survives";

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a literal name")
}
