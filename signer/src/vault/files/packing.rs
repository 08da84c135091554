//! `signer store pack`: moves old copies from `newcerts/` into packs, and back out of broken ones.
//!
//! A file is removed only when its pack was read back from the disk and held the same bytes. The
//! newest pack alone can be unfinished, so each run finishes that one first: whatever point a
//! plug was pulled at, nothing is lost and the next run goes on. It works beside a running
//! signer, which never touches copies that are synced.

use std::{ops::ControlFlow, path::Path};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use openssl::x509::X509;

use crate::{
    authority::{
        Layout, asn1_time,
        newcerts::{self, Copies},
        pack::{self, Pack},
    },
    calendar::UnixTime,
    durable::{self, Lock},
    fault::Fault,
    ledger::{AuthorityId, CertificateRow, Ledger},
};

/// What packing did.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PackReport {
    /// Copies that are in packs now and no longer files.
    pub packed: u64,
    /// Packs that were written.
    pub packs: u64,
    /// Copies that stay files because they differ from what is packed under their serial.
    pub kept: u64,
}

/// Packs the copies of certificates whose validity began before `cutoff`. `progress` is told how
/// many were packed.
pub fn pack(
    layout: &Layout,
    id: AuthorityId,
    ledger: &mut Ledger,
    cutoff: UnixTime,
    progress: &mut dyn FnMut(u64),
) -> Result<PackReport, Fault> {
    let _lock = lock(layout)?;
    durable::directory(&layout.packs(), 0o755)?;
    let mut report = PackReport::default();
    if let Some(number) = newcerts::pack_numbers(layout)?.last() {
        finish(layout, id, ledger, &layout.pack(*number), &mut report)?;
        progress(report.packed);
    }
    let mut scan = Scan { at: ledger.packed_at(id)?, done: ledger.packed_at(id)?, young: false };
    loop {
        let path = layout.pack(newcerts::next_pack_number(layout)?);
        if fill(layout, id, ledger, cutoff, &path, &mut scan)? == 0 {
            break;
        }
        report.packs += 1;
        finish(layout, id, ledger, &path, &mut report)?;
        progress(report.packed);
    }
    if scan.done > ledger.packed_at(id)? {
        ledger.set_packed_at(id, scan.done)?; // rows without copies
    }
    Ok(report)
}

/// One run of packing at a time, and none while the store is rebuilt.
pub(super) fn lock(layout: &Layout) -> Result<Lock, Fault> {
    Lock::try_take(&layout.file("packs.lock"))?.ok_or_else(|| {
        Fault::Configuration(format!(
            "another program packs or rebuilds {}; wait for its end, then try again",
            layout.directory().display()
        ))
    })
}

/// How far the ledger's rows were looked at.
struct Scan {
    /// The last row that was looked at.
    at: i64,
    /// The last row before the first that is too young.
    done: i64,
    young: bool,
}

/// Writes one pack with the copies of the next rows that are old enough; answers how many.
fn fill(
    layout: &Layout,
    id: AuthorityId,
    ledger: &Ledger,
    cutoff: UnixTime,
    path: &Path,
    scan: &mut Scan,
) -> Result<usize, Fault> {
    // Later copies may not be on disk yet, and are the running signer's.
    let synced = ledger.files_at(id)?.certificate;
    pack::write(path, |writer| {
        ledger.visit_certificates(id, scan.at, |row| {
            if row.seq > synced || writer.count() == pack::FILES_MAX {
                return Ok(ControlFlow::Break(()));
            }
            scan.at = row.seq;
            if !row.der.is_empty() && not_before(&row)? >= cutoff {
                scan.young = true;
                return Ok(ControlFlow::Continue(()));
            }
            if !scan.young {
                scan.done = row.seq;
                writer.through(row.seq);
            }
            if let Some(bytes) = copy_to_pack(layout, &row)? {
                durable::crash_point("add to", path)?;
                writer.add(&row.serial, &bytes).map_err(Fault::disk("write", path))?;
            }
            Ok(ControlFlow::Continue(()))
        })
    })
}

fn not_before(row: &CertificateRow) -> Result<UnixTime, Fault> {
    asn1_time(X509::from_der(&row.der)?.not_before())
}

/// The file of a row, if there is one that fits into a pack.
fn copy_to_pack(layout: &Layout, row: &CertificateRow) -> Result<Option<Vec<u8>>, Fault> {
    let path = layout.newcert(&row.serial);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::disk("read", &path)(error)),
    };
    if row.der.is_empty() || bytes.len() > pack::FILE_MAX {
        return Ok(None); // nothing to compare it with, or nothing that openssl wrote
    }
    if !newcerts::holds(&bytes, &row.der) {
        return Err(rotten(&path));
    }
    Ok(Some(bytes))
}

fn rotten(path: &Path) -> Fault {
    Fault::Damaged {
        what: path.display().to_string(),
        why: "it does not hold the certificate that the ledger has under its serial".into(),
    }
}

/// Reads a pack back from the disk, compares it with every file that it replaces, notes it, and
/// then removes those files.
fn finish(
    layout: &Layout,
    id: AuthorityId,
    ledger: &mut Ledger,
    path: &Path,
    report: &mut PackReport,
) -> Result<(), Fault> {
    forget_cached(path)?;
    let mut pack = Pack::open(path)?;
    pack.check()?;
    let mut replaced = Vec::new();
    pack.for_each(|serial, content| {
        let content = content?;
        let file = layout.newcert(serial);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Fault::disk("read", &file)(error)),
        };
        let row = ledger.certificate(id, serial)?;
        let Some(row) = row.filter(|row| newcerts::holds(content, &row.der)) else {
            return Err(Fault::Damaged {
                what: path.display().to_string(),
                why: format!("its copy of serial {serial} is not the ledger's certificate"),
            });
        };
        if bytes == content {
            replaced.push(serial.clone());
        } else if newcerts::holds(&bytes, &row.der) {
            report.kept += 1; // a person put other text in front: theirs is kept
        } else {
            return Err(rotten(&file));
        }
        Ok(())
    })?;
    // A ledger from an older backup may not have as many rows.
    let through = pack.through().min(ledger.files_at(id)?.certificate);
    if through > ledger.packed_at(id)? {
        ledger.set_packed_at(id, through)?;
    }
    for serial in &replaced {
        let file = layout.newcert(serial);
        durable::crash_point("remove", &file)?;
        std::fs::remove_file(&file).map_err(Fault::disk("remove", &file))?;
        report.packed += 1;
    }
    Ok(())
}

/// Lets the next read of a file come from the disk, not from what was just written to memory.
fn forget_cached(path: &Path) -> Result<(), Fault> {
    let file = std::fs::File::open(path).map_err(Fault::disk("read", path))?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|errno| Fault::disk("read", path)(errno.into()))
}

/// Takes what can be read out of damaged packs as files, byte for byte, and sets those packs
/// aside; answers how many copies. What cannot be read is for the ledger to write.
pub(super) fn unpack_damaged(
    layout: &Layout,
    id: AuthorityId,
    ledger: &mut Ledger,
) -> Result<u64, Fault> {
    let mut copies = Copies::open(layout)?;
    let mut aside: Vec<_> = copies.damaged().iter().map(|(path, _)| path.clone()).collect();
    let mut restored = 0;
    for pack in copies.packs() {
        if pack.check().is_ok() {
            continue;
        }
        aside.push(pack.path().to_owned());
        let salvaged = pack.for_each(|serial, content| {
            let file = layout.newcert(serial);
            let Ok(content) = content else { return Ok(()) };
            let row = ledger.certificate(id, serial)?;
            if !file.exists() && row.is_some_and(|row| newcerts::holds(content, &row.der)) {
                durable::replace_lazily(&file, content, 0o644)?;
                restored += 1;
            }
            Ok(())
        });
        match salvaged {
            Ok(()) | Err(Fault::Damaged { .. }) => {}
            Err(fault) => return Err(fault),
        }
    }
    if !aside.is_empty() {
        ledger.set_packed_at(id, 0)?; // what comes back as files is to be packed again
    }
    for path in aside {
        let name = path.with_extension("pack.damaged");
        durable::crash_point("set aside", &path)?;
        std::fs::rename(&path, &name).map_err(Fault::disk("rename", &path))?;
    }
    Ok(restored)
}
