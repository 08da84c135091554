//! Patches: any container against references that are there or not, and the way there and back.

use protocol::{
    message::Digest,
    patch::{self, Common, ReferenceName},
};

use crate::input::Input;

/// What the receiver takes.
const LIMIT: usize = 64 * 1024;

/// The first byte says whether the rest is a stranger's container or something to pack.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => undo_anything(input.rest(), &[]),
        1 => {
            let length = input.below(2048);
            let reference = input.take(length);
            let named = rename(input.rest(), reference);
            undo_anything(&named, &[reference]);
        }
        2 => pack(input),
        _ => splice(input),
    }
}

/// A container that names nothing known would end at once: its first name becomes the reference's.
fn rename(container: &[u8], reference: &[u8]) -> Vec<u8> {
    let mut named = container.to_vec();
    let first_name = 1..1 + patch::NAME_LEN;
    if let Some(name) = named.get_mut(first_name) {
        name.copy_from_slice(&Digest::of(reference).as_bytes()[..patch::NAME_LEN]);
    }
    named
}

fn undo_anything(container: &[u8], references: &[&[u8]]) {
    let names = patch::references(container);
    let undone = patch::unpack(container, resolver(references), LIMIT);
    if let Ok(content) = undone {
        assert!(content.len() <= LIMIT);
        let names = names.expect("a container that can be undone names its references");
        assert!(names.len() <= patch::REFERENCES_MAX);
    }
    // A limit of nothing lets nothing through.
    if let Ok(content) = patch::unpack(container, resolver(references), 0) {
        assert!(content.is_empty());
    }
}

fn pack(mut input: Input<'_>) {
    let (count, one, two) = (input.below(3), input.below(4096), input.below(4096));
    let references = [input.take(one), input.take(two)];
    let references = &references[..count];
    // The content is news with pieces of the references in between, as messages are.
    let mut content = Vec::new();
    while !input.is_empty() && content.len() < LIMIT / 2 {
        let (from, length) = (input.below(4096), input.below(256));
        match references.get(input.below(3)).and_then(|reference| reference.get(from..)) {
            Some(rest) => content.extend_from_slice(&rest[..length.min(rest.len())]),
            None => content.extend_from_slice(input.take(length)),
        }
    }
    let container = patch::pack(&content, references);
    assert!(container.len() <= content.len() + patch::CONTAINER_OVERHEAD_MAX);
    let undone = patch::unpack(&container, resolver(references), LIMIT);
    assert_eq!(undone.as_deref(), Ok(&content[..]));
    if !content.is_empty() {
        assert!(patch::unpack(&container, resolver(references), content.len() - 1).is_err());
    }
}

fn splice(mut input: Input<'_>) {
    let length = input.below(4096);
    let old = input.take(length);
    let (mut new, mut common, mut at) = (Vec::new(), Vec::new(), 0);
    while !input.is_empty() && new.len() < LIMIT / 2 {
        let (skipped, copied, fresh) = (input.below(512), input.below(1024), input.below(64));
        let start = (at + skipped).min(old.len());
        let end = (start + copied).min(old.len());
        if end > start {
            common.push(Common { reference: start, content: new.len(), length: end - start });
        }
        new.extend_from_slice(&old[start..end]);
        new.extend_from_slice(input.take(fresh));
        at = end;
    }
    let Some(container) = patch::pack_spliced(&new, &Digest::of(old), &common) else { return };
    let undone = patch::unpack(&container, resolver(&[old]), LIMIT);
    assert_eq!(undone.as_deref(), Ok(&new[..]));
    assert!(patch::unpack(&container, resolver(&[]), LIMIT).is_err(), "without its reference");
}

fn resolver<'a>(
    references: &'a [&'a [u8]],
) -> impl Fn(ReferenceName) -> Option<&'a [u8]> + use<'a> {
    move |name| references.iter().copied().find(|known| ReferenceName::of(known) == name)
}
