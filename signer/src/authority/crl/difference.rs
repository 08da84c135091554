//! What two CRLs of one scope have in common, found by their structure.
//!
//! Both lists stand in the order of their serial numbers, so one walk along both is enough. The
//! result is a hint for packing: whoever unpacks compares digests.

use std::cmp::Ordering;

use protocol::patch::Common;

use crate::der::tag;

/// The parts of `new` that `old` has too; nothing if one of them is no CRL.
pub fn common(old: &[u8], new: &[u8]) -> Vec<Common> {
    let (Some(old_list), Some(new_list)) = (entries_of(old), entries_of(new)) else {
        return Vec::new();
    };
    let mut parts = Parts::default();
    parts.compare(old, new, (0, old_list.0), (0, new_list.0));
    parts.walk(old, new, old_list, new_list);
    parts.compare(old, new, (old_list.1, old.len()), (new_list.1, new.len()));
    parts.done
}

/// The octets of every serial number that a CRL of ours lists.
pub fn listed(crl: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut at, end) = entries_of(crl).unwrap_or_default();
    std::iter::from_fn(move || {
        let entry = entry(&crl[at..end])?;
        at += entry.length;
        Some(entry.serial)
    })
}

#[derive(Default)]
struct Parts {
    done: Vec<Common>,
}

impl Parts {
    /// Adds what is the same at the same distance in both; a hole of a few bytes, such as a date,
    /// costs a step.
    fn compare(&mut self, old: &[u8], new: &[u8], old_at: (usize, usize), new_at: (usize, usize)) {
        if old_at.1 - old_at.0 != new_at.1 - new_at.0 {
            return;
        }
        for offset in 0..old_at.1 - old_at.0 {
            let (reference, content) = (old_at.0 + offset, new_at.0 + offset);
            if old[reference] == new[content] {
                self.add(reference, content, 1);
            }
        }
        // Short parts cost more steps than they save bytes.
        let (first, end) = (old_at.0, old_at.1);
        let inside = |part: &Common| part.reference >= first && part.reference < end;
        self.done.retain(|part| !inside(part) || part.length >= PART_MIN);
    }

    /// Walks along both lists.
    fn walk(&mut self, old: &[u8], new: &[u8], old_at: (usize, usize), new_at: (usize, usize)) {
        let (mut reference, mut content) = (old_at.0, new_at.0);
        while reference < old_at.1 && content < new_at.1 {
            let (Some(left), Some(right)) =
                (entry(&old[reference..old_at.1]), entry(&new[content..new_at.1]))
            else {
                return;
            };
            match left.serial.cmp(right.serial) {
                Ordering::Less => reference += left.length,
                Ordering::Greater => content += right.length,
                Ordering::Equal => {
                    if old[reference..reference + left.length]
                        == new[content..content + right.length]
                    {
                        self.add(reference, content, left.length);
                    }
                    reference += left.length;
                    content += right.length;
                }
            }
        }
    }

    fn add(&mut self, reference: usize, content: usize, length: usize) {
        match self.done.last_mut() {
            Some(last)
                if last.reference + last.length == reference
                    && last.content + last.length == content =>
            {
                last.length += length;
            }
            _ => self.done.push(Common { reference, content, length }),
        }
    }
}

/// Below this a common part is not worth its step of three numbers.
const PART_MIN: usize = 6;

struct Entry<'a> {
    length: usize,
    serial: &'a [u8],
}

/// The entry at the front: ours have lengths below 128 only.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let [tag::SEQUENCE, length @ 0x00..=0x7f, tag::INTEGER, serial @ 0x00..=0x7f, ..] = *bytes
    else {
        return None;
    };
    let length = 2 + usize::from(length);
    let serial = bytes.get(4..4 + usize::from(serial))?;
    (length <= bytes.len()).then_some(Entry { length, serial })
}

/// Where the entries of a CRL start and end: revokedCertificates (RFC 5280 5.1), or its place if
/// there is none. A list may be longer than three octets can say, so the strict reader of requests
/// does not serve here.
fn entries_of(crl: &[u8]) -> Option<(usize, usize)> {
    let list = element(crl, 0)?;
    let tbs = element(crl, list.start)?;
    // version, signature, issuer, thisUpdate, nextUpdate: ours have them all.
    let mut at = tbs.start;
    for _ in 0..5 {
        at = element(crl, at)?.end;
    }
    let revoked = element(crl, at)?;
    Some(if crl[at] == tag::SEQUENCE { (revoked.start, revoked.end) } else { (at, at) })
}

/// Where the content of the element at `at` starts and ends.
fn element(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let first = *bytes.get(at + 1)?;
    let (start, length) = match first {
        0x00..=0x7f => (at + 2, usize::from(first)),
        0x81..=0x84 => {
            let octets = bytes.get(at + 2..at + 2 + usize::from(first & 0x7f))?;
            let length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
            (at + 2 + octets.len(), length)
        }
        _ => return None,
    };
    (start + length <= bytes.len()).then_some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authority::crl::{
            Entries, Kind, certificate_list,
            tests::{issuer, revocation},
        },
        calendar::UnixTime,
    };

    /// A CRL with these serials and a signature of noise.
    fn crl(number: u64, serials: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut entries = Entries::default();
        for serial in serials {
            entries.push(&revocation(&serial.wrapping_add(0x4000_0000).to_be_bytes()), UnixTime(9));
        }
        let times = (UnixTime(1_790_000_000 + number as i64), UnixTime(1_790_600_000));
        let list = certificate_list(
            &issuer(),
            number,
            times,
            &Kind::Full { fresh: &[] },
            &entries,
            |_| true,
        );
        let signature: Vec<u8> = (0..512)
            .map(|n: u64| ((n + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8)
            .collect();
        list.signed(&issuer().signature_algorithm, &signature)
    }

    fn packed(old: &[u8], new: &[u8]) -> usize {
        let reference = protocol::message::Digest::of(old);
        let packed = protocol::patch::pack_spliced(new, &reference, &common(old, new)).unwrap();
        let unpacked = protocol::patch::unpack(&packed, |_| Some(old), new.len()).unwrap();
        assert!(unpacked == new);
        packed.len()
    }

    #[test]
    fn one_new_entry_among_many_is_its_signature_and_little_more() {
        let old = crl(1, (0..40_000).map(|n| n * 2));
        let new = crl(2, (0..40_000).map(|n| n * 2).chain([79_999]));
        let length = packed(&old, &new);
        assert!(length < 512 + 130, "{length} bytes");
        let length = packed(&new, &old);
        assert!(length < 512 + 130, "{length} bytes with one entry less");
        let refreshed = crl(3, (0..40_000).map(|n| n * 2));
        assert!(packed(&old, &refreshed) < 512 + 90);
    }

    #[test]
    fn entries_all_over_the_list_cost_little_more_than_themselves() {
        let old = crl(1, (0..40_000).map(|n| n * 2));
        let new = crl(2, (0..40_000).map(|n| n * 2 + u32::from(n % 40 == 3)));
        let length = packed(&old, &new);
        assert!(length < 512 + 1_000 * 12, "{length} bytes for 1,000 changed entries");
    }

    #[test]
    fn lists_without_entries_and_what_is_no_crl_have_little_or_nothing_in_common() {
        let (empty, full) = (crl(1, 0..0), crl(2, 0..3));
        assert!(common(&empty, &full).iter().all(|part| part.length < full.len()));
        for bytes in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x05junk!", &full[..9]]
        {
            assert_eq!(common(bytes, &full), []);
            assert_eq!(common(&full, bytes), []);
        }
    }

    #[test]
    fn a_list_past_16_mib_is_compared_too() {
        let old = crl(1, (0..900_000).map(|n| n * 2));
        assert!(old.len() > 16 << 20, "{} bytes", old.len());
        let new = crl(2, (0..900_000).map(|n| n * 2).chain([1_799_999]));
        let length = packed(&old, &new);
        assert!(length < 512 + 140, "{length} bytes");
    }
}
