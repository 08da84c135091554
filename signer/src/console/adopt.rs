//! `signer adopt`: shows what would be taken over from an old tree, then takes it over.
//!
//! The page is for a person who decides; `--json` has the same for a script. Nothing is changed
//! with `--plan`, and nothing where there is a refusal.

use std::{collections::BTreeMap, path::Path, path::PathBuf, str::FromStr};

use clap::Args;
use protocol::message::Name;

use super::{Failure, Passphrase, check_clock};
use crate::{
    adopt::{self, Plan, Planned, Wishes, problems::Problems},
    clock::Moment,
    durable::Lock,
    fault::Fault,
    ledger::{Ledger, SERIALS_FROM},
    vault::Random,
};

#[derive(Debug, Args)]
pub(super) struct AdoptArguments {
    /// The old tree: the directory above those with an index.txt, such as /etc/ssl
    #[arg(long, value_name = "DIR")]
    ssl: PathBuf,
    /// Where the old signer was started: its CRLs (revoke-rootN.crl, currentcrls) are compared
    #[arg(long, value_name = "DIR")]
    commmodule: Option<PathBuf>,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// The name that an authority gets here; without it, its directory's
    #[arg(long, value_name = "DIR=NAME", value_parser = pair::<Name>)]
    name: Vec<(String, Name)>,
    /// Which file of a directory is the authority's certificate
    #[arg(long, value_name = "DIR=FILE", value_parser = pair::<PathBuf>)]
    certificate: Vec<(String, PathBuf)>,
    /// Which file of a directory is the private key
    #[arg(long, value_name = "DIR=FILE", value_parser = pair::<PathBuf>)]
    key: Vec<(String, PathBuf)>,
    /// A file whose first line is the passphrase of an old key; without it, --passphrase-file
    #[arg(long, value_name = "DIR=FILE", value_parser = pair::<PathBuf>)]
    key_passphrase: Vec<(String, PathBuf)>,
    /// Leave a directory where it is
    #[arg(long, value_name = "DIR")]
    without: Vec<String>,
    /// Let this root sign subscriber certificates on the link's word alone (against CA/B BR
    /// 4.3.1.1)
    #[arg(long, value_name = "NAME")]
    unattended_root: Vec<Name>,
    #[command(flatten)]
    pub(super) passphrase: Passphrase,
}

fn pair<T: FromStr>(text: &str) -> Result<(String, T), String>
where
    T::Err: std::fmt::Display,
{
    let (directory, value) = text.split_once('=').ok_or("write it as DIR=…")?;
    let value = value.parse().map_err(|error: T::Err| error.to_string())?;
    Ok((directory.to_owned(), value))
}

impl AdoptArguments {
    fn wishes(&self) -> Wishes {
        let map = |pairs: &[(String, PathBuf)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        Wishes {
            ssl: self.ssl.clone(),
            commmodule: self.commmodule.clone(),
            names: self.name.iter().cloned().collect(),
            certificates: map(&self.certificate),
            keys: map(&self.key),
            key_passphrases: map(&self.key_passphrase),
            without: self.without.iter().cloned().collect(),
            unattended_roots: self.unattended_root.iter().cloned().collect(),
        }
    }
}

/// Shows the plan; without `--plan`, and without a refusal, does it.
pub(super) fn adopt(
    store: &Path,
    arguments: &AdoptArguments,
    random: &mut Random,
    now: Moment,
    json: bool,
) -> Result<(), Failure> {
    let wishes = arguments.wishes();
    let passphrase = arguments.passphrase.read()?;
    // A plan only reads, so it may be made beside a running signer.
    let _locks = match arguments.plan {
        true => None,
        false => Some(take_store(store)?),
    };
    let mut ledger = Ledger::open(&Ledger::path(store))?;
    if !arguments.plan
        && let Some(names) = adopt::finished(&wishes, store, &ledger)?
    {
        eprintln!("this tree was taken over before; only what is still missing is done");
        check_clock(&ledger, now)?;
        return finish(&names, store, &mut ledger, arguments, now, json);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan::make(&wishes, store, &ledger, passphrase.as_ref(), now.unix(), cores)?;
    let refusals = plan.problems.refusals();
    // One document with --json: the plan, or what was done.
    if arguments.plan || refusals > 0 || !json {
        show(&plan, store, json)?;
    }
    if refusals > 0 {
        return Err(Failure::Away(format!(
            "the old tree does not fit together in {refusals} places, see above; nothing was \
             changed"
        )));
    }
    if arguments.plan {
        return Ok(());
    }
    check_clock(&ledger, now)?;
    adopt::take(&plan, store, &mut ledger, passphrase.as_ref(), random, now.unix())?;
    let names: Vec<Name> = plan.authorities.into_iter().map(|planned| planned.name).collect();
    finish(&names, store, &mut ledger, arguments, now, json)
}

/// The store for this command alone.
fn take_store(store: &Path) -> Result<(Lock, Lock), Failure> {
    let lock = Lock::try_take(&store.join("lock"))?.ok_or_else(|| {
        Fault::Configuration(format!(
            "a signer works on {}; stop it before taking over an old tree",
            store.display()
        ))
    })?;
    Ok((lock, Lock::wait(&store.join("console.lock"))?))
}

fn finish(
    names: &[Name],
    store: &Path,
    ledger: &mut Ledger,
    arguments: &AdoptArguments,
    now: Moment,
    json: bool,
) -> Result<(), Failure> {
    let passphrase = arguments.passphrase.read()?;
    let done = adopt::finish(names, store, ledger, passphrase.as_ref(), now.unix())?;
    if json {
        let value: serde_json::Value = done
            .iter()
            .map(|done| {
                serde_json::json!({
                    "name": done.name.as_str(),
                    "directory": done.directory.display().to_string(),
                    "crl_number": done.crl.0,
                    "crl_entries": done.crl.1,
                })
            })
            .collect();
        say!("{}", serde_json::json!({ "adopted": value }));
        return Ok(());
    }
    for done in done {
        let (number, entries) = done.crl;
        say!(
            "authority {} is taken over: CRL {number} with {entries} entries is signed",
            done.name
        );
        say!("  directory  {}", done.directory.display());
    }
    say!("next: signer store check, then read the profiles");
    Ok(())
}

//------------ The page ------------------------------------------------------

fn show(plan: &Plan, store: &Path, json: bool) -> Result<(), Failure> {
    if json {
        let authorities: Result<Vec<_>, Fault> =
            plan.authorities.iter().map(planned_json).collect();
        let value = serde_json::json!({
            "ssl": plan.ssl.display().to_string(),
            "store": store.display().to_string(),
            "authorities": authorities?,
            "refusals": plan.problems.refusals(),
            "warnings": plan.problems.warnings(),
            "problems": plan.problems.json(),
        });
        say!("{value}");
        return Ok(());
    }
    say!("the take-over of {} into {}", plan.ssl.display(), store.display());
    for planned in &plan.authorities {
        say!("");
        show_authority(planned, store)?;
    }
    show_problems(&plan.problems, false);
    show_problems(&plan.problems, true);
    say!("");
    let (refusals, warnings) = (plan.problems.refusals(), plan.problems.warnings());
    say!("{refusals} refusals, {warnings} warnings; the old tree is only read");
    Ok(())
}

fn show_authority(planned: &Planned, store: &Path) -> Result<(), Failure> {
    let survey = &planned.survey;
    let counts = &survey.counts;
    say!("{}  from {}", planned.name, planned.directory().display());
    match planned.certificate()? {
        Some(facts) => {
            let rank = match (planned.is_root(), facts.above) {
                (true, _) => "a root".to_owned(),
                (false, above) => format!("below {above} others"),
            };
            say!("  certificate {}: {}, {rank}", facts.file.display(), facts.subject);
            say!("              valid {} to {}", facts.not_before, facts.not_after);
            say!("              SHA-256 {}", facts.digest);
        }
        None => say!("  certificate not found"),
    }
    match planned.key()? {
        Some((path, kind, true)) => {
            say!("  key         {kind}, {}: belongs to the certificate", path.display());
        }
        Some((path, kind, false)) => {
            say!("  key         {kind}, {}: of another certificate", path.display());
        }
        None => say!("  key         not found"),
    }
    let (valid, revoked, expired) = (counts.valid, counts.revoked, counts.expired);
    say!("  index       {} lines: {valid} V, {revoked} R, {expired} E", counts.all());
    if let (Some((low, high)), Some((first, last))) = (&survey.serials, survey.expiries) {
        say!("              serials {low} to {high}; they expire {first} to {last}");
    }
    if let Some(digest) = survey.index_digest {
        say!("              SHA-256 {digest}");
    }
    say!("  copies      {} in newcerts", survey.copies);
    show_crls(planned);
    match planned.profiles.is_empty() {
        true => say!("  profiles    none: nothing can be issued before one is written"),
        false => {
            for profile in &planned.profiles {
                let (name, from) = (&profile.name, profile.from.display());
                match profile.left_out.len() {
                    0 => say!("  profile     {name}, from {from}"),
                    count => say!(
                        "  profile     {name}, from {from}; {count} things are not carried over"
                    ),
                }
            }
        }
    }
    let name = &planned.name;
    say!("  to          {}", store.join("authorities").join(name.as_str()).display());
    say!("              ca.crt chain.pem private/ca.key authority.toml openssl.cnf profiles/");
    say!("              index.txt and newcerts/ byte for byte, serial, crlnumber, crl/");
    say!("  afterwards  new serials have 16 octets and begin at {SERIALS_FROM:X}");
    say!(
        "              the next CRL has number {}, every R line, and {} days",
        survey.crl_number + 1,
        planned.crl_days
    );
    say!("              unique_subject is no: renewals keep their subject");
    match (planned.is_root(), planned.unattended) {
        (true, false) => say!(
            "              it signs at the console only, CRLs too; --unattended-root {name} lifts that"
        ),
        (true, true) => say!(
            "              UNATTENDED ROOT: it signs on the link's word alone, against CA/B BR 4.3.1.1"
        ),
        (false, _) => say!("              it signs on the link's word within its profiles"),
    }
    Ok(())
}

fn show_crls(planned: &Planned) {
    let survey = &planned.survey;
    let serial = survey.serial_file.as_ref().map_or("none".to_owned(), ToString::to_string);
    let crlnumber = survey.crlnumber_file.map_or("none".to_owned(), |next| format!("{next:X}"));
    say!("  counters    serial file {serial}, crlnumber file {crlnumber}");
    match &survey.newest_crl {
        None => say!("  CRLs        none found"),
        Some(newest) => {
            let number = newest
                .number
                .as_ref()
                .map_or("no number".to_owned(), |hex| format!("number {hex} (hexadecimal)"));
            let until =
                newest.next_update.map_or("without end".to_owned(), |end| format!("until {end}"));
            say!("  CRLs        {} found; the newest is {}", survey.crls, newest.path.display());
            say!(
                "              {number}, {} entries, of {}, {until}",
                newest.entries,
                newest.this_update
            );
        }
    }
}

fn show_problems(problems: &Problems, refusals: bool) {
    for (kind, group) in problems.groups().filter(|(kind, _)| kind.refuses() == refusals) {
        say!("");
        let word = if refusals { "REFUSED" } else { "warning" };
        say!("{word}, {} times: {}", group.count, kind.advice());
        for problem in &group.told {
            say!("  {problem}");
        }
        let more = group.count - group.told.len() as u64;
        if more > 0 {
            say!("  and {more} more");
        }
    }
}

fn planned_json(planned: &Planned) -> Result<serde_json::Value, Fault> {
    let survey = &planned.survey;
    let certificate = planned.certificate()?.map(|facts| {
        serde_json::json!({
            "file": facts.file.display().to_string(),
            "subject": facts.subject,
            "not_before": facts.not_before.to_string(),
            "not_after": facts.not_after.to_string(),
            "sha256": facts.digest.to_string(),
        })
    });
    let key = planned.key()?.map(|(path, kind, matches)| {
        serde_json::json!({
            "file": path.display().to_string(), "kind": kind, "matches": matches,
        })
    });
    let newest = survey.newest_crl.as_ref().map(|newest| {
        serde_json::json!({
            "file": newest.path.display().to_string(),
            "number": newest.number,
            "this_update": newest.this_update.to_string(),
            "next_update": newest.next_update.map(|end| end.to_string()),
            "entries": newest.entries,
        })
    });
    let profiles: Vec<_> = planned
        .profiles
        .iter()
        .map(|profile| {
            serde_json::json!({
                "name": profile.name.as_str(),
                "from": profile.from.display().to_string(),
                "left_out": profile.left_out,
            })
        })
        .collect();
    let text = |value: &dyn std::fmt::Display| value.to_string();
    Ok(serde_json::json!({
        "name": planned.name.as_str(),
        "directory": planned.directory().display().to_string(),
        "root": planned.is_root(),
        "unattended": planned.unattended,
        "certificate": certificate,
        "key": key,
        "counts": survey.counts,
        "serials": survey.serials.as_ref().map(|(low, high)| [text(low), text(high)]),
        "expiries": survey.expiries.map(|(first, last)| [text(&first), text(&last)]),
        "index_sha256": survey.index_digest.map(|digest| digest.to_string()),
        "copies": survey.copies,
        "serial_file": survey.serial_file.as_ref().map(ToString::to_string),
        "crlnumber_file": survey.crlnumber_file,
        "crls": survey.crls,
        "newest_crl": newest,
        "next_crl_number": survey.crl_number + 1,
        "profiles": profiles,
    }))
}
