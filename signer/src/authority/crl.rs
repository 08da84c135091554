//! Writes certificate revocation lists (RFC 5280 5): version 2, AKI, a rising number; full ones,
//! delta CRLs and those of a shard.
//!
//! Nothing here chooses the number, the time or what is listed; that comes from the ledger and
//! the vault.

use protocol::message::CrlScope;

use super::{Authority, CrlConfig};
use crate::{
    calendar::{DAY_S, UnixTime},
    der::{self, tag},
    fault::Fault,
    ledger::{Ledger, Revocation, scope_name},
    profile::{SHARD_PLACE, shard_url},
    tbs::{self, Issuer, extension},
};

mod difference;
mod entries;

pub use difference::{common, listed};
pub use entries::{Entries, Mark, Replacement, encoded, removal};

//------------ An authority's CRLs -------------------------------------------

/// What is wrong with the `[crl]` table of `authority.toml`, beyond its times.
pub(super) fn check_config(config: &CrlConfig) -> Result<(), String> {
    for url in &config.delta_urls {
        // RFC 5280 5.2.6, 4.2.1.13: clients fetch it before they trust any TLS.
        if !url.starts_with("http://") || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("crl.delta_urls has `{url}`, which is no http:// URL"));
        }
    }
    if !config.delta && !config.delta_urls.is_empty() {
        return Err("crl.delta_urls without crl.delta = true: nothing would be there".into());
    }
    if config.shards > SHARDS_MAX {
        return Err(format!("crl.shards {} is over {SHARDS_MAX}", config.shards));
    }
    if let Some(days) = config.keep_days.filter(|days| *days > KEEP_DAYS_MAX) {
        return Err(format!("crl.keep_days {days} is over {KEEP_DAYS_MAX}"));
    }
    Ok(())
}

/// Shards of a few hundred entries are small enough; each costs a signature a day.
const SHARDS_MAX: u16 = 1024;

/// A hundred years: longer than any authority lives.
const KEEP_DAYS_MAX: u32 = 36_525;

impl Authority {
    /// Certificates name their shard for as long as they live, so the number of shards stays.
    pub(super) fn check_crls(&self, ledger: &Ledger) -> Result<(), Fault> {
        let shards = self.config.crl.shards;
        let path = self.layout.file("authority.toml");
        let fault = |text: String| Err(Fault::Configuration(format!("{}: {text}", path.display())));
        let before = ledger.crl_shards(self.id)?;
        if before != 0 && before != shards {
            return fault(format!(
                "crl.shards is {shards}, but certificates name one of {before} shards; set it \
                 back to {before}"
            ));
        }
        if shards > 0 && self.shard_urls(0).is_empty() {
            return fault(format!(
                "crl.shards is {shards}, but no profile's crl_urls has {SHARD_PLACE}; write it \
                 there, or remove crl.shards"
            ));
        }
        Ok(())
    }

    /// Where a shard's CRL can be fetched: what the profiles write into certificates.
    pub fn shard_urls(&self, shard: u16) -> Vec<String> {
        let mut urls = Vec::new();
        for profile in self.profiles() {
            for template in &profile.extensions().crl_urls {
                let url = shard_url(template, shard);
                if template.contains(SHARD_PLACE) && !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    }

    /// The CRLs that it signs.
    pub fn crl_scopes(&self) -> impl Iterator<Item = CrlScope> {
        let delta = self.config.crl.delta.then_some(CrlScope::Delta);
        let shards = (0..self.config.crl.shards).map(CrlScope::Shard);
        std::iter::once(CrlScope::Full).chain(delta).chain(shards)
    }

    /// Whether it signs a CRL of this scope.
    pub fn has_crl(&self, scope: CrlScope) -> bool {
        match scope {
            CrlScope::Full => true,
            CrlScope::Delta => self.config.crl.delta,
            CrlScope::Shard(shard) => shard < self.config.crl.shards,
        }
    }

    /// A revoked certificate may leave a CRL once one that was signed after this moment has
    /// listed it (RFC 5280 3.3): expiry, and as long as its profile says after that. Where there
    /// is no such profile, as for adopted certificates, `authority.toml` says it.
    pub fn stays_until(&self, revocation: &Revocation) -> UnixTime {
        let name = revocation.profile.parse().ok();
        let profile = name.and_then(|name| self.profile(&name));
        let days = match profile {
            Some(profile) => profile.crl_keep_days(),
            None => self.config.crl.keep_days,
        };
        UnixTime(revocation.not_after.0.saturating_add(i64::from(days.unwrap_or(0)) * DAY_S))
    }

    /// Signs a CRL whose number the ledger holds as spent.
    pub fn sign_crl(&self, unsigned: TbsCertList) -> Result<Vec<u8>, Fault> {
        let signature = self.key.sign(unsigned.der())?;
        Ok(unsigned.signed(&self.issuer.signature_algorithm, &signature))
    }
}

/// The name of a CRL's file: `000012.crl`, `000012-delta.crl`, `000012-shard-07.crl`.
pub fn file_name(scope: CrlScope, number: u64) -> String {
    match scope {
        CrlScope::Full => format!("{number:06}.crl"),
        other => format!("{number:06}-{}.crl", scope_name(other)),
    }
}

/// The number and scope in a file's name, if [`file_name`] gave it.
pub fn named_by(file: &str) -> Option<(u64, CrlScope)> {
    let stem = file.strip_suffix(".crl")?;
    let (digits, rest) = stem.split_once('-').unwrap_or((stem, ""));
    let number = digits.parse().ok()?;
    let scope = match rest.strip_prefix("shard-") {
        Some(shard) => CrlScope::Shard(shard.parse().ok()?),
        None if rest == "delta" => CrlScope::Delta,
        None => CrlScope::Full,
    };
    (file_name(scope, number) == file).then_some((number, scope))
}

/// The name under which the newest CRL of a scope is always found.
pub fn newest_file_name(scope: CrlScope) -> String {
    match scope {
        CrlScope::Full => "current.crl".into(),
        other => format!("{}.crl", scope_name(other)),
    }
}

//------------ Encoding ------------------------------------------------------

/// For which certificates a CRL speaks, and what it says about that.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// For all.
    Full {
        /// Where the delta CRL can be fetched; empty where there is none.
        fresh: &'a [String],
    },
    /// For all, as changes since the full CRL with number `base` (RFC 5280 5.2.4).
    Delta {
        /// The number of the base.
        base: u64,
    },
    /// For those that name one of `urls` as their distribution point (RFC 5280 5.2.5).
    Shard {
        /// Where it can be fetched.
        urls: &'a [String],
    },
}

impl Kind<'_> {
    /// The extensions that say so.
    fn extensions(&self) -> Vec<u8> {
        match self {
            Self::Full { fresh: [] } => Vec::new(),
            Self::Full { fresh } => {
                // RFC 5280 5.2.6: not critical, and never in a delta CRL.
                let point = der::sequence(&[&distribution_point(fresh)]);
                tbs::extension(FRESHEST_CRL, false, &der::sequence(&[&point]))
            }
            Self::Delta { base } => {
                tbs::extension(DELTA_CRL_INDICATOR, true, &der::unsigned(*base))
            }
            Self::Shard { urls } => {
                let value = der::sequence(&[&distribution_point(urls)]);
                tbs::extension(ISSUING_DISTRIBUTION_POINT, true, &value)
            }
        }
    }
}

/// `distributionPoint [0] { fullName [0] { URIs } }`
fn distribution_point(urls: &[String]) -> Vec<u8> {
    let uris: Vec<u8> = urls.iter().flat_map(|url| der::implicit(6, url.as_bytes())).collect();
    der::explicit(0, &der::explicit(0, &uris))
}

/// RFC 5280 5.2.4
const DELTA_CRL_INDICATOR: &str = "2.5.29.27";
/// RFC 5280 5.2.5
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
/// RFC 5280 5.2.6
const FRESHEST_CRL: &str = "2.5.29.46";

/// A CRL before its signature.
#[derive(Debug)]
pub struct TbsCertList {
    /// Room for the outer header, then the TBSCertList: what is signed stays where it is.
    buffer: Vec<u8>,
    entries: u64,
}

/// The longest header of a SEQUENCE shorter than 4 GiB.
const HEADER_MAX: usize = 6;

/// Algorithm and signature: RSA with 8,192 bits has the longest.
const SIGNATURE_ROOM: usize = 1_100;

impl TbsCertList {
    /// The TBSCertList, DER.
    pub fn der(&self) -> &[u8] {
        &self.buffer[HEADER_MAX..]
    }

    /// How many certificates it lists.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The CRL: what was signed, how, and the signature.
    pub fn signed(self, signature_algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
        let mut crl = self.buffer;
        crl.extend_from_slice(signature_algorithm);
        crl.extend_from_slice(&der::bit_string(signature));
        let header = der::header(tag::SEQUENCE, crl.len() - HEADER_MAX);
        let unused = HEADER_MAX - header.len();
        crl[unused..HEADER_MAX].copy_from_slice(&header);
        crl.drain(..unused);
        crl
    }
}

/// The TBSCertList with the entries that are `listed`. An empty list has no revokedCertificates at
/// all (RFC 5280 5.1.2.6).
pub fn certificate_list(
    issuer: &Issuer,
    number: u64,
    (this_update, next_update): (UnixTime, UnixTime),
    kind: &Kind<'_>,
    entries: &Entries,
    listed: impl Fn(&Mark) -> bool,
) -> TbsCertList {
    let number = tbs::extension(extension::CRL_NUMBER, false, &der::unsigned(number));
    let identifier = tbs::authority_key_identifier(issuer);
    let extensions = der::sequence(&[&identifier, &number, &kind.extensions()]);
    let front = [
        &der::unsigned(1)[..], // version 2
        &issuer.signature_algorithm,
        &issuer.name,
        &der::time(this_update),
        &der::time(next_update),
    ]
    .concat();
    let back = der::explicit(0, &extensions);
    let (bytes, count) = entries.measure(&listed);
    let list_header = match count {
        0 => Vec::new(),
        _ => der::header(tag::SEQUENCE, bytes),
    };
    let length = front.len() + list_header.len() + bytes + back.len();
    // One allocation: a long list must not be moved while it grows.
    let mut buffer = Vec::with_capacity(HEADER_MAX + HEADER_MAX + length + SIGNATURE_ROOM);
    buffer.resize(HEADER_MAX, 0);
    buffer.extend_from_slice(&der::header(tag::SEQUENCE, length));
    buffer.extend_from_slice(&front);
    buffer.extend_from_slice(&list_header);
    entries.write(&mut buffer, listed);
    buffer.extend_from_slice(&back);
    TbsCertList { buffer, entries: count }
}

/// Since when a key is known or suspected to be lost, as `openssl ca -crl_compromise` notes it
/// behind the word: the entry's invalidityDate (RFC 5280 5.3.2).
fn invalid_since(word: &str) -> Option<UnixTime> {
    let (word, since) = word.split_once(',')?;
    let known = ["keyTime", "CAkeyTime"].iter().any(|known| known.eq_ignore_ascii_case(word));
    UnixTime::from_index(since).filter(|_| known)
}

/// The CRLReason of a word in an index: openssl's names, with what it adds for hold instructions
/// and compromise times after a comma. 0, `unspecified`, is left out.
fn reason_code(word: &str) -> Option<u8> {
    let word = word.split(',').next().unwrap_or_default();
    let codes = [
        ("keyCompromise", 1),
        ("CACompromise", 2),
        ("affiliationChanged", 3),
        ("superseded", 4),
        ("cessationOfOperation", 5),
        ("certificateHold", 6),
        ("removeFromCRL", 8),
        ("privilegeWithdrawn", 9),
        ("AACompromise", 10),
        ("holdInstruction", 6),
        ("keyTime", 1),
        ("CAkeyTime", 2),
    ];
    codes.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, code)| *code)
}

#[cfg(test)]
pub(crate) mod tests {
    use openssl::x509::X509Crl;

    use super::*;

    #[test]
    fn a_file_name_says_scope_and_number_and_nothing_else_does() {
        for (number, scope, name) in [
            (1, CrlScope::Full, "000001.crl"),
            (12, CrlScope::Delta, "000012-delta.crl"),
            (1_000_000, CrlScope::Shard(7), "1000000-shard-07.crl"),
            (3, CrlScope::Shard(1_000), "000003-shard-1000.crl"),
        ] {
            assert_eq!(file_name(scope, number), name);
            assert_eq!(named_by(name), Some((number, scope)));
        }
        for other in
            ["current.crl", "1.crl", "000001.pem", "000001-x.crl", "-delta.crl", "delta.crl"]
        {
            assert_eq!(named_by(other), None, "{other}");
        }
    }

    pub(crate) fn issuer() -> Issuer {
        let name = openssl::x509::X509NameBuilder::new().unwrap();
        let mut name = name;
        name.append_entry_by_text("CN", "CA").unwrap();
        Issuer {
            name: name.build().to_der().unwrap(),
            key_identifier: vec![7; 20],
            signature_algorithm: der::sequence(&[&der::known_oid("1.2.840.10045.4.3.2")]),
            crl_shards: 0,
        }
    }

    pub(crate) fn revocation(serial: &[u8]) -> Revocation {
        Revocation {
            serial: serial.to_vec(),
            at: UnixTime(1_790_000_000),
            reason: Some("keyCompromise".into()),
            not_after: UnixTime(1_800_000_000),
            profile: String::new(),
            shard: None,
        }
    }

    /// `signed` writes the outer length last; OpenSSL reads every length that it can have.
    #[test]
    fn openssl_reads_lists_with_every_length_of_length() {
        for count in [0_u32, 1, 2, 3, 4, 7, 1_300, 1_400, 70_000] {
            let mut entries = Entries::default();
            for number in 0..count {
                let serial = [&[1][..], &number.to_be_bytes()].concat();
                entries.push(&revocation(&serial), UnixTime(1));
            }
            let times = (UnixTime(1_790_000_000), UnixTime(1_790_000_001));
            let urls = ["http://crl.example/1.crl".to_owned()];
            for kind in [
                Kind::Full { fresh: &[] },
                Kind::Full { fresh: &urls },
                Kind::Delta { base: 0x80 },
                Kind::Shard { urls: &urls },
            ] {
                let list = certificate_list(&issuer(), 9, times, &kind, &entries, |_| true);
                assert_eq!(list.entries(), u64::from(count));
                let der = list.signed(&issuer().signature_algorithm, &[1, 2, 3]);
                let crl = X509Crl::from_der(&der).unwrap();
                assert_eq!(crl.get_revoked().map_or(0, |stack| stack.len()), count as usize);
                assert_eq!(crl.to_der().unwrap(), der);
            }
        }
    }
}
