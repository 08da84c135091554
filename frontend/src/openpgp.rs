//! OpenPGP keys (RFC 9580): trimming an upload to what is certified, checking what came back,
//! keeping it, and handing it out.
//!
//! Signatures by others, attributes and user IDs that were not asked for stay here. Secret key
//! material is refused before anything else happens to it and never gets into the queue.

use std::time::{Duration, SystemTime};

use protocol::message::RefusalCode;

use crate::refusal::Refusal;

pub mod answer;
pub mod check;
pub mod export;
pub mod publish;
pub mod register;
pub mod strip;
pub mod wkd;

use strip::Stripped;

/// What goes over the wire without a check: the key without armour and without signatures by others
/// if it can be read, else its packets as they are. Only secret key material is refused here as
/// well (invariant I15), and what cannot be read at all, which may be just that.
pub fn read_unchecked(bytes: &[u8], from: &str) -> Result<Vec<u8>, Refusal> {
    match Stripped::read(bytes, from) {
        Err(refusal) if refusal.code == RefusalCode::OpenPgpSecret => Err(refusal),
        Err(_) => {
            let binary = strip::without_armour(bytes, from)?;
            strip::only_public(&binary, from)?;
            Ok(binary)
        }
        // Writing into memory cannot fail; if it did, the bytes as given go instead.
        Ok(stripped) => Ok(stripped.to_bytes().unwrap_or_else(|| bytes.to_vec())),
    }
}

/// `bytes` with ASCII armour.
pub fn armour(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;

    use sequoia_openpgp::armor::{Kind, Writer};

    let mut writer = Writer::new(Vec::new(), Kind::PublicKey)?;
    writer.write_all(bytes)?;
    writer.finalize()
}

fn system_time(unix_us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(unix_us).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests;
