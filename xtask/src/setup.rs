//! What the machine needs besides Rust, and how it gets there.
//!
//! Nothing is installed but Debian's own packages, cargo-deny, and the judges that PyPI has, and
//! only when missing.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};

use crate::workspace::{Failed, Workspace, in_path, say, succeed};

/// The Debian packages, each with what it is for.
const PACKAGES: [(&str, &str); 20] = [
    ("gcc", "builds the bundled SQLite and zstd"),
    ("g++", "builds libFuzzer for `cargo xtask fuzz`"),
    ("pkg-config", "finds OpenSSL"),
    ("libssl-dev", "OpenSSL's headers"),
    ("libclang1-14", "bindgen reads OpenSSL's headers with it, for sequoia-openpgp"),
    ("libclang-common-14-dev", "the compiler's own headers, without which libclang stops"),
    ("openssl", "makes CSRs and judges certificates and CRLs"),
    ("gnutls-bin", "certtool judges certificates and CRLs a second time"),
    ("gnupg", "makes OpenPGP keys and judges certifications"),
    ("gnupg1", "makes the keyrings of an old authority, as GnuPG 1 did"),
    ("gpg-wks-client", "judges the names in a Web Key Directory"),
    ("sq", "makes OpenPGP keys, reads certified ones, and lays out a Web Key Directory"),
    ("sq-wot", "judges certifications a second time, by its web of trust"),
    ("sqv", "judges signatures by certified OpenPGP keys"),
    ("sqop", "judges them a second time, by another command line"),
    ("libnss3-tools", "certutil, vfychain and crlutil judge certificates and CRLs a third time"),
    ("zstd", "reads the packs of old certificates"),
    ("lrzsz", "zmodem, beside which the cable is measured"),
    ("iproute2", "ip joins two network namespaces by a cable"),
    ("python3-venv", "holds the judges that come from PyPI"),
];

/// The judges that Debian does not have: name on PyPI, the version that the tests were written
/// against, and what it is for.
const JUDGES: [(&str, &str, &str); 4] = [
    (
        "pkilint",
        "0.13.3",
        "judges certificates and CRLs against RFC 5280 and the CA/B Forum's rules",
    ),
    ("roca-detect", "1.2.12", "says which RSA keys have the ROCA fingerprint"),
    ("badkeys", "0.0.21", "says which keys are publicly known or weak"),
    ("rpgp-py", "0.20.0", "rPGP: makes OpenPGP keys of version 6 and reads certified ones"),
];

/// Where those judges lie, below the folder of the build products; the tests look there.
const JUDGES_FOLDER: &str = "judges/venv";

/// What is installed there, written last.
const JUDGES_STAMP: &str = "installed";

/// What a machine without Debian's package tools must have in its search path.
const PROGRAMS: [&str; 15] = [
    "gcc",
    "g++",
    "pkg-config",
    "openssl",
    "certtool",
    "gpg",
    "gpg1",
    "sq",
    "sq-wot",
    "sqv",
    "sqop",
    "certutil",
    "zstd",
    "sz",
    "python3",
];

/// What a test run is told where it may not make what two of its files need.
const NEEDS_ROOT: &str = "the stories of usbnet and one of media will fail: they make network \
                          namespaces and mounts; run this as root, in a container with the right \
                          to make both (CAP_SYS_ADMIN, CAP_NET_ADMIN)";

/// The exit code for a machine that is not as it must be.
const NOT_CONFIGURED: u8 = 4;

/// The version of cargo-deny that is known to build and to read `deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// Makes sure that the machine has what building and testing need.
pub(crate) fn machine() -> Result<()> {
    if !in_path("dpkg-query") {
        return without_dpkg();
    }
    let missing = missing_packages()?;
    if missing.is_empty() {
        say("setup", "all Debian packages are there");
        return Ok(());
    }
    if !is_root()? {
        say("setup", "these Debian packages are missing; as root, run:");
        println!("apt-get update && {}", install_line(&missing));
        return Err(Failed(NOT_CONFIGURED).into());
    }
    for name in &missing {
        let purpose = PACKAGES.iter().find(|row| row.0 == *name).map_or("", |row| row.1);
        say("setup", &format!("installing {name}: {purpose}"));
    }
    quietly(Command::new("apt-get").args(["update", "-qq"]))?;
    let words = install_line(&missing);
    let mut words = words.split(' ');
    let program = words.next().unwrap_or("apt-get");
    quietly(Command::new(program).args(words).env("DEBIAN_FRONTEND", "noninteractive"))?;
    let still_missing = missing_packages()?;
    if !still_missing.is_empty() {
        bail!("apt-get ended well, but these are still missing: {}", still_missing.join(" "));
    }
    say("setup", "installed");
    Ok(())
}

/// Makes sure that cargo-deny is there; three minutes on two cores when it is not.
pub(crate) fn cargo_deny() -> Result<()> {
    if in_path("cargo-deny") {
        return Ok(());
    }
    say("setup", &format!("installing cargo-deny {CARGO_DENY} (about three minutes)"));
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", "--quiet", "cargo-deny", "--version", CARGO_DENY]);
    succeed(&mut install).context("cargo-deny cannot be installed")
}

/// Makes sure that the judges from PyPI are there, in a folder of their own below the build
/// products; half a minute when they are not.
pub(crate) fn judges(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target.join(JUDGES_FOLDER);
    let stamp = folder.join(JUDGES_STAMP);
    let wanted: Vec<String> =
        JUDGES.iter().map(|(name, version, _)| format!("{name}=={version}")).collect();
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted.join("\n")) {
        return Ok(());
    }
    for (name, _, purpose) in JUDGES {
        say("setup", &format!("installing {name}: {purpose}"));
    }
    quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = folder.join("bin/pip");
    quietly(
        Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(&wanted),
    )
    .context("the judges from PyPI cannot be installed; check the network, then run it again")?;
    write(&stamp, &wanted.join("\n"))
}

/// Says before the tests begin which of them cannot pass here, and what to do about it.
pub(crate) fn say_what_needs_root() {
    let asked = Command::new("unshare").args(["--mount", "--net", "true"]).output();
    if !asked.is_ok_and(|output| output.status.success()) {
        say("setup", NEEDS_ROOT);
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn install_line(packages: &[&str]) -> String {
    format!("apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn missing_packages() -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES.map(|row| row.0))
        .output()
        .context("dpkg-query does not start")?;
    // It exits with 1 when it knows nothing of a package; what it does know is printed all the same.
    Ok(missing_among(&String::from_utf8_lossy(&output.stdout)))
}

fn missing_among(listing: &str) -> Vec<&'static str> {
    let installed = |name: &str| listing.lines().any(|line| line == format!("{name} installed"));
    PACKAGES.iter().map(|row| row.0).filter(|name| !installed(name)).collect()
}

fn without_dpkg() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|name| !in_path(name)).collect();
    if missing.is_empty() {
        say("setup", "no dpkg here; assuming OpenSSL's headers and libclang are installed");
        return Ok(());
    }
    say("setup", "this is no Debian machine; install what these Debian packages hold:");
    for (name, purpose) in PACKAGES {
        println!("{name:<24} {purpose}");
    }
    println!("missing from the search path: {}", missing.join(" "));
    Err(Failed(NOT_CONFIGURED).into())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id does not start")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

/// Runs a command whose words are wanted only when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("{:?} does not start", command.get_program()))?;
    if status.success() {
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    bail!("{:?} failed ({status}); its words are above", command.get_program())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_as_there_only_when_it_is_installed() {
        let listing = "gcc installed\npkg-config config-files\nlibssl-dev installed\n\
                       libclang1-14 installed\nlibclang-common-14-dev installed\n\
                       openssl installed\ngnutls-bin not-installed\n";
        assert_eq!(
            missing_among(listing),
            [
                "g++",
                "pkg-config",
                "gnutls-bin",
                "gnupg",
                "gnupg1",
                "gpg-wks-client",
                "sq",
                "sq-wot",
                "sqv",
                "sqop",
                "libnss3-tools",
                "zstd",
                "lrzsz",
                "iproute2",
                "python3-venv"
            ]
        );
    }

    #[test]
    fn the_line_to_run_names_every_missing_package() {
        assert_eq!(
            install_line(&["gnutls-bin", "gnupg"]),
            "apt-get install -y --no-install-recommends gnutls-bin gnupg"
        );
    }
}
