//! An object as cuttings of the one before it: which parts are the same, and what is new between.
//!
//! Who packs knows the object's structure and names the common parts, so that packing costs no
//! search: a list of five megabytes with one new entry takes a millisecond. Nothing here knows any
//! structure, and nothing that a peer claims sizes an allocation.

use super::PatchError;
use crate::varint;

/// A part that is the same in both. Parts are named in order and do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Where it starts in the reference.
    pub reference: usize,
    /// Where it starts in the content.
    pub content: usize,
    /// How many bytes.
    pub length: usize,
}

/// The script that makes `content` out of its reference: the number of steps; for each step how
/// many bytes of the reference are left out, how many are copied, and how many are new; then all
/// new bytes together, so that they compress well.
pub(super) fn write(content: &[u8], common: &[Common]) -> Vec<u8> {
    let mut steps = Vec::new();
    let mut new = Vec::new();
    let (mut reference_at, mut content_at) = (0, 0);
    let mut step = |skip: usize, copy: usize, fresh: &[u8]| {
        [skip, copy, fresh.len()].iter().for_each(|part| varint::put(*part as u64, &mut steps));
        new.extend_from_slice(fresh);
    };
    let mut count = 0u64;
    let mut pending = (0, 0);
    for part in common {
        // What is new in front of this part belongs to the step before it.
        step(pending.0, pending.1, &content[content_at..part.content]);
        count += 1;
        pending = (part.reference - reference_at, part.length);
        reference_at = part.reference + part.length;
        content_at = part.content + part.length;
    }
    step(pending.0, pending.1, &content[content_at..]);
    count += 1;
    let mut script = Vec::with_capacity(varint::LEN_MAX + steps.len() + new.len());
    varint::put(count, &mut script);
    script.extend_from_slice(&steps);
    script.extend_from_slice(&new);
    script
}

/// Follows a script; the result has exactly `length` bytes, which the caller has bounded.
pub(super) fn follow(
    script: &[u8],
    reference: &[u8],
    length: usize,
) -> Result<Vec<u8>, PatchError> {
    let mut steps = script;
    let count = varint::take(&mut steps).ok_or(PatchError::Truncated)?;
    let mut new = steps;
    for _ in 0..count {
        // Ends at the end of the script, however many steps are claimed.
        take_step(&mut new)?;
    }
    let mut content = Vec::new();
    content.try_reserve_exact(length).map_err(|_| PatchError::NoMemory { length })?;
    let mut reference_at = 0usize;
    for _ in 0..count {
        let [skip, copy, fresh] = take_step(&mut steps)?;
        let outside = PatchError::Corrupt("a step leaves the reference");
        let start = reference_at.checked_add(skip).ok_or(outside)?;
        let end = start.checked_add(copy).filter(|end| *end <= reference.len()).ok_or(outside)?;
        let fresh = new.split_off(..fresh).ok_or(PatchError::Truncated)?;
        if copy.saturating_add(fresh.len()) > length - content.len() {
            return Err(PatchError::Corrupt("the steps give more than was announced"));
        }
        content.extend_from_slice(&reference[start..end]);
        content.extend_from_slice(fresh);
        reference_at = end;
    }
    match new.is_empty() {
        true => Ok(content),
        false => Err(PatchError::Corrupt("bytes are left over")),
    }
}

fn take_step(input: &mut &[u8]) -> Result<[usize; 3], PatchError> {
    let mut part = || {
        let value = varint::take(input).ok_or(PatchError::Truncated)?;
        usize::try_from(value).map_err(|_| PatchError::Corrupt("a step is too long"))
    };
    Ok([part()?, part()?, part()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[u8] = b"head one two three four tail";
    const NEW: &[u8] = b"HEAD one three five four tail!";

    fn common() -> Vec<Common> {
        let part = |text: &str| {
            let at = |whole: &[u8]| {
                whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
            };
            Common { reference: at(OLD), content: at(NEW), length: text.len() }
        };
        vec![part(" one "), part("three "), part("four tail")]
    }

    #[test]
    fn a_script_gives_the_content_back() {
        let script = write(NEW, &common());
        assert_eq!(follow(&script, OLD, NEW.len()).unwrap(), NEW);
        let nothing_common = write(NEW, &[]);
        assert_eq!(follow(&nothing_common, OLD, NEW.len()).unwrap(), NEW);
        let all = [Common { reference: 0, content: 0, length: OLD.len() }];
        assert_eq!(follow(&write(OLD, &all), OLD, OLD.len()).unwrap(), OLD);
        assert_eq!(follow(&write(b"", &[]), OLD, 0).unwrap(), b"");
    }

    #[test]
    fn a_step_outside_the_reference_or_past_the_announced_length_is_refused() {
        let script = write(NEW, &common());
        let outside = PatchError::Corrupt("a step leaves the reference");
        assert_eq!(follow(&script, &OLD[..OLD.len() - 1], NEW.len()), Err(outside));
        let more = PatchError::Corrupt("the steps give more than was announced");
        assert_eq!(follow(&script, OLD, NEW.len() - 1), Err(more));
        let left_over = PatchError::Corrupt("bytes are left over");
        assert_eq!(follow(&[&script[..], b"x"].concat(), OLD, NEW.len()), Err(left_over));
        for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 0, 0], &[]] {
            assert_eq!(follow(claim, OLD, NEW.len()), Err(PatchError::Truncated));
        }
        let mut huge = vec![1];
        [u64::MAX, u64::MAX, 0].iter().for_each(|part| varint::put(*part, &mut huge));
        assert!(follow(&huge, OLD, NEW.len()).is_err());
    }
}
