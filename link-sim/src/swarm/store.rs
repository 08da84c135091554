//! The disks of both programs: made once, copied for each seed, backed up, and cut off from power.
//!
//! They lie in memory where the machine has a file system for that, so that a sync costs nothing;
//! every call to the disk is made all the same, by the real code of both stores.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use frontend::home::Home;
use protocol::message::CrlScope;
use signer::{
    calendar::UnixTime,
    fault::Fault,
    ledger::Ledger,
    openpgp::{CaKey, Layout, default_policy},
    vault::{Settings, Vault},
};

use super::{
    START_UNIX_S,
    material::{self, AUTHORITIES, ISSUING, SERVER},
    moment, openpgp,
};
use crate::random::Random;

/// A directory with all that is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    directories: Vec<PathBuf>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Image {
    /// What is in `root` now.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.add(root, Path::new(""))?;
        Ok(image)
    }

    fn add(&mut self, root: &Path, inner: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.directories.push(path.clone());
                self.add(root, &path)?;
            } else if kind.is_file() {
                self.files.push((path.clone(), fs::read(root.join(&path))?));
            }
        }
        Ok(())
    }

    /// Makes `root` anew with this in it.
    pub(crate) fn write(&self, root: &Path) -> io::Result<()> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root)?;
        self.directories.iter().try_for_each(|path| fs::create_dir(root.join(path)))?;
        self.files.iter().try_for_each(|(path, bytes)| fs::write(root.join(path), bytes))
    }
}

/// Both stores as they are before the first request.
pub(crate) struct Templates {
    pub(crate) signer: Image,
    pub(crate) frontend: Image,
}

/// What the issuing authority's CRLs are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One for all.
    Full,
    /// With a delta CRL, and certificates that name one of three shards.
    Sharded,
}

impl Kind {
    /// Made once, by the first who asks.
    pub(crate) fn templates(self) -> &'static Templates {
        static FULL: OnceLock<Templates> = OnceLock::new();
        static SHARDED: OnceLock<Templates> = OnceLock::new();
        let made = match self {
            Self::Full => &FULL,
            Self::Sharded => &SHARDED,
        };
        made.get_or_init(|| Templates::make(self).expect("an empty store can be made"))
    }

    /// The CRLs that the issuing authority signs, the full one first.
    pub(crate) fn scopes(self) -> &'static [CrlScope] {
        const ALL: [CrlScope; 5] = [
            CrlScope::Full,
            CrlScope::Delta,
            CrlScope::Shard(0),
            CrlScope::Shard(1),
            CrlScope::Shard(2),
        ];
        match self {
            Self::Full => &ALL[..1],
            Self::Sharded => &ALL,
        }
    }

    /// The file `authority.toml`.
    fn authority_text(self, name: &str) -> &'static str {
        match self {
            Self::Sharded if name == ISSUING => SHARDED_TOML,
            _ => AUTHORITY_TOML,
        }
    }

    /// A profile's file.
    fn profile_text(self, name: &str) -> String {
        let text = material::profile_text(name);
        match self {
            Self::Sharded if name == SERVER => {
                text.replace("[extensions]\n", &format!("[extensions]\n{SHARD_URLS}\n"))
            }
            _ => text.to_owned(),
        }
    }
}

impl Templates {
    fn make(kind: Kind) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let signer = scratch.path("signer");
        make_signer(kind, &signer)?;
        let frontend = scratch.path("frontend");
        Home::init(&frontend)?;
        Ok(Self { signer: Image::read(&signer)?, frontend: Image::read(&frontend)? })
    }
}

/// A signer's store with its authorities, without their making: keys are fixed here.
fn make_signer(kind: Kind, store: &Path) -> anyhow::Result<()> {
    for part in ["", "audit", "authorities", "openpgp", "run"] {
        fs::create_dir_all(store.join(part))?;
    }
    let mut ledger = Ledger::create(&Ledger::path(store))?;
    for authority in &AUTHORITIES {
        let directory = store.join("authorities").join(authority.name);
        for part in ["private", "profiles", "newcerts", "crl"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fs::write(directory.join("private/ca.key"), authority.key)?;
        fs::write(directory.join("ca.crt"), authority.certificate)?;
        fs::write(directory.join("chain.pem"), authority.chain.concat())?;
        fs::write(directory.join("authority.toml"), kind.authority_text(authority.name))?;
        fs::write(directory.join("index.txt"), "")?;
        fs::write(directory.join("index.txt.attr"), "unique_subject = no\n")?;
        for profile in authority.profiles {
            let path = directory.join(format!("profiles/{profile}.toml"));
            fs::write(path, kind.profile_text(profile))?;
        }
        let tx = ledger.begin(UnixTime(START_UNIX_S))?;
        tx.add_authority(&material::name(authority.name))?;
        tx.commit()?;
    }
    let name = material::name(openpgp::AUTHORITY);
    let layout = Layout::new(store, &name);
    fs::create_dir_all(layout.policies())?;
    fs::write(layout.secret(), openpgp::KEY)?;
    let key = CaKey::load(&layout.secret(), None)?;
    fs::write(layout.public(), key.public_armoured()?)?;
    fs::write(layout.policies().join("default.toml"), default_policy(openpgp::USER_ID))?;
    let tx = ledger.begin(UnixTime(START_UNIX_S))?;
    tx.add_openpgp_authority(&name, key.fingerprint())?;
    tx.commit()?;
    drop(ledger);
    // Its first CRL, and files that are where the ledger is.
    let settings =
        Settings { directory: store.to_owned(), passphrase: None, boot_id: "template".into() };
    let mut random = Random::new(0);
    let random = Box::new(move |bytes: &mut [u8]| {
        bytes.fill_with(|| random.byte());
        Ok::<(), Fault>(())
    });
    let mut vault = Vault::open_without_threads(settings, random, moment(0))?;
    vault.tick(moment(0))?;
    Ok(())
}

const AUTHORITY_TOML: &str =
    "unattended_root = false\n[crl]\nnext_update_days = 7\nrefresh_hours = 24\n";

const SHARDED_TOML: &str =
    "[crl]\nnext_update_days = 7\nrefresh_hours = 24\ndelta = true\nshards = 3\n";

/// What certificates name; the oracle reads it again.
const SHARD_URLS: &str = "crl_urls = [\"http://crl.example.org/shard-{shard}.crl\"]";

//------------ Places --------------------------------------------------------

/// A directory of this seed's own, removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let in_memory = Path::new("/dev/shm");
        let above = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("link-sim-swarm-{}-{number}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is said by its name, and is in memory on most machines.
        let _ = fs::remove_dir_all(&self.0);
    }
}

//------------ A pulled plug -------------------------------------------------

/// What of an authority's files is known to be on disk: what was there when they were last synced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synced {
    index: Vec<u8>,
    copies: BTreeSet<PathBuf>,
}

impl Synced {
    /// Everything that is there now was synced.
    pub(crate) fn now(authority: &Path) -> io::Result<Self> {
        let copies = fs::read_dir(authority.join("newcerts"))?;
        let copies = copies.map(|entry| entry.map(|entry| entry.path()));
        let copies = copies.collect::<io::Result<_>>()?;
        Ok(Self { index: fs::read(authority.join("index.txt"))?, copies })
    }

    /// Power is lost: of what was written since, a part is there, or nothing.
    pub(crate) fn lose_the_rest(&self, authority: &Path, random: &mut Random) -> io::Result<()> {
        let path = authority.join("index.txt");
        let index = fs::read(&path)?;
        let added = index.len().saturating_sub(self.index.len());
        if added > 0 && index.starts_with(&self.index) {
            let kept = self.index.len() + random.below(added as u64 + 1) as usize;
            fs::write(&path, &index[..kept])?;
        }
        for entry in fs::read_dir(authority.join("newcerts"))? {
            let path = entry?.path();
            if self.copies.contains(&path) || !path.is_file() {
                continue;
            }
            match random.below(3) {
                0 => fs::remove_file(&path)?,
                1 => {
                    let bytes = fs::read(&path)?;
                    let kept = random.below(bytes.len() as u64 + 1) as usize;
                    fs::write(&path, &bytes[..kept])?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Power is lost at the frontend: pieces of an unfinished CRL were never synced.
pub(crate) fn tear_transfers(partial: &Path, random: &mut Random) -> io::Result<()> {
    for entry in fs::read_dir(partial)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
            1 => bytes.iter_mut().for_each(|byte| *byte = random.byte()),
            _ => continue,
        }
        fs::write(&path, &bytes)?;
    }
    Ok(())
}
