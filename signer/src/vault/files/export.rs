//! `signer store export`: an authority in openssl's layout, every copy a file of its own.
//!
//! Lines and copies that another program wrote come out byte for byte as it wrote them. Keys stay
//! where they are unless they are asked for by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use protocol::message::Name;

use super::{adopt, lock_files};
use crate::{
    authority::{
        Layout,
        index::{self, Left},
        newcerts::{self, Copies},
    },
    durable,
    fault::Fault,
    ledger::{AuthorityId, Ledger},
};

/// What stands beside index and copies, and need not be there.
const FILES: [&str; 7] = [
    "ca.crt",
    "chain.pem",
    "openssl.cnf",
    "authority.toml",
    "index.txt.attr",
    "serial",
    "crlnumber",
];

/// Writes authority `name` into `target/NAME`, all of it or nothing; answers how many copies.
/// `progress` is told how many are written.
pub fn export(
    layout: &Layout,
    (name, id): (&Name, AuthorityId),
    ledger: &mut Ledger,
    target: &Path,
    with_keys: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Fault> {
    let place = target.join(name.as_str());
    if place.exists() {
        return Err(Fault::Configuration(format!(
            "{} is there already; name another directory",
            place.display()
        )));
    }
    {
        // Lines of other programs that no start has taken in yet belong to it too.
        let _lock = lock_files(layout)?;
        let left = Left::noted(&ledger.files_at(id)?);
        adopt(name, layout, id, ledger, Some(&left))?;
    }
    let (counter, _) = ledger.counters(id)?;
    if let Some(why) = index::serial_fault(layout, counter) {
        let what = layout.file("serial").display().to_string();
        return Err(Fault::Damaged { what, why });
    }
    let staging = target.join(format!(".{name}.new"));
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(Fault::disk("remove", &staging))?;
    }
    durable::directory(target, 0o755)?;
    durable::directory(&staging, 0o755)?;
    let count = write(layout, id, ledger, &staging, with_keys, progress)?;
    let handle = fs::File::open(&staging).map_err(Fault::disk("open", &staging))?;
    nix::unistd::syncfs(&handle).map_err(|errno| Fault::disk("sync", &staging)(errno.into()))?;
    durable::crash_point("rename", &staging)?;
    fs::rename(&staging, &place).map_err(Fault::disk("rename", &staging))?;
    durable::sync_directory(&place)?;
    Ok(count)
}

fn write(
    layout: &Layout,
    id: AuthorityId,
    ledger: &Ledger,
    staging: &Path,
    with_keys: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Fault> {
    index::write_to(&staging.join("index.txt"), id, ledger)?;
    let newcerts = staging.join("newcerts");
    durable::directory(&newcerts, 0o755)?;
    let mut copies = Copies::open(layout)?;
    let mut count = 0;
    ledger.for_each_certificate(id, 0, |row| {
        let bytes = match copies.find(&row.serial) {
            Ok(Some((_, bytes))) if row.der.is_empty() || newcerts::holds(&bytes, &row.der) => {
                bytes
            }
            Ok(None) | Err(Fault::Damaged { .. }) if row.der.is_empty() => return Ok(()),
            // The ledger's own, where no copy is right.
            Ok(_) | Err(Fault::Damaged { .. }) => newcerts::pem(&row.der),
            Err(fault) => return Err(fault),
        };
        durable::write_lazily(&newcerts.join(format!("{}.pem", row.serial)), &bytes, 0o644)?;
        count += 1;
        progress(count);
        Ok(())
    })?;
    // Last: a running signer may have issued more meanwhile, and `serial` must not be behind the
    // index.
    for file in FILES {
        copy(&layout.file(file), &staging.join(file), 0o644)?;
    }
    for directory in ["profiles", "crl"] {
        durable::directory(&staging.join(directory), 0o755)?;
        for path in files_in(&layout.file(directory))? {
            let Some(name) = path.file_name() else { continue };
            copy(&path, &staging.join(directory).join(name), 0o644)?;
        }
    }
    durable::directory(&staging.join("private"), 0o700)?;
    if with_keys {
        copy(&layout.key(), &staging.join("private/ca.key"), 0o600)?;
    }
    Ok(count)
}

/// Copies a file, if it is there.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Fault> {
    match fs::read(from) {
        Ok(bytes) => durable::write_lazily(to, &bytes, mode),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::disk("read", from)(error)),
    }
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::disk("read", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Fault::disk("read", directory))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}
