//! Other people's tools that judge certificates and CRLs: OpenSSL, GnuTLS, NSS and pkilint.
//!
//! Nothing here decides what is right; it types what a suspicious person would type, and says what
//! the tools said. A tool that is not there is a failure that names `cargo xtask setup`, never a
//! judgement left out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{
    Ended, Process, World,
    world::{COMMAND_MAX, programs},
};

/// The program of this name among the judges that `cargo xtask setup` installs from PyPI.
pub fn judge(name: &str) -> Result<PathBuf> {
    let programs = programs()?;
    let target = programs.parent().context("the programs lie below the build products")?;
    let path = target.join("judges/venv/bin").join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(anyhow!("the judge `{name}` is not installed; run `cargo xtask setup`")),
    }
}

/// One thing that pkilint found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `NOTICE`, `WARNING`, `ERROR` or `FATAL`.
    pub severity: String,
    /// pkilint's own name of it.
    pub code: String,
    /// What it says about this one.
    pub message: String,
}

/// One of pkilint's commands: the program's module and its options, without the file.
pub type Linter = &'static [&'static str];

/// What pkilint finds in each file by its linter, in this order; one process for all of them.
pub fn pkilint(lints: &[(Linter, String)]) -> Result<Vec<BTreeSet<Finding>>> {
    let commands: Vec<Vec<&str>> = lints
        .iter()
        .map(|(linter, file)| {
            let (program, options) = linter.split_first().unwrap_or((&"", &[]));
            let fixed = ["lint", "--severity", "NOTICE", "--format", "JSON"];
            [&[*program][..], &fixed, options, &[file]].concat()
        })
        .collect();
    let input = serde_json::to_vec(&commands)?;
    let words = ["-c", include_str!("../judges/lint.py")];
    let said = Process::run(&judge("python")?, words, &[], Some(&input), COMMAND_MAX)?.done()?;
    let ended: Vec<Value> = serde_json::from_slice(&said.stdout)?;
    ensure!(ended.len() == lints.len(), "pkilint judged {} of {}", ended.len(), lints.len());
    ended.iter().zip(lints).map(|(ended, (_, file))| findings(ended, file)).collect()
}

/// The findings in what one command said; its exit code is their number.
fn findings(ended: &Value, file: &str) -> Result<BTreeSet<Finding>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let report: Value = serde_json::from_str(&text(&ended["out"]))
        .with_context(|| format!("pkilint did not judge {file}: {ended}"))?;
    let results = report["results"].as_array().context("a report has results")?;
    let mut found = BTreeSet::new();
    let mut count = 0;
    for result in results {
        for finding in result["finding_descriptions"].as_array().into_iter().flatten() {
            count += 1;
            found.insert(Finding {
                severity: text(&finding["severity"]),
                code: text(&finding["code"]),
                message: text(&finding["message"]),
            });
        }
    }
    ensure!(ended["code"] == json!(count), "pkilint counts otherwise in {file}: {ended}");
    Ok(found)
}

/// A database of NSS with the certificates of a chain in it.
pub struct Nss<'w> {
    world: &'w World,
    folder: String,
}

impl<'w> Nss<'w> {
    /// A new database that trusts this root for everything and knows this authority below it.
    pub fn new(world: &'w World, name: &str, root: &str, issuing: &str) -> Result<Self> {
        let folder = world.file(name);
        fs::create_dir_all(Path::new(&folder))?;
        let nss = Self { world, folder: format!("sql:{folder}") };
        nss.certutil(&["-N", "--empty-password"])?.done()?;
        nss.add("root", root, "CT,C,C")?;
        // Without an extKeyUsage of its own NSS takes no authority below a root for code signing
        // unless it is told to; for everything else the chain must lead to the root.
        nss.add("issuing", issuing, ",,C")?;
        Ok(nss)
    }

    /// Adds a certificate in PEM under this nickname.
    pub fn add(&self, nickname: &str, certificate: &str, trust: &str) -> Result<()> {
        let words = ["-A", "-n", nickname, "-t", trust, "-a", "-i", certificate];
        self.certutil(&words)?.done().map(drop)
    }

    /// `certutil` on this database.
    pub fn certutil(&self, words: &[&str]) -> Result<Ended> {
        self.world.tool("certutil", &[words, &["-d", &self.folder]].concat())
    }

    /// `vfychain`, by the library that follows RFC 5280; usage as its help numbers it.
    pub fn vfychain(&self, usage: &str, certificate: &str, issuing: &str) -> Result<Ended> {
        let words = ["-d", &self.folder, "-pp", "-u", usage, "-a", certificate, issuing];
        self.world.tool("vfychain", &words)
    }

    /// The same for a server, who must not be in a CRL of the database.
    pub fn vfychain_with_crl(&self, certificate: &str, issuing: &str) -> Result<Ended> {
        let revocation = ["-g", "leaf", "-m", "crl", "-s", "failIfNoInfo"];
        let words = ["-d", &self.folder, "-pp", "-u", "1"];
        let files = ["-a", certificate, issuing];
        self.world.tool("vfychain", &[&words[..], &revocation, &files].concat())
    }

    /// `crlutil` on this database.
    pub fn crlutil(&self, words: &[&str]) -> Result<Ended> {
        self.world.tool("crlutil", &[words, &["-d", &self.folder]].concat())
    }
}
