//! The protection of the cable for what travels as a file, one way, when there is no cable.
//!
//! One handshake message, then records in their order: only the paired peer can have sealed them,
//! only we can open them, and with this header only. Unlike on the cable nothing here tells an old
//! file from a new one, nor the last record from one that was cut off after: whoever writes the
//! file puts that into what is sealed. No file is opened here.

use snow::StatelessTransportState;

use super::{
    Failure,
    key::{Entropy, Pairing},
    noise::{self, MESSAGE_LEN, Part, TAG_LEN},
};

/// What the prologue of a file begins with; its header follows.
const PROLOGUE: &[u8] = b"isolated signer sealed file 1";

/// Length of the handshake message that goes before the records.
pub const SEALED_HANDSHAKE_LEN: usize = MESSAGE_LEN;
/// What sealing adds to each record.
pub const SEALED_OVERHEAD: usize = TAG_LEN;
/// The most bytes in one record before it is sealed.
pub const SEALED_RECORD_MAX: usize = 32 * 1024;

/// What was not sealed by the paired peer, for us, with this header, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it was not sealed by the paired other side for this one, or it was changed since: compare \
     fingerprints with `signer pair --show` and `frontend pair --show`"
)]
pub struct NotSealed;

/// Seals the records of one file.
pub struct Sealer {
    transport: StatelessTransportState,
    records: u64,
}

impl Sealer {
    /// Begins a file that opens with `header` only; gives the message to be written before the
    /// records.
    pub fn new(
        pairing: &Pairing,
        entropy: &Entropy,
        header: &[u8],
    ) -> Result<(Self, Vec<u8>), Failure> {
        let prologue = [PROLOGUE, header].concat();
        let mut handshake =
            noise::begin(noise::FILE, Part::Initiator, pairing, Some(entropy), &prologue)?;
        let message = noise::write(&mut handshake)?;
        let transport = handshake.into_stateless_transport_mode().map_err(|_| Failure::Unable)?;
        Ok((Self { transport, records: 0 }, message.to_vec()))
    }

    /// Seals the next record, of at most [`SEALED_RECORD_MAX`] bytes.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, Failure> {
        assert!(content.len() <= SEALED_RECORD_MAX, "records are bounded");
        let mut sealed = vec![0; content.len() + TAG_LEN];
        let length = self.transport.write_message(self.records, content, &mut sealed);
        sealed.truncate(length.map_err(|_| Failure::Unable)?);
        self.records += 1;
        Ok(sealed)
    }
}

/// Opens the records of one file, in their order.
pub struct Opener {
    transport: StatelessTransportState,
    records: u64,
}

impl Opener {
    /// Begins a file that begins with `message`.
    pub fn new(pairing: &Pairing, header: &[u8], message: &[u8]) -> Result<Self, NotSealed> {
        let prologue = [PROLOGUE, header].concat();
        let opened = || {
            let mut handshake =
                noise::begin(noise::FILE, Part::Responder, pairing, None, &prologue)?;
            noise::read(&mut handshake, message)?;
            handshake.into_stateless_transport_mode().map_err(|_| Failure::Stranger)
        };
        let transport = opened().map_err(|_| NotSealed)?;
        Ok(Self { transport, records: 0 })
    }

    /// Opens the next record.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NotSealed> {
        if sealed.len() > SEALED_RECORD_MAX + TAG_LEN {
            return Err(NotSealed);
        }
        let mut content = vec![0; sealed.len()];
        let length = self.transport.read_message(self.records, sealed, &mut content);
        content.truncate(length.map_err(|_| NotSealed)?);
        self.records += 1;
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(pairing: &Pairing) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut sealer, message) = Sealer::new(pairing, &Entropy::seeded(9), b"header").unwrap();
        let records = [&b"one"[..], b"", &[7; SEALED_RECORD_MAX]];
        (message, records.iter().map(|record| sealer.seal(record).unwrap()).collect())
    }

    #[test]
    fn a_file_opens_at_the_peer_record_by_record() {
        let (frontend, signer) = Pairing::both(1);
        let (message, records) = sealed(&frontend);
        assert_eq!(message.len(), SEALED_HANDSHAKE_LEN);
        assert_eq!(records[0].len(), 3 + SEALED_OVERHEAD);
        let mut opener = Opener::new(&signer, b"header", &message).unwrap();
        assert_eq!(opener.open(&records[0]).unwrap(), b"one");
        assert_eq!(opener.open(&records[1]).unwrap(), b"");
        assert_eq!(opener.open(&records[2]).unwrap(), [7; SEALED_RECORD_MAX]);
    }

    #[test]
    fn a_file_opens_nowhere_else_and_with_no_other_header() {
        let (frontend, signer) = Pairing::both(1);
        let (message, _) = sealed(&frontend);
        let (other_frontend, other_signer) = Pairing::both(2);
        // Not at another signer, not at a signer that is paired with another frontend, and not
        // where it came from.
        let misled = Pairing { secret: signer.secret.clone(), peer: other_signer.peer };
        for pairing in [&other_signer, &other_frontend, &misled, &frontend] {
            assert!(Opener::new(pairing, b"header", &message).is_err());
        }
        assert!(Opener::new(&signer, b"Header", &message).is_err());
        for cut in 0..message.len() {
            assert!(Opener::new(&signer, b"header", &message[..cut]).is_err());
        }
    }

    #[test]
    fn records_that_are_changed_left_out_or_out_of_order_do_not_open() {
        let (frontend, signer) = Pairing::both(1);
        let (message, records) = sealed(&frontend);
        for at in 0..records[0].len() {
            let mut changed = records[0].clone();
            changed[at] ^= 1;
            let mut opener = Opener::new(&signer, b"header", &message).unwrap();
            assert!(opener.open(&changed).is_err());
            assert!(opener.open(&records[0][..at]).is_err());
        }
        let mut opener = Opener::new(&signer, b"header", &message).unwrap();
        assert!(opener.open(&records[1]).is_err());
        opener.open(&records[0]).unwrap();
        assert!(opener.open(&records[0]).is_err());
        assert!(opener.open(&[0; SEALED_RECORD_MAX + SEALED_OVERHEAD + 1]).is_err());
    }
}
