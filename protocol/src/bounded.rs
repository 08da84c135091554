//! Texts, byte strings and lists that carry their bound in the type.
//!
//! A value past its bound cannot be made, neither by us nor by decoding what a peer sent. The
//! codec's limit has already refused any claim that would size an allocation.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value was longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{actual} {unit} where at most {limit} are allowed")]
pub struct TooLong {
    actual: usize,
    limit: usize,
    unit: &'static str,
}

/// UTF-8 text of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const N: usize>(String);

impl<const N: usize> Text<N> {
    /// Takes as much of `text` as fits, cut at a character's edge; for messages to people.
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].to_owned())
    }
}

impl<const N: usize> TryFrom<String> for Text<N> {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        if text.len() > N {
            return Err(TooLong { actual: text.len(), limit: N, unit: "bytes" });
        }
        Ok(Self(text))
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        text.to_owned().try_into()
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// At most `N` bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bytes<const N: usize>(Vec<u8>);

impl<const N: usize> Bytes<N> {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The bytes themselves.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const N: usize> TryFrom<Vec<u8>> for Bytes<N> {
    type Error = TooLong;

    fn try_from(bytes: Vec<u8>) -> Result<Self, TooLong> {
        if bytes.len() > N {
            return Err(TooLong { actual: bytes.len(), limit: N, unit: "bytes" });
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.0.len())
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const N: usize>;

        impl<const N: usize> de::Visitor<'_> for Visitor<N> {
            type Value = Bytes<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes<N>, E> {
                self.visit_byte_buf(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes<N>, E> {
                bytes.try_into().map_err(E::custom)
            }
        }

        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// At most `N` items.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<T>")]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct List<T, const N: usize>(Vec<T>);

impl<T, const N: usize> List<T, N> {
    /// A list without items.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The items themselves.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for List<T, N> {
    type Error = TooLong;

    fn try_from(items: Vec<T>) -> Result<Self, TooLong> {
        if items.len() > N {
            return Err(TooLong { actual: items.len(), limit: N, unit: "items" });
        }
        Ok(Self(items))
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> IntoIterator for List<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn bound_holds_for_values_and_for_decoded_bytes() {
        assert!(Text::<3>::try_from("abc").is_ok());
        assert!(Text::<3>::try_from("abcd").is_err());
        let long = encode(&String::from("abcd")).unwrap();
        assert!(decode::<Text<3>, 64>(&long).is_err());

        let bytes = Bytes::<4>::try_from(vec![1, 2, 3, 4]).unwrap();
        assert_eq!(decode::<Bytes<4>, 64>(&encode(&bytes).unwrap()).unwrap(), bytes);
        assert!(decode::<Bytes<3>, 64>(&encode(&bytes).unwrap()).is_err());

        let list = List::<u32, 2>::try_from(vec![1, 2]).unwrap();
        assert_eq!(decode::<List<u32, 2>, 64>(&encode(&list).unwrap()).unwrap(), list);
        assert!(decode::<List<u32, 1>, 64>(&encode(&list).unwrap()).is_err());
    }

    #[test]
    fn truncation_never_splits_a_character() {
        assert_eq!(&*Text::<4>::truncated("aäöü"), "aä");
    }
}
