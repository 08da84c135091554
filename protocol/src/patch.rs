//! One mechanism for "the other end already has most of this".
//!
//! A container holds bytes either as they are or compressed with zstd (RFC 8878) against up to two
//! references, which are named by the first bytes of their SHA-256. The receiver looks the
//! references up, undoes the patch and compares the SHA-256 of the result, so a wrong or missing
//! reference is found here and never passed on. This room keeps no references and decides nothing
//! about which to use.
//!
//! | container | bytes |
//! |---|---|
//! | stored | `00`, then the content |
//! | patched | `01` + number of references, their names (4 bytes each), check (4 bytes), content length (LEB128), one zstd frame without its magic number |
//! | spliced | `04`, the reference's name (4 bytes), check (4 bytes), content length (LEB128), a container without references of the script that cuts the content out of the reference |
//!
//! The zstd frame was made with the references, one after the other, as its prefix; it has no
//! checksum, no dictionary id and no content size.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, SafeResult, get_error_name};

use crate::{message::Digest, varint};

mod splice;

pub use splice::Common;

/// The most references of one patch.
pub const REFERENCES_MAX: usize = 2;
/// How much of a SHA-256 names a reference. A clash is found by the check.
pub const NAME_LEN: usize = 4;
/// How much of the SHA-256 of the content is compared.
pub const CHECK_LEN: usize = 4;
/// How much longer than its content a container can be: a stored one by its first byte.
pub const CONTAINER_OVERHEAD_MAX: usize = 1;

const STORED: u8 = 0;
/// Patched with `kind - PATCHED` references.
const PATCHED: u8 = 1;
/// Cut out of one reference.
const SPLICED: u8 = PATCHED + REFERENCES_MAX as u8 + 1;
/// RFC 8878 3.1.1: known, so not sent.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The least of a patch beside the names of its references: its kind, the check, the length, and
/// of the frame a descriptor, the window, and a block with its header (RFC 8878 3.1.1).
const PATCHED_LEAST: usize = 1 + CHECK_LEN + 1 + (1 + 1 + 3 + 1);
/// For messages: higher levels save no byte more on them and take longer; 40 µs each.
const LEVEL_MESSAGE: i32 = 9;
/// For objects of many megabytes with a reference: 70 ms for 5 MB.
const LEVEL_OBJECT: i32 = 9;
/// For whole objects of many megabytes: higher levels save a tenth and take many times the time
/// and memory.
const LEVEL_WHOLE: i32 = 3;
/// The steps of one object and what is new in it are no longer than this; more, and the object
/// is sent as a whole.
const SCRIPT_MAX: usize = 16 << 20;
/// What zstd can reach back at most on a 64-bit machine.
const WINDOW_LOG_MAX: u32 = 31;
/// What zstd takes at least.
const WINDOW_LOG_MIN: u32 = 10;

/// The first bytes of a SHA-256, as the name of a reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReferenceName([u8; NAME_LEN]);

impl ReferenceName {
    /// The name of `reference`.
    pub fn of(reference: &[u8]) -> Self {
        Self::from(&Digest::of(reference))
    }

    /// The name of the reference with this digest.
    pub fn from(digest: &Digest) -> Self {
        let (name, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        Self(*name)
    }
}

impl std::fmt::Debug for ReferenceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a container could not be undone. None of these goes away by asking again for the same
/// bytes; asking for them without references helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The container ends before its content begins.
    #[error("the patch is cut short")]
    Truncated,
    /// The first byte means nothing.
    #[error("the patch is of unknown kind {kind}")]
    UnknownKind {
        /// The first byte.
        kind: u8,
    },
    /// The content is longer than the caller takes.
    #[error("the patch claims {claimed} bytes where at most {limit} are taken")]
    TooLong {
        /// What the container says.
        claimed: u64,
        /// What the caller takes.
        limit: usize,
    },
    /// A reference is not here (any more).
    #[error("the patch needs reference {name:?}, which is not here")]
    MissingReference {
        /// Which.
        name: ReferenceName,
    },
    /// zstd cannot read it.
    #[error("the patch cannot be decompressed: {0}")]
    Corrupt(&'static str),
    /// The result is not what was packed: another reference, or damage.
    #[error("the patch gives other bytes than were packed")]
    CheckMismatch,
    /// The content does not fit in memory.
    #[error("no memory for {length} bytes")]
    NoMemory {
        /// The length of the content.
        length: usize,
    },
}

//------------ Packing -------------------------------------------------------

/// The container that holds `bytes` as they are.
pub fn store(bytes: &[u8]) -> Vec<u8> {
    let mut container = Vec::with_capacity(1 + bytes.len());
    container.push(STORED);
    container.extend_from_slice(bytes);
    container
}

/// Packs a message against at most [`REFERENCES_MAX`] references, the most alike last; stored if
/// that is shorter.
pub fn pack(bytes: &[u8], references: &[&[u8]]) -> Vec<u8> {
    pack_shortest(bytes, &[references.to_vec()])
}

/// Packs a message as [`pack`] does against each of these lists of references; the shortest.
pub fn pack_shortest(bytes: &[u8], choices: &[Vec<&[u8]>]) -> Vec<u8> {
    pack_with(bytes, choices, |context| set(context, CParameter::CompressionLevel(LEVEL_MESSAGE)))
}

/// Packs an object of up to hundreds of megabytes, such as a CRL, against the one before it.
pub fn pack_object(bytes: &[u8], reference: Option<&[u8]>) -> Vec<u8> {
    let reach = bytes.len() + reference.map_or(0, <[u8]>::len);
    let window_log = (usize::BITS - reach.leading_zeros()).clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
    let level = if reference.is_some() { LEVEL_OBJECT } else { LEVEL_WHOLE };
    pack_with(bytes, &[reference.into_iter().collect()], |context| {
        set(context, CParameter::CompressionLevel(level))?;
        set(context, CParameter::EnableLongDistanceMatching(true))?;
        set(context, CParameter::WindowLog(window_log))
    })
}

/// Packs an object against the one before it, of which it has these parts: at once, however long
/// it is. Nothing if so little is common that the whole object is to be packed.
pub fn pack_spliced(bytes: &[u8], reference: &Digest, common: &[Common]) -> Option<Vec<u8>> {
    let kept: usize = common.iter().map(|part| part.length).sum();
    if kept < bytes.len() / 2 {
        return None;
    }
    let script = splice::write(bytes, common);
    if script.len() > SCRIPT_MAX {
        return None;
    }
    let mut container = vec![SPLICED];
    container.extend_from_slice(&ReferenceName::from(reference).0);
    container.extend_from_slice(&check(bytes));
    varint::put(bytes.len() as u64, &mut container);
    container.extend_from_slice(&pack(&script, &[]));
    Some(container)
}

/// One context serves all choices: to make one takes longer than to pack a message with it.
fn pack_with(
    bytes: &[u8],
    choices: &[Vec<&[u8]>],
    parameters: impl FnOnce(&mut CCtx<'_>) -> Result<(), &'static str>,
) -> Vec<u8> {
    let mut shortest = store(bytes);
    // No patch is as short.
    let least = |references: &[&[u8]]| PATCHED_LEAST + NAME_LEN * references.len();
    let choices: Vec<_> = choices.iter().filter(|it| bytes.len() >= least(it)).collect();
    if choices.is_empty() {
        return shortest;
    }
    let prefixes: Vec<_> = choices.iter().map(|references| references.concat()).collect();
    // zstd fails here only for want of memory; then the bytes go as they are.
    let Ok(mut context) = context(parameters) else { return shortest };
    for (references, prefix) in choices.into_iter().zip(&prefixes) {
        assert!(references.len() <= REFERENCES_MAX, "a patch has few references");
        let Ok(frame) = compress(&mut context, bytes, prefix) else { continue };
        let Some(frame) = frame.strip_prefix(&MAGIC) else { continue };
        let mut container = vec![PATCHED + references.len() as u8];
        for reference in references {
            container.extend_from_slice(&ReferenceName::of(reference).0);
        }
        container.extend_from_slice(&check(bytes));
        varint::put(bytes.len() as u64, &mut container);
        container.extend_from_slice(frame);
        if container.len() < shortest.len() {
            shortest = container;
        }
    }
    shortest
}

fn context<'a>(
    parameters: impl FnOnce(&mut CCtx<'_>) -> Result<(), &'static str>,
) -> Result<CCtx<'a>, &'static str> {
    let mut context = CCtx::try_create().ok_or("no memory")?;
    parameters(&mut context)?;
    set(&mut context, CParameter::ContentSizeFlag(false))?;
    set(&mut context, CParameter::ChecksumFlag(false))?;
    set(&mut context, CParameter::DictIdFlag(false))?;
    Ok(context)
}

/// The parameters stay for the next frame, the prefix is for this one.
fn compress<'a>(
    context: &mut CCtx<'a>,
    bytes: &[u8],
    prefix: &'a [u8],
) -> Result<Vec<u8>, &'static str> {
    checked(context.ref_prefix(prefix))?;
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    checked(context.compress2(&mut frame, bytes))?;
    Ok(frame)
}

fn set(context: &mut CCtx<'_>, parameter: CParameter) -> Result<(), &'static str> {
    checked(context.set_parameter(parameter)).map(drop)
}

fn checked(result: SafeResult) -> Result<usize, &'static str> {
    result.map_err(get_error_name)
}

fn check(bytes: &[u8]) -> [u8; CHECK_LEN] {
    let digest = Digest::of(bytes);
    let (check, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    *check
}

//------------ Unpacking -----------------------------------------------------

/// Undoes [`pack`], [`pack_object`] and [`pack_spliced`]. `resolve` finds references by name; content of more than
/// `length_max` bytes is refused before memory is taken for it.
pub fn unpack<'a>(
    container: &[u8],
    resolve: impl Fn(ReferenceName) -> Option<&'a [u8]>,
    length_max: usize,
) -> Result<Vec<u8>, PatchError> {
    let (kind, rest) = container.split_first().ok_or(PatchError::Truncated)?;
    let references = match *kind {
        STORED => return unpack_stored(rest, length_max),
        SPLICED => return unpack_spliced(rest, resolve, length_max),
        kind if usize::from(kind - PATCHED) <= REFERENCES_MAX => usize::from(kind - PATCHED),
        kind => return Err(PatchError::UnknownKind { kind }),
    };
    unpack_patched(rest, references, resolve, length_max)
}

/// The names of the references that `container` needs.
pub fn references(container: &[u8]) -> Result<Vec<ReferenceName>, PatchError> {
    let (kind, mut rest) = container.split_first().ok_or(PatchError::Truncated)?;
    let count = match *kind {
        STORED => 0,
        SPLICED => 1,
        kind if usize::from(kind - PATCHED) <= REFERENCES_MAX => usize::from(kind - PATCHED),
        kind => return Err(PatchError::UnknownKind { kind }),
    };
    (0..count).map(|_| Ok(ReferenceName(take(&mut rest)?))).collect()
}

fn unpack_stored(bytes: &[u8], length_max: usize) -> Result<Vec<u8>, PatchError> {
    if bytes.len() > length_max {
        return Err(PatchError::TooLong { claimed: bytes.len() as u64, limit: length_max });
    }
    Ok(bytes.to_vec())
}

fn unpack_patched<'a>(
    mut rest: &[u8],
    references: usize,
    resolve: impl Fn(ReferenceName) -> Option<&'a [u8]>,
    length_max: usize,
) -> Result<Vec<u8>, PatchError> {
    let mut prefix = Vec::new();
    for _ in 0..references {
        let name = ReferenceName(take(&mut rest)?);
        prefix.push(resolve(name).ok_or(PatchError::MissingReference { name })?);
    }
    let (expected, length) = take_announcement(&mut rest, length_max)?;
    let content = decompress(rest, &prefix.concat(), length)?;
    if content.len() != length || check(&content) != expected {
        return Err(PatchError::CheckMismatch);
    }
    Ok(content)
}

fn unpack_spliced<'a>(
    mut rest: &[u8],
    resolve: impl Fn(ReferenceName) -> Option<&'a [u8]>,
    length_max: usize,
) -> Result<Vec<u8>, PatchError> {
    let name = ReferenceName(take(&mut rest)?);
    let reference = resolve(name).ok_or(PatchError::MissingReference { name })?;
    let (expected, length) = take_announcement(&mut rest, length_max)?;
    let (kind, body) = rest.split_first().ok_or(PatchError::Truncated)?;
    let nothing = |_: ReferenceName| -> Option<&'a [u8]> { None };
    // A script is no script of a script: the depth is one.
    let script = match *kind {
        STORED => unpack_stored(body, SCRIPT_MAX)?,
        PATCHED => unpack_patched(body, 0, nothing, SCRIPT_MAX)?,
        kind => return Err(PatchError::UnknownKind { kind }),
    };
    let content = splice::follow(&script, reference, length)?;
    if content.len() != length || check(&content) != expected {
        return Err(PatchError::CheckMismatch);
    }
    Ok(content)
}

/// The check and the length of the content, which is at most `length_max`.
fn take_announcement(
    rest: &mut &[u8],
    length_max: usize,
) -> Result<([u8; CHECK_LEN], usize), PatchError> {
    let expected: [u8; CHECK_LEN] = take(rest)?;
    let claimed = varint::take(rest).ok_or(PatchError::Truncated)?;
    let length = usize::try_from(claimed)
        .ok()
        .filter(|length| *length <= length_max)
        .ok_or(PatchError::TooLong { claimed, limit: length_max })?;
    Ok((expected, length))
}

/// Decompresses in one go into memory of the announced length, which the caller has bounded: zstd
/// then needs no window of its own, whatever size the frame's header claims for it. Pages that are
/// never written are never occupied.
fn decompress(frame: &[u8], prefix: &[u8], length: usize) -> Result<Vec<u8>, PatchError> {
    let mut content = Vec::new();
    content.try_reserve_exact(length).map_err(|_| PatchError::NoMemory { length })?;
    let mut context = DCtx::try_create().ok_or(PatchError::NoMemory { length })?;
    let frame = [&MAGIC, frame].concat();
    checked(context.ref_prefix(prefix)).map_err(PatchError::Corrupt)?;
    checked(context.decompress(&mut content, &frame)).map_err(PatchError::Corrupt)?;
    Ok(content)
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], PatchError> {
    let (head, rest) = input.split_first_chunk().ok_or(PatchError::Truncated)?;
    *input = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn resolver<'a>(
        references: &'a [&'a [u8]],
    ) -> impl Fn(ReferenceName) -> Option<&'a [u8]> + use<'a> {
        move |name| references.iter().copied().find(|r| ReferenceName::of(r) == name)
    }

    /// A message, its request, and the message before it.
    fn sample() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (request, previous) = (noise(1, 600), noise(2, 1200));
        let message = [&previous[..500], &request[100..], &noise(3, 512), &previous[500..]];
        (message.concat(), request, previous)
    }

    #[test]
    fn what_the_other_end_has_is_not_sent_again() {
        let (message, request, previous) = sample();
        let references = [&request[..], &previous[..]];
        let packed = pack(&message, &references);
        // 512 new bytes, 19 of the container, few for where the rest is.
        assert!(packed.len() < 512 + 19 + 60, "{} of {}", packed.len(), message.len());
        assert_eq!(unpack(&packed, resolver(&references), LIMIT).unwrap(), message);
    }

    #[test]
    fn every_length_survives_with_and_without_references() {
        let reference = noise(9, 300);
        for length in (0..200).chain([1000, 4095, 70_000]) {
            for content in [noise(4, length), vec![b'a'; length]] {
                for references in [&[][..], &[&reference[..]], &[&reference[..], &content[..]]] {
                    let packed = pack(&content, references);
                    assert!(packed.len() <= content.len() + CONTAINER_OVERHEAD_MAX);
                    assert_eq!(unpack(&packed, resolver(references), LIMIT), Ok(content.clone()));
                }
            }
        }
    }

    #[test]
    fn a_missing_or_another_reference_is_found_out() {
        let (message, request, previous) = sample();
        let packed = pack(&message, &[&request, &previous]);
        let kept = [&previous[..]];
        let name = ReferenceName::of(&request);
        let missing = PatchError::MissingReference { name };
        assert_eq!(unpack(&packed, resolver(&kept), LIMIT), Err(missing));
        // A name clash: other bytes of the same length under that name.
        let mut other = request.clone();
        other[200] ^= 1;
        let clash = |asked| Some(if asked == name { &other[..] } else { &previous[..] });
        assert_eq!(unpack(&packed, clash, LIMIT), Err(PatchError::CheckMismatch));
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_gives_other_content() {
        let (message, request, previous) = sample();
        let references = [&request[..], &previous[..]];
        let packed = pack(&message, &references);
        for cut in 0..packed.len() {
            assert!(unpack(&packed[..cut], resolver(&references), LIMIT).is_err(), "cut {cut}");
        }
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = unpack(&damaged, resolver(&references), LIMIT);
            // Some bits of a zstd frame mean nothing here, such as the window size. What is stored
            // carries no check of its own: that is the link's.
            let right = result.is_err() || result.as_ref() == Ok(&message);
            assert!(right || damaged[0] == STORED, "bit {bit}");
        }
    }

    #[test]
    fn a_bomb_and_a_false_claim_are_refused_before_memory_is_taken() {
        let packed = pack(&vec![0; 100_000], &[]);
        assert!(packed.len() < 100);
        let refused = unpack(&packed, resolver(&[]), 99_999);
        assert_eq!(refused, Err(PatchError::TooLong { claimed: 100_000, limit: 99_999 }));
        assert!(unpack(&store(&[0; 11]), resolver(&[]), 10).is_err());
        let mut claim = vec![PATCHED];
        claim.extend_from_slice(&[0; CHECK_LEN]);
        varint::put(u64::MAX, &mut claim);
        let refused = unpack(&claim, resolver(&[]), LIMIT);
        assert_eq!(refused, Err(PatchError::TooLong { claimed: u64::MAX, limit: LIMIT }));
        // More content than announced does not fit where it goes.
        let mut liar = packed.clone();
        let at = 1 + CHECK_LEN;
        assert_eq!(varint::take(&mut &liar[at..]), Some(100_000));
        liar.splice(at..at + 3, [0xff, 0xff, 0x05]);
        assert!(matches!(unpack(&liar, resolver(&[]), LIMIT), Err(PatchError::Corrupt(_))));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        for kind in SPLICED + 1..=255 {
            let refused = unpack(&[kind, 0, 0, 0, 0], resolver(&[]), LIMIT);
            assert_eq!(refused, Err(PatchError::UnknownKind { kind }));
        }
    }

    #[test]
    fn the_next_day_s_crl_is_a_few_kilobytes_and_names_its_base() {
        // Entries of 37 bytes with random serials; 200 of 60,000 are new, all over the list.
        let entry = |number: u64| {
            let mut entry = vec![0x30, 0x23, 0x02, 0x10];
            entry.extend(noise(number, 16));
            entry.extend_from_slice(b"\x17\x0d261122000000Z\x30\x00");
            entry
        };
        let yesterday: Vec<u8> = (0..60_000).flat_map(|n| entry(n * 3 + 1)).collect();
        let mut today = yesterday.clone();
        for new in 0..200u64 {
            let at = new as usize * 300 * entry(1).len();
            today.splice(at..at, entry(new * 3 + 2));
        }
        let packed = pack_object(&today, Some(&yesterday));
        assert!(packed.len() < 200 * 40, "{} bytes", packed.len());
        assert_eq!(references(&packed).unwrap(), [ReferenceName::of(&yesterday)]);
        let unpacked = unpack(&packed, resolver(&[&yesterday]), today.len());
        assert!(unpacked.unwrap() == today);
        let whole = pack_object(&today, None);
        assert_eq!(references(&whole).unwrap(), []);
        assert!(unpack(&whole, resolver(&[]), today.len()).unwrap() == today);
    }

    #[test]
    fn a_spliced_object_is_its_news_and_no_damage_gives_other_content() {
        let old = noise(5, 20_000);
        let new = [&old[..9_000], &noise(7, 40), &old[9_500..], &noise(8, 20)].concat();
        let common = [
            Common { reference: 0, content: 0, length: 9_000 },
            Common { reference: 9_500, content: 9_040, length: 10_500 },
        ];
        let packed = pack_spliced(&new, &Digest::of(&old), &common).unwrap();
        assert!(packed.len() < 60 + 40, "{} bytes", packed.len());
        assert_eq!(references(&packed).unwrap(), [ReferenceName::of(&old)]);
        assert!(unpack(&packed, resolver(&[&old]), new.len()).unwrap() == new);
        let too_long = unpack(&packed, resolver(&[&old]), new.len() - 1);
        assert!(matches!(too_long, Err(PatchError::TooLong { .. })));
        assert!(matches!(
            unpack(&packed, resolver(&[]), new.len()),
            Err(PatchError::MissingReference { .. })
        ));
        for cut in 0..packed.len() {
            assert!(unpack(&packed[..cut], resolver(&[&old]), LIMIT).is_err(), "cut {cut}");
        }
        for bit in 8..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = unpack(&damaged, resolver(&[&old]), LIMIT);
            assert!(result.is_err() || result.as_ref() == Ok(&new), "bit {bit}");
        }
        // A script of a script would be a way to go deeper and deeper.
        let mut nested = packed[..1 + NAME_LEN + CHECK_LEN + 3].to_vec();
        nested.extend_from_slice(&packed);
        assert_eq!(
            unpack(&nested, resolver(&[&old]), LIMIT),
            Err(PatchError::UnknownKind { kind: SPLICED })
        );
        assert_eq!(pack_spliced(&new, &Digest::of(&old), &[]), None, "nothing is common");
    }

    #[test]
    fn an_object_past_16_mebibytes_is_packed_against_the_one_before_it() {
        let old = noise(5, 17 << 20);
        let new = [&noise(6, 40)[..], &old[..9 << 20], &noise(7, 40), &old[9 << 20..]].concat();
        let packed = pack_object(&new, Some(&old));
        assert!(packed.len() < 8 * 1024, "{} bytes", packed.len());
        assert!(unpack(&packed, resolver(&[&old]), new.len()).unwrap() == new);
    }
}
