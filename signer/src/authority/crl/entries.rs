//! The encoded entries of an authority's CRLs, kept between two CRLs.
//!
//! They lie one after the other as they stand in a CRL, by serial number, so that a new CRL costs
//! a merge of what changed, one hash and one signature. Nothing here decides what a CRL lists.

use crate::{
    authority::crl::{invalid_since, reason_code},
    calendar::UnixTime,
    der::{self, tag},
    ledger::Revocation,
    tbs::{self, extension},
};

/// Encoded entries in the order of their serial numbers' octets.
#[derive(Debug, Default)]
pub struct Entries {
    der: Vec<u8>,
    marks: Vec<Mark>,
}

/// What must be known of an entry to leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// It may go once a CRL signed after this moment has listed it.
    pub stays_until: UnixTime,
    /// The number of the change that brought it; 0 where that is in older CRLs already.
    pub seq: u32,
    shard: u16,
    length: u16,
}

impl Mark {
    /// The shard that lists it, too.
    pub fn shard(&self) -> Option<u16> {
        Some(self.shard).filter(|shard| *shard != NO_SHARD)
    }
}

/// What becomes of a serial: another entry, or none.
#[derive(Debug)]
pub struct Replacement {
    /// The content octets of the serial number.
    pub serial: Vec<u8>,
    /// The entry, and until when it stays; none to take it out.
    pub entry: Option<(Vec<u8>, Mark)>,
}

impl Entries {
    /// Adds an entry behind all others: its serial is the highest so far.
    pub fn push(&mut self, revocation: &Revocation, stays_until: UnixTime) {
        let (entry, mark) = encoded(revocation, stays_until, 0);
        self.der.extend_from_slice(&entry);
        self.marks.push(mark);
    }

    /// Adds an encoded entry behind all others.
    pub fn push_encoded(&mut self, entry: &[u8], mark: Mark) {
        self.der.extend_from_slice(entry);
        self.marks.push(mark);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many bytes of memory they take.
    pub fn memory(&self) -> usize {
        self.der.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// Takes in `replacements`, which come by serial, and drops entries that are not `kept`. In
    /// place: a second copy of a long list would not fit beside the CRL that is made of it.
    pub fn merge(&mut self, replacements: &[Replacement], kept: impl Fn(&Mark) -> bool) {
        self.take_out(replacements, kept);
        let fresh: Vec<_> = replacements
            .iter()
            .filter_map(|one| one.entry.as_ref().map(|(entry, mark)| (&one.serial, entry, mark)))
            .collect();
        let Some((_, _, first)) = fresh.first() else { return };
        let (mut from, mut from_mark) = (self.der.len(), self.marks.len());
        self.der.resize(from + fresh.iter().map(|(_, entry, _)| entry.len()).sum::<usize>(), 0);
        self.marks.resize(from_mark + fresh.len(), **first);
        let (mut to, mut to_mark) = (self.der.len(), self.marks.len());
        // From the end, so that nothing is overwritten before it was moved.
        for (serial, entry, mark) in fresh.iter().rev() {
            let end = from;
            let mut moved = from_mark;
            while moved > 0 {
                let start = from - usize::from(self.marks[moved - 1].length);
                if serial_of(&self.der[start..from]) < serial.as_slice() {
                    break;
                }
                (from, moved) = (start, moved - 1);
            }
            self.der.copy_within(from..end, to - (end - from));
            self.marks.copy_within(moved..from_mark, to_mark - (from_mark - moved));
            to -= end - from + entry.len();
            to_mark -= from_mark - moved + 1;
            from_mark = moved;
            self.der[to..to + entry.len()].copy_from_slice(entry);
            self.marks[to_mark] = **mark;
        }
    }

    /// Takes out what is replaced and what is not kept.
    fn take_out(&mut self, replacements: &[Replacement], kept: impl Fn(&Mark) -> bool) {
        let mut replaced = replacements.iter().map(|one| one.serial.as_slice()).peekable();
        let (mut from, mut to, mut to_mark) = (0, 0, 0);
        for index in 0..self.marks.len() {
            let mark = self.marks[index];
            let end = from + usize::from(mark.length);
            let serial = serial_of(&self.der[from..end]);
            while replaced.next_if(|next| *next < serial).is_some() {}
            if replaced.peek() != Some(&serial) && kept(&mark) {
                if to != from {
                    self.der.copy_within(from..end, to);
                }
                self.marks[to_mark] = mark;
                (to, to_mark) = (to + usize::from(mark.length), to_mark + 1);
            }
            from = end;
        }
        self.der.truncate(to);
        self.marks.truncate(to_mark);
    }

    /// The bytes and the number of the entries that are `listed`.
    pub(super) fn measure(&self, listed: impl Fn(&Mark) -> bool) -> (usize, u64) {
        let listed = self.marks.iter().filter(|mark| listed(mark));
        listed.fold((0, 0), |(bytes, count), mark| (bytes + usize::from(mark.length), count + 1))
    }

    /// Adds the entries that are `listed` to `out`, in long runs.
    pub(super) fn write(&self, out: &mut Vec<u8>, listed: impl Fn(&Mark) -> bool) {
        let (mut run, mut at) = (0, 0);
        for mark in &self.marks {
            let end = at + usize::from(mark.length);
            if !listed(mark) {
                out.extend_from_slice(&self.der[run..at]);
                run = end;
            }
            at = end;
        }
        out.extend_from_slice(&self.der[run..at]);
    }

    /// The serial number's octets and the mark of every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Mark)> {
        let mut at = 0;
        self.marks.iter().map(move |mark| {
            let start = at;
            at += usize::from(mark.length);
            (serial_of(&self.der[start..at]), mark)
        })
    }
}

/// One entry: serial, date, and the reason code unless it is unspecified or absent
/// (RFC 5280 5.3.1).
pub fn encoded(revocation: &Revocation, stays_until: UnixTime, seq: i64) -> (Vec<u8>, Mark) {
    let reason = revocation.reason.as_deref();
    let code = reason.and_then(reason_code);
    let invalid = reason.and_then(invalid_since);
    let entry = entry(&revocation.serial, revocation.at, code, invalid);
    let mark = Mark {
        stays_until,
        seq: u32::try_from(seq).unwrap_or(u32::MAX),
        shard: revocation.shard.unwrap_or(NO_SHARD),
        length: entry.len() as u16, // a serial has at most 20 octets, so below 100
    };
    (entry, mark)
}

/// The entry that takes a serial out again, in delta CRLs only (RFC 5280 5.3.1).
pub fn removal(serial: &[u8], at: UnixTime) -> (Vec<u8>, Mark) {
    let entry = entry(serial, at, Some(REMOVE_FROM_CRL), None);
    let length = entry.len() as u16; // as above
    (entry, Mark { stays_until: at, seq: u32::MAX, shard: NO_SHARD, length })
}

fn entry(serial: &[u8], at: UnixTime, code: Option<u8>, invalid: Option<UnixTime>) -> Vec<u8> {
    let code = code.map(|code| {
        let value = der::element(tag::ENUMERATED, &[code]);
        tbs::extension(extension::REASON_CODE, false, &value)
    });
    let invalid = invalid.map(|since| {
        let value =
            der::element(tag::GENERALIZED_TIME, since.civil().generalized_time().as_bytes());
        tbs::extension(extension::INVALIDITY_DATE, false, &value)
    });
    let extensions = match [code, invalid].into_iter().flatten().collect::<Vec<_>>().concat() {
        none if none.is_empty() => none,
        some => der::element(tag::SEQUENCE, &some),
    };
    let serial = der::element(tag::INTEGER, serial);
    der::sequence(&[&serial, &der::time(at), &extensions])
}

/// The octets of the serial number of an entry of ours: all lengths are below 128.
fn serial_of(entry: &[u8]) -> &[u8] {
    &entry[4..4 + usize::from(entry[3])]
}

const REMOVE_FROM_CRL: u8 = 8;

/// Stands for no shard; an authority has fewer.
const NO_SHARD: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(serial: &[u8], at: i64) -> Revocation {
        Revocation {
            serial: serial.to_vec(),
            at: UnixTime(at),
            reason: (at % 2 == 0).then(|| "superseded".to_owned()),
            not_after: UnixTime(at),
            profile: String::new(),
            shard: None,
        }
    }

    fn replacement(serial: &[u8], at: Option<i64>) -> Replacement {
        let entry = at.map(|at| encoded(&revocation(serial, at), UnixTime(at), 7));
        Replacement { serial: serial.to_vec(), entry }
    }

    #[test]
    fn time_of_a_compromise_becomes_the_invalidity_date() {
        let mut revoked = revocation(&[7], 1_790_000_000);
        revoked.reason = Some("keyTime,20250102030405Z".into());
        let (entry, _) = encoded(&revoked, UnixTime(0), 0);
        // RFC 5280 5.3.1 keyCompromise, then 5.3.2 as `openssl ca` writes it.
        let expected = [
            &[0x30, 0x26, 0x30, 0x0a, 6, 3, 0x55, 0x1d, 21, 4, 3, 10, 1, 1][..],
            &[0x30, 0x18, 6, 3, 0x55, 0x1d, 24, 4, 17, 0x18, 15],
            b"20250102030405Z",
        ];
        assert!(entry.ends_with(&expected.concat()), "{entry:02x?}");
        for other in ["keyTime,soon", "superseded,20250102030405Z", "keyTime"] {
            revoked.reason = Some(other.into());
            let (entry, _) = encoded(&revoked, UnixTime(0), 0);
            assert!(!entry.windows(3).any(|oid| oid == [0x55, 0x1d, 24]), "{other}");
        }
    }

    /// The same by the plain way: a sorted map, encoded anew.
    fn plain(map: &std::collections::BTreeMap<Vec<u8>, i64>) -> Vec<u8> {
        let entries =
            map.iter().map(|(serial, at)| encoded(&revocation(serial, *at), UnixTime(*at), 0).0);
        entries.flatten().collect()
    }

    #[test]
    fn merging_gives_what_encoding_anew_gives() {
        // A small generator: which serials come, change and go is different in each round.
        let mut state = 0x5eed_u64;
        let mut next = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let mut entries = Entries::default();
        let mut map = std::collections::BTreeMap::new();
        for round in 0..300 {
            let mut changes = std::collections::BTreeMap::new();
            for _ in 0..next(8) {
                // Of different lengths, so that order by octets is not order by value.
                let serial = vec![1 + next(5) as u8; 1 + next(3) as usize];
                changes.insert(serial, (next(4) > 0).then(|| 1_000 + next(50) as i64));
            }
            let limit = 1_000 + next(10) as i64;
            let replacements: Vec<_> =
                changes.iter().map(|(serial, at)| replacement(serial, *at)).collect();
            entries.merge(&replacements, |mark| mark.stays_until.0 >= limit);
            map.retain(|_, at| *at >= limit);
            for (serial, at) in changes {
                match at {
                    Some(at) => drop(map.insert(serial, at)),
                    None => drop(map.remove(&serial)),
                }
            }
            assert_eq!(entries.der, plain(&map), "round {round}");
            assert_eq!(entries.len(), map.len(), "round {round}");
            let serials = entries.iter().map(|(serial, _)| serial.to_vec());
            assert!(serials.eq(map.keys().cloned()), "round {round}");
            let mut odd = Vec::new();
            entries.write(&mut odd, |mark| mark.stays_until.0 % 2 == 1);
            map.iter().for_each(|_| {});
            let expected: std::collections::BTreeMap<_, _> = map
                .iter()
                .filter(|(_, at)| **at % 2 == 1)
                .map(|(s, at)| (s.clone(), *at))
                .collect();
            assert_eq!(odd, plain(&expected), "round {round}");
            let measured = entries.measure(|mark| mark.stays_until.0 % 2 == 1);
            assert_eq!(measured, (odd.len(), expected.len() as u64));
        }
    }

    #[test]
    fn a_hundred_thousand_entries_take_less_than_eight_megabytes() {
        let mut entries = Entries::default();
        for number in 0..100_000_u32 {
            let serial = [&[0x40; 12][..], &number.to_be_bytes()].concat();
            entries.push(&revocation(&serial, 1_000), UnixTime(1_000));
        }
        assert!(entries.memory() < 16 << 20, "{} bytes", entries.memory());
        assert_eq!(size_of::<Mark>(), 16);
    }
}
