//! The golden bytes below the messages: frames, patches, a handshake with sealed records; and the
//! digest of all golden files, which never changes again.

use std::collections::BTreeMap;

use protocol::{
    frame::{self, Decoder},
    link::{Endpoint, EndpointConfig, Event, HELLO_PREFIX, KINDS},
    message::{Answer, Digest, Request},
    patch::{self, ReferenceName},
    secure::{Entropy, Pairing, SecretKey},
    session::{Event as Heard, FrontendSession, Session, SessionConfig, Side, SignerSession},
    time::Instant,
};

use crate::{golden::golden_directory, talk::kind};

/// The SHA-256 over every golden file of version 1: name, a zero byte, content, in the order of
/// their names.
const VERSION_1: &str = "106343863cfff7fc2b230080d114de34eb9d57e8f658e6de9872184b820afca4";

/// The parts of a golden file: a name with a colon, then its bytes.
pub(crate) fn parts(file: &str) -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(golden_directory().join(file)).unwrap();
    let mut parts = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_suffix(':') {
            Some(found) => name = found.to_owned(),
            None => {
                let bytes: &mut Vec<u8> = parts.entry(name.clone()).or_default();
                let octets = line.split_whitespace();
                bytes.extend(octets.map(|octet| u8::from_str_radix(octet, 16).unwrap()));
            }
        }
    }
    parts.retain(|_, bytes| !bytes.is_empty());
    parts
}

#[test]
fn the_golden_bytes_of_version_1_are_frozen() {
    let folder = golden_directory();
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut all = Vec::new();
    for name in names {
        all.extend_from_slice(name.as_bytes());
        all.push(0);
        all.extend(std::fs::read(folder.join(name)).unwrap());
    }
    let digest = Digest::of(&all);
    let found: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        found, VERSION_1,
        "golden bytes of version 1 were changed, and they are frozen: whatever changes a byte on \
         the wire is a new version with golden bytes of its own (protocol/src/version.rs)"
    );
}

//------------ Frames --------------------------------------------------------

const FRONTEND_BOOT: u64 = 0x0706_0504_0302_0100;
const SIGNER_BOOT: u64 = 0x1716_1514_1312_1110;

fn endpoint(side: Side, boot_id: u64) -> Endpoint {
    Endpoint::new(EndpointConfig { side, boot_id, line_rate: None }, Instant::ZERO)
}

#[test]
fn every_kind_of_frame_has_golden_bytes_and_they_are_made_alike() {
    let parts = parts("frames.hex");
    let names: Vec<_> = parts.keys().filter_map(|name| name.strip_suffix("/wire")).collect();
    for name in &names {
        let part = |of: &str| &parts[&format!("{name}/{of}")];
        let mut wire = Vec::new();
        frame::encode(part("prefix"), part("body"), &mut wire);
        assert_eq!(&wire, part("wire"), "{name}");
        let sealed = Decoder::default().next(&mut &wire[..]).unwrap();
        assert_eq!(sealed.open(part("prefix")), Some(&part("body")[..]), "{name}");
        let plain = name.split('-').next().unwrap();
        assert_eq!(kind(&wire).map(str::to_lowercase).as_deref(), Some(plain));
    }
    for (kind, _) in KINDS {
        assert!(names.contains(&kind.to_lowercase().as_str()), "no golden {kind}");
    }
}

#[test]
fn golden_frames_open_a_connection_and_carry_segments() {
    let parts = parts("frames.hex");
    let wire = |name: &str| &parts[&format!("{name}/wire")][..];
    let now = Instant::ZERO;
    let mut signer = endpoint(Side::Signer, SIGNER_BOOT);
    signer.handle_bytes(now, wire("hello"));
    assert!(signer.poll_transmit(now, |_| None).is_some(), "it answers");
    signer.handle_bytes(now, wire("hello-echo"));
    assert_eq!(signer.poll_event(), Some(Event::Up { plain: false }));
    signer.handle_bytes(now, wire("data"));
    let body = &parts["data/body"];
    assert_eq!(signer.poll_segment().as_deref(), Some(&body[3..]));
    signer.handle_bytes(now, wire("part"));
    assert_eq!(signer.poll_segment(), None, "half a segment");
    signer.handle_bytes(now, wire("part-rest"));
    assert_eq!(signer.poll_segment().as_deref(), Some(&body[3..]));
    signer.handle_bytes(now, wire("ack"));
    while signer.poll_transmit(now, |_| None).is_some() {}
    signer.handle_bytes(now, wire("probe"));
    let answer = signer.poll_transmit(now, |_| None).unwrap();
    assert_eq!(kind(&answer), Some("Report"));
    let counters = signer.counters();
    assert_eq!((counters.frames_malformed, counters.frames_broken), (0, 0));
    assert_eq!(counters.frames_received, 7);
}

#[test]
fn golden_hellos_are_what_is_said_and_a_golden_busy_is_understood() {
    let parts = parts("frames.hex");
    let mut frontend = endpoint(Side::Frontend, FRONTEND_BOOT);
    let said = frontend.poll_transmit(Instant::ZERO, |_| None).unwrap();
    // A delimiter in front ends the noise of before.
    assert_eq!(said[1..], parts["hello/wire"]);
    assert_eq!(parts["hello/prefix"], HELLO_PREFIX);
    frontend.handle_bytes(Instant::ZERO, &parts["busy/wire"]);
    assert_eq!(frontend.poll_event(), Some(Event::Occupied));
}

//------------ Patches -------------------------------------------------------

#[test]
fn golden_patches_of_every_kind_are_undone() {
    let parts = parts("patches.hex");
    let references = [&parts["reference-1"][..], &parts["reference-2"][..]];
    let resolve = |name| references.iter().copied().find(|known| ReferenceName::of(known) == name);
    let kinds = ["stored", "patched-0", "patched-1", "patched-2", "spliced"];
    for (number, name) in kinds.into_iter().enumerate() {
        let container = &parts[name];
        assert_eq!(usize::from(container[0]), number, "{name}");
        let content = if name == "patched-0" { &parts["text"] } else { &parts["content"] };
        let undone = patch::unpack(container, resolve, content.len());
        assert_eq!(undone.as_ref(), Ok(content), "{name}");
    }
}

//------------ The secure session --------------------------------------------

fn config(side: Side) -> SessionConfig {
    let entropy = |byte: u8| Entropy::new(move |bytes: &mut [u8]| bytes.fill(byte));
    let [frontend, signer] = [0x11, 0x22].map(|byte| SecretKey::generate(&entropy(byte)));
    let (secret, peer, boot_id, byte) = match side {
        Side::Frontend => (frontend, signer.public(), FRONTEND_BOOT, 0x33),
        Side::Signer => (signer, frontend.public(), SIGNER_BOOT, 0x44),
    };
    let link = EndpointConfig { side, boot_id, line_rate: None };
    SessionConfig { link, pairing: Pairing { secret, peer }, entropy: entropy(byte) }
}

/// What was recorded of either end opens a session with today's other end, and its sealed record
/// is read. When a sender acknowledges is its own affair, so the bytes that today's end says are
/// not compared.
#[test]
fn a_recorded_session_is_understood_by_both_ends() {
    let parts = parts("handshake.hex");
    let now = Instant::ZERO;
    let recorded = |who: &str| -> Vec<&Vec<u8>> {
        parts.iter().filter(|(name, _)| name.ends_with(who)).map(|(_, bytes)| bytes).collect()
    };
    let mut signer: SignerSession = Session::new(config(Side::Signer), now);
    let mut heard = Vec::new();
    for bytes in recorded("-frontend") {
        while signer.poll_transmit(now).is_some() {}
        signer.handle_bytes(now, bytes);
        while let Some(event) = signer.poll_event() {
            heard.push(event);
        }
        if signer.is_up() {
            // The recorded frontend acknowledges what the signer said next.
            let _ = signer.send(now, &Answer::CatalogueUnchanged);
        }
    }
    let right = matches!(&heard[..], [Heard::Up, Heard::Message(Request::Status)]);
    assert!(right, "{heard:?}");

    let mut frontend: FrontendSession = Session::new(config(Side::Frontend), now);
    let mut heard = Vec::new();
    for bytes in recorded("-signer") {
        while frontend.poll_transmit(now).is_some() {}
        frontend.handle_bytes(now, bytes);
        while let Some(event) = frontend.poll_event() {
            heard.push(event);
        }
    }
    while frontend.poll_transmit(now).is_some() {}
    let right = matches!(&heard[..], [Heard::Up, Heard::Message(Answer::CatalogueUnchanged)]);
    assert!(right, "{heard:?}");
}
