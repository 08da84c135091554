//! The one place that turns values into bytes and back.
//!
//! bincode 2 with its standard configuration (little-endian varints, RFC-less but documented in
//! `SPEC.md`) stays behind these two functions, so that it can be replaced without a change on
//! the wire. Decoding never allocates more than `LIMIT` bytes, whatever lengths a peer claims.

use bincode::config;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes could not be turned into a value, or a value into bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are no encoding of the expected type, or claim more than the limit.
    #[error("malformed or oversized encoding: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// The value cannot be encoded within the limit.
    #[error("value cannot be encoded: {0}")]
    Unencodable(#[from] bincode::error::EncodeError),
    /// A value was decoded but bytes are left over.
    #[error("{count} bytes after the end of the value")]
    Trailing {
        /// How many bytes are left over.
        count: usize,
    },
}

/// Encodes `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(bincode::serde::encode_to_vec(value, config::standard())?)
}

/// Decodes exactly one value from `bytes`, refusing claims beyond `LIMIT` bytes before allocating.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = config::standard().with_limit::<LIMIT>();
    let (value, consumed) = bincode::serde::decode_from_slice(bytes, config)?;
    match bytes.len() - consumed {
        0 => Ok(value),
        count => Err(CodecError::Trailing { count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_survives_the_round_trip() {
        let value = (7u32, String::from("ca"), vec![1u8, 2, 3]);
        let bytes = encode(&value).unwrap();
        let back: (u32, String, Vec<u8>) = decode::<_, 1024>(&bytes).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn claimed_length_is_refused_before_allocation() {
        // A string that claims 2^60 bytes: varint marker 253 announces a u64.
        let mut bytes = vec![253u8];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        let result = decode::<String, 1024>(&bytes);
        assert!(matches!(result, Err(CodecError::Malformed(_))), "{result:?}");
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&5u8).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u8, 64>(&bytes), Err(CodecError::Trailing { count: 1 })));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encode(&(7u32, String::from("authority"), vec![9u8; 40])).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode::<(u32, String, Vec<u8>), 1024>(&bytes[..cut]).is_err(), "cut {cut}");
        }
    }
}
