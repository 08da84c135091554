//! The most memory that the gate ever took while a paired frontend did its worst.

use anyhow::{Context, Result};
use protocol::{
    bounded::List,
    message::{
        CSR_MAX, CertifyOpenPgp, CrlScope, CsrForm, FetchCrl, IssueCertificate, OPENPGP_KEY_MAX,
        Request,
    },
};
use tests::{Bare, Cable, Seed, World, process::below};

use crate::{figures::Figures, process, report::Target};

/// Of each kind of request.
const REQUESTS: usize = 400;
/// Under way at once: more than the gate gives to the vault.
const WINDOW: usize = 250;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    eprintln!("bench: the gate's memory under the largest requests, all of them nonsense");
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0x6a7e)?;
    let mut contents = Seed::new(4);
    let mut bytes =
        |length: usize| -> Vec<u8> { (0..length).map(|_| contents.below(256) as u8).collect() };
    let mut requests = Vec::new();
    for _ in 0..REQUESTS {
        let csr = IssueCertificate {
            id: bare.fresh_id(),
            authority: "issuing".parse()?,
            profile: "server".parse()?,
            days: None,
            subject: None,
            subject_alt_names: None,
            form: CsrForm::Pkcs10,
            csr: bytes(CSR_MAX).try_into()?,
        };
        requests.push(Request::Issue(csr));
        requests.push(Request::Certify(CertifyOpenPgp {
            id: bare.fresh_id(),
            authority: "openpgp".parse()?,
            policy: None,
            user_ids: List::empty(),
            days: None,
            renew: false,
            key: bytes(OPENPGP_KEY_MAX).try_into()?,
        }));
    }
    let flood = bare.flood_of(requests, WINDOW)?;
    anyhow::ensure!(flood.issued == 0, "nonsense was answered with a certificate");
    let nowhere =
        FetchCrl { authority: "issuing".parse()?, scope: CrlScope::Full, have: None, resume: None };
    bare.ask(&Request::FetchCrl(nowhere))?;
    let gates = below(world.running_signer()?.id(), "gate");
    let gate = *gates.first().context("the signer has no gate")?;
    let resident = process::peak_mib(gate)?;
    let program = process::mib(gate, "status", "RssFile:")?;
    let share = process::mib(gate, "smaps_rollup", "Pss_File:")?;
    world.stop()?;
    // The pages of program and libraries are in memory once for all that run them, and the kernel
    // maps more of them than are used: each process is charged its share.
    let what = "most memory of the gate, with its share of its program's pages";
    let peak = resident - program + share;
    figures.promised("gate_peak_mib", peak, "MiB", what, Target::AtMost(16.0));
    let what = "  as if all of those were its own";
    figures.add("gate_resident_mib", resident, "MiB", what);
    let what = "  without any of them";
    figures.add("gate_memory_mib", resident - program, "MiB", what);
    Ok(())
}
