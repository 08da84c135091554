//! OpenPGP authorities: the signer's OpenPGP keys, what they certify, and by which policies
//! (RFC 9580).
//!
//! ```text
//! openpgp/NAME/
//!   secret.pgp public.asc policies/*.toml
//! ```
//!
//! This is the vault's side. It reads one Public-Key packet that the intake has written anew, and
//! UTF-8 user IDs; it never reads a certificate from the link. It never reads the clock, and never
//! certifies a user ID that it was not given, nor past the life of the key it certifies.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use protocol::{
    bounded::List,
    message::{DEFAULT_POLICY, Name, OpenPgpEntry, RefusalCode},
    user_id::UserId,
};
use sequoia_openpgp::{
    Packet,
    packet::{
        Key,
        key::{PrimaryRole, PublicParts},
    },
};

use crate::{
    calendar::UnixTime,
    durable,
    fault::Fault,
    intake::openpgp::{VettedOpenPgp, kind::KeyKind, one_packet, refuse},
    keys::Secret,
    ledger::{Ledger, OpenPgpAuthorityId},
    refusal::Refusal,
};

pub mod earlier;
pub mod import;
pub mod key;
mod old;
pub mod policy;
pub mod statement;

pub use earlier::{Wanted, read_stored};
pub use key::CaKey;
pub use old::parts;
pub use policy::Policy;
pub use statement::Statement;

/// One certification or its revocation: by RSA-4096 with the longest policy it has 1,180 bytes, by
/// Ed25519 with the shipped one 250.
pub const CERTIFICATION_MAX: usize = 1280;

/// What the key of an old store, which had one without a name, is called.
pub const UNNAMED: &str = "openpgp";

/// The names of an OpenPGP authority's files.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

impl Layout {
    /// The directory of authority `name` in the store at `store`.
    pub fn new(store: &Path, name: &Name) -> Self {
        Self(store.join("openpgp").join(name.as_str()))
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The secret key: binary, mode 0600, encrypted if a passphrase was given.
    pub fn secret(&self) -> PathBuf {
        self.0.join("secret.pgp")
    }

    /// The public key, armoured.
    pub fn public(&self) -> PathBuf {
        self.0.join("public.asc")
    }

    /// The certification policies.
    pub fn policies(&self) -> PathBuf {
        self.0.join("policies")
    }
}

/// The names of the OpenPGP authorities that have a directory in the store. What an older program
/// kept without a name is given one first.
pub fn names(store: &Path) -> Result<Vec<Name>, Fault> {
    let directory = store.join("openpgp");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    old::give_name(store)?;
    let entries = fs::read_dir(&directory).map_err(Fault::disk("read", &directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Fault::disk("read", &directory))?;
        let name = entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok());
        // Directories that are no names are being made or were put there by a person.
        names.extend(name.filter(|name| Layout::new(store, name).secret().exists()));
    }
    names.sort();
    Ok(names)
}

/// One OpenPGP authority, ready to certify.
#[derive(Debug)]
pub struct OpenPgpAuthority {
    name: Name,
    id: OpenPgpAuthorityId,
    key: CaKey,
    policies: BTreeMap<Name, Policy>,
}

impl OpenPgpAuthority {
    /// Loads authority `name`, whose row the ledger has.
    pub fn load(
        store: &Path,
        name: &Name,
        id: OpenPgpAuthorityId,
        passphrase: Option<&Secret>,
    ) -> Result<Self, Fault> {
        let layout = Layout::new(store, name);
        let key = CaKey::load(&layout.secret(), passphrase)?;
        let mut policies = BTreeMap::new();
        for path in policy_files(&layout)? {
            let policy = Policy::load(&path)?;
            policies.insert(policy.name().clone(), policy);
        }
        Ok(Self { name: name.clone(), id, key, policies })
    }

    /// Its name in requests and on disk.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its row in the ledger.
    pub fn id(&self) -> OpenPgpAuthorityId {
        self.id
    }

    /// Its key.
    pub fn key(&self) -> &CaKey {
        &self.key
    }

    /// The policy with this name, or the one of a request that names none.
    pub fn policy(&self, name: Option<&Name>) -> Result<&Policy, Refusal> {
        let found = match name {
            Some(name) => self.policies.get(name),
            None => self.policies.values().find(|policy| policy.name().as_str() == DEFAULT_POLICY),
        };
        found.ok_or_else(|| {
            let name = name.map_or(DEFAULT_POLICY, Name::as_str);
            let text = format!("the OpenPGP authority {} has no policy {name}", self.name);
            Refusal::new(RefusalCode::OpenPgpPolicyUnknown, text)
        })
    }

    /// What the frontend may know of it.
    pub fn entry(&self) -> Result<OpenPgpEntry, Fault> {
        let policies: Vec<_> =
            self.policies.values().map(Policy::entry).collect::<Result<_, _>>()?;
        Ok(OpenPgpEntry {
            name: self.name.clone(),
            certificate: self.key.public()?.try_into().map_err(internal)?,
            policies: List::try_from(policies).map_err(internal)?,
        })
    }
}

/// The row of authority `name`, and the fingerprint that it notes. The key of an old store gets
/// its row here; any other without one is not finished.
pub fn row(
    ledger: &mut Ledger,
    name: &Name,
    time: UnixTime,
) -> Result<Option<(OpenPgpAuthorityId, String)>, Fault> {
    let found = ledger.openpgp_authority(name)?;
    if found.is_some() || name.as_str() != UNNAMED {
        return Ok(found);
    }
    let tx = ledger.begin(time)?;
    let id = tx.add_openpgp_authority(name, "")?;
    tx.commit()?;
    Ok(Some((id, String::new())))
}

/// The authority, if its key is the one that the ledger notes; an old store's is noted now.
pub fn compare(
    ledger: &mut Ledger,
    authority: OpenPgpAuthority,
    noted: &str,
    time: UnixTime,
) -> Result<OpenPgpAuthority, Fault> {
    let fingerprint = authority.key().fingerprint();
    if noted.is_empty() {
        let tx = ledger.begin(time)?;
        tx.set_openpgp_fingerprint(authority.id(), fingerprint)?;
        tx.commit()?;
    } else if noted != fingerprint {
        return Err(Fault::Configuration(format!(
            "the OpenPGP authority {} has the key {fingerprint}, and the ledger knows it with \
             {noted}; put the right key back, or give this one another name",
            authority.name()
        )));
    }
    Ok(authority)
}

/// The files with an authority's policies.
pub fn policy_files(layout: &Layout) -> Result<Vec<PathBuf>, Fault> {
    let directory = layout.policies();
    let entries = fs::read_dir(&directory).map_err(Fault::disk("read", &directory))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Fault::disk("read", &directory))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Writes all that an authority has in its directory; a crash leaves none of it in its place or
/// the whole. `note` puts its row into the ledger before.
pub fn write(
    store: &Path,
    name: &Name,
    cert: &sequoia_openpgp::Cert,
    policy: &str,
    passphrase: Option<&Secret>,
    note: impl FnOnce(&CaKey) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let layout = Layout::new(store, name);
    durable::directory(&store.join("openpgp"), 0o700)?;
    let staging = Layout(store.join("openpgp").join(format!(".{name}.new")));
    if staging.directory().exists() {
        // What an earlier attempt left when its plug was pulled: no key in it ever signed.
        fs::remove_dir_all(staging.directory())
            .map_err(Fault::disk("remove", staging.directory()))?;
    }
    durable::directory(staging.directory(), 0o700)?;
    durable::directory(&staging.policies(), 0o755)?;
    key::store(&staging.secret(), cert, passphrase)?;
    let made = CaKey::load(&staging.secret(), passphrase)?;
    durable::replace(&staging.public(), made.public_armoured()?.as_bytes(), 0o644)?;
    let file = staging.policies().join(format!("{DEFAULT_POLICY}.toml"));
    durable::replace(&file, policy.as_bytes(), 0o644)?;
    note(&made)?;
    durable::crash_point("rename", staging.directory())?;
    fs::rename(staging.directory(), layout.directory())
        .map_err(Fault::disk("rename", staging.directory()))?;
    durable::sync_directory(layout.directory())
}

/// The shipped policy, with the domain of the authority's own address for its notations.
pub fn default_policy(user_id: &str) -> String {
    let domain = UserId::parse(user_id)
        .ok()
        .and_then(|user_id| Some(user_id.address()?.split_once('@')?.1.to_owned()));
    match domain {
        Some(domain) => policy::DEFAULT.replace(
            "#notation_domain = \"ca.example.org\"",
            &format!("notation_domain = \"{domain}\""),
        ),
        None => policy::DEFAULT.to_owned(),
    }
}

//------------ What the vault checks again -----------------------------------

/// A vetted key, its kind and its user IDs in their one form.
#[derive(Debug)]
pub struct Checked {
    /// The primary key.
    pub key: Key<PublicParts, PrimaryRole>,
    /// Its kind, and an RSA key's bits.
    pub kind: (KeyKind, u32),
    /// The user IDs, in the order of the request.
    pub user_ids: Vec<UserId>,
}

/// Checks again, before anything is recorded, all that certifying relies on: whatever a captured
/// gate sends becomes a refusal here, never a fault later.
pub fn check(vetted: &VettedOpenPgp, at: UnixTime) -> Result<Checked, Refusal> {
    let malformed = |what: &str| refuse(RefusalCode::OpenPgpMalformed, what);
    let Some(Packet::PublicKey(key)) = one_packet(vetted.primary()) else {
        return Err(malformed("its primary key is not one public key packet"));
    };
    let kind = KeyKind::of(&key)?;
    if key.fingerprint().to_hex() != vetted.fingerprint() {
        return Err(malformed("its primary key has another fingerprint"));
    }
    if !vetted.minimal().head().starts_with(vetted.primary()) {
        // Whoever takes certifications back reads the key there.
        return Err(malformed("what is to be handed out does not begin with its primary key"));
    }
    if key.creation_time() > system_time(at) {
        let text = "it was made after the signer's time";
        return Err(refuse(RefusalCode::OpenPgpKey, text));
    }
    if vetted.key_expires().is_some_and(|expires| expires <= at.0) {
        return Err(refuse(RefusalCode::OpenPgpExpired, "it has expired"));
    }
    let form = |text: String| Refusal::new(RefusalCode::OpenPgpUserIdForm, text);
    let mut user_ids = Vec::new();
    for text in vetted.user_ids() {
        let user_id = UserId::parse(text)
            .map_err(|fault| form(format!("`{}` {fault}", text.escape_debug())))?;
        user_ids.push(user_id);
    }
    if user_ids.is_empty() || vetted.minimal().user_ids().len() != user_ids.len() {
        return Err(form("no user ID was asked for, or not each has its self-signature".into()));
    }
    Ok(Checked { key, kind, user_ids })
}

/// Times before 1970 become 1970, at which no key is valid.
pub(crate) fn system_time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.0).unwrap_or(0).min(TIME_MAX))
}

/// OpenPGP times are 32 bits, unsigned: until 2106.
const TIME_MAX: u64 = u32::MAX as u64;

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::Internal(format!("OpenPGP: {error}"))
}

fn damaged(path: &Path, error: &impl std::fmt::Display) -> Fault {
    Fault::Damaged { what: path.display().to_string(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
