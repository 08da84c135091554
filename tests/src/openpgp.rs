//! OpenPGP keys made by `gpg`, `sq` and rPGP, in folders of their own, and what they say of a key.
//!
//! It knows packets as framing only: what is in them, other people's tools say.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    Ended, Process, World,
    world::{COMMAND_MAX, NOT_FOUND},
};

pub mod rpgp;

impl World {
    /// The public key of an OpenPGP authority of the signer, armoured.
    pub fn openpgp_authority(&self, name: &str) -> String {
        self.file(&format!("signer/openpgp/{name}/public.asc"))
    }

    /// A new, empty folder for gpg.
    pub fn gpg_home(&self, name: &str) -> Result<GpgHome> {
        let folder = self.path(&format!("gpg-{name}"));
        fs::create_dir(&folder)?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&folder, private)?;
        Ok(GpgHome { folder })
    }

    /// Runs one of Sequoia's programs; it must end well.
    pub fn sequoia(&self, name: &str, words: &[&str], input: Option<&[u8]>) -> Result<Ended> {
        run(name, words, &[], input)?.done()
    }
}

/// Runs a program of somebody else and returns however it ended.
pub fn run(
    name: &str,
    words: &[&str],
    variables: &[(&str, &OsStr)],
    input: Option<&[u8]>,
) -> Result<Ended> {
    let ended = Process::run(Path::new(name), words, variables, input, COMMAND_MAX)?;
    let absent = ended.code == Some(NOT_FOUND) && ended.stderr.contains("failed to execute");
    ensure!(!absent, "`{name}` is not installed; run `cargo xtask setup`");
    Ok(ended)
}

/// The first file at or below `path` that holds these bytes.
pub fn find(path: &Path, bytes: &[u8]) -> Result<Option<PathBuf>> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            if let Some(found) = find(&entry?.path(), bytes)? {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    }
    // Sockets and pipes hold nothing.
    if !path.is_file() {
        return Ok(None);
    }
    let held = fs::read(path)?;
    Ok(held.windows(bytes.len()).any(|window| window == bytes).then(|| path.to_owned()))
}

//------------ gpg -----------------------------------------------------------

/// A folder with keyrings of gpg's own. Its daemons end with it.
pub struct GpgHome {
    folder: PathBuf,
}

impl GpgHome {
    /// The folder of another, which is there.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs gpg here; it must end well. What it printed.
    pub fn gpg(&self, words: &[&str]) -> Result<String> {
        Ok(self.fed(words, None)?.done()?.text())
    }

    /// The same with something on its standard input, however it ends.
    pub fn fed(&self, words: &[&str], input: Option<&[u8]>) -> Result<Ended> {
        let fixed = ["--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback"];
        let words = [&fixed[..], &["--passphrase", "", "--no-auto-check-trustdb"], words].concat();
        run("gpg", &words, &[("GNUPGHOME", self.folder.as_os_str())], input)
    }

    /// Makes a key of this algorithm that certifies and signs; its fingerprint.
    pub fn make(&self, user_id: &str, algorithm: &str, expires: &str) -> Result<String> {
        self.gpg(&["--quick-gen-key", user_id, algorithm, "cert,sign", expires])?;
        self.fingerprint(user_id)
    }

    /// The fingerprint of the key with this user ID.
    pub fn fingerprint(&self, user_id: &str) -> Result<String> {
        let listing = self.gpg(&["--with-colons", "--list-keys", &format!("={user_id}")])?;
        let line = listing.lines().find_map(|line| line.strip_prefix("fpr:"));
        let found = line.and_then(|line| line.split(':').nth(8));
        Ok(found.with_context(|| format!("no fingerprint in {listing}"))?.to_owned())
    }

    /// Adds user IDs `NAME <ADDRESS>`, all in one session.
    pub fn add_user_ids(&self, fingerprint: &str, user_ids: &[String]) -> Result<()> {
        let mut typed = String::new();
        for user_id in user_ids {
            let (name, address) = user_id
                .strip_suffix('>')
                .and_then(|open| open.split_once(" <"))
                .with_context(|| format!("`{user_id}` has no name and address"))?;
            // The comment stays empty.
            typed.push_str(&format!("adduid\n{name}\n{address}\n\n"));
        }
        typed.push_str("save\n");
        let words = ["--no-batch", "--command-fd", "0", "--edit-key", fingerprint];
        self.fed(&words, Some(typed.as_bytes()))?.done().map(drop)
    }

    /// The public key, binary, with the user IDs that a filter of gpg's keeps.
    pub fn export(&self, fingerprint: &str, keep: Option<&str>) -> Result<Vec<u8>> {
        let filter = keep.map(|keep| format!("keep-uid={keep}"));
        let filter: Vec<&str> =
            filter.iter().flat_map(|filter| ["--export-filter", filter.as_str()]).collect();
        let words = [&filter[..], &["--export", fingerprint]].concat();
        Ok(self.fed(&words, None)?.done()?.stdout)
    }

    /// The secret key, binary.
    pub fn export_secret(&self, fingerprint: &str) -> Result<Vec<u8>> {
        Ok(self.fed(&["--export-secret-keys", fingerprint], None)?.done()?.stdout)
    }

    /// Every user ID of the only key that is not `issuer`'s own with the signatures by `issuer`.
    pub fn certifications(&self, fingerprint: &str, issuer: &str) -> Result<Vec<Judged>> {
        let listing = self.gpg(&[
            "--with-colons",
            "--list-options",
            "show-policy-urls,show-sig-subpackets=\"26,20\"",
            "--check-sigs",
            fingerprint,
        ])?;
        judged(&listing, issuer)
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        // Best effort: without a daemon there is nothing to end.
        let folder = [("GNUPGHOME", self.folder.as_os_str())];
        let _ = run("gpgconf", &["--kill", "all"], &folder, None);
    }
}

/// A user ID and what gpg says of an issuer's signatures of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The user ID.
    pub user_id: String,
    /// The letter of its validity: `r` when revoked, `f` when gpg believes it.
    pub validity: String,
    /// Each signature by the issuer.
    pub signatures: Vec<JudgedSignature>,
}

/// One signature, as gpg sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedSignature {
    /// `sig`, or `rev` for a revocation.
    pub kind: String,
    /// `!` for a good one.
    pub verdict: String,
    /// The class, as `13x`, with a reason behind a comma for a revocation.
    pub class: String,
    /// When it was made.
    pub created: i64,
    /// When it ends, if it does.
    pub expires: Option<i64>,
    /// The policy URIs in it.
    pub policies: Vec<String>,
    /// The notations in it, as `name=value`.
    pub notations: Vec<String>,
}

fn judged(listing: &str, issuer: &str) -> Result<Vec<Judged>> {
    let mut found: Vec<Judged> = Vec::new();
    // Whether the subpackets that follow belong to one of the issuer's.
    let mut ours = false;
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
        match field(1) {
            "pub" | "sub" | "uat" => ours = false,
            "uid" => {
                ours = false;
                let (user_id, validity) = (unescaped(field(10)), field(2).to_owned());
                found.push(Judged { user_id, validity, signatures: Vec::new() });
            }
            kind @ ("sig" | "rev") => {
                ours = issuer.ends_with(field(5)) && !field(5).is_empty();
                let Some(user_id) = found.last_mut().filter(|_| ours) else { continue };
                let number = |text: &str| text.parse::<i64>().ok();
                user_id.signatures.push(JudgedSignature {
                    kind: kind.to_owned(),
                    verdict: field(2).to_owned(),
                    class: field(11).to_owned(),
                    created: number(field(6)).context("a signature without a time")?,
                    expires: number(field(7)),
                    policies: Vec::new(),
                    notations: Vec::new(),
                });
            }
            "spk" if ours => {
                let last = found.last_mut().and_then(|user_id| user_id.signatures.last_mut());
                let Some(signature) = last else { continue };
                match field(2) {
                    "26" => signature.policies.push(unescaped(field(5))),
                    "20" => signature.notations.extend(notation(&octets(field(5)))),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A notation subpacket (RFC 9580 5.2.3.24): flags, two lengths, name and value.
fn notation(octets: &[u8]) -> Option<String> {
    let length =
        |at: usize| Some(usize::from(*octets.get(at)?) << 8 | usize::from(*octets.get(at + 1)?));
    let (name, value) = (length(4)?, length(6)?);
    let text = |from: usize, length: usize| {
        octets.get(from..from + length).map(|octets| String::from_utf8_lossy(octets).into_owned())
    };
    Some(format!("{}={}", text(8, name)?, text(8 + name, value)?))
}

fn unescaped(text: &str) -> String {
    String::from_utf8_lossy(&octets(text)).into_owned()
}

/// gpg writes what would break its lines as `\x3a`, and subpackets as `%3A`.
fn octets(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (digits, behind) = match (first, behind) {
            (b'\\', [b'x', digits @ ..]) => (digits.get(..2), digits.get(2..)),
            (b'%', digits) => (digits.get(..2), digits.get(2..)),
            _ => (None, None),
        };
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, behind) {
            (Some(byte), Some(behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = &rest[1..];
            }
        }
    }
    bytes
}

//------------ Packets -------------------------------------------------------

/// A packet as it is framed (RFC 9580 4.2): its type and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The type: 2 a signature, 6 a key, 13 a user ID, 14 a subkey, 17 an attribute.
    pub tag: u8,
    /// What is in it.
    pub body: Vec<u8>,
}

impl Packet {
    /// The packets in `bytes`, which are not armoured.
    pub fn all(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let mut packets = Vec::new();
        while let Some((first, rest)) = bytes.split_first() {
            ensure!(first & 0x80 != 0, "no packet begins with {first:#x}");
            let (tag, length, header) = match first & 0x40 {
                0 => old_header(*first, rest)?,
                _ => new_header(*first, rest)?,
            };
            let body = rest.get(header..header + length).context("a packet is cut off")?;
            packets.push(Self { tag, body: body.to_vec() });
            bytes = &rest[header + length..];
        }
        Ok(packets)
    }

    /// With a header of the new form.
    pub fn write(&self) -> Vec<u8> {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        [&[0xc0 | self.tag, 0xff][..], &length.to_be_bytes(), &self.body].concat()
    }

    /// Whether it is a signature of version 4 that names this issuer by its fingerprint.
    pub fn is_by(&self, fingerprint: &str) -> bool {
        let octets: Vec<u8> = (0..fingerprint.len() / 2)
            .filter_map(|at| u8::from_str_radix(&fingerprint[2 * at..2 * at + 2], 16).ok())
            .collect();
        // Issuer Fingerprint: type 33, then the version, then the fingerprint.
        let named = [&[33, 4][..], &octets].concat();
        self.tag == 2 && self.body.windows(named.len()).any(|window| window == named)
    }
}

fn old_header(first: u8, rest: &[u8]) -> Result<(u8, usize, usize)> {
    let header = match first & 3 {
        0 => 1,
        1 => 2,
        2 => 4,
        _ => bail!("a packet without a length"),
    };
    let octets = rest.get(..header).context("a packet's header is cut off")?;
    let length = octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    Ok((first >> 2 & 0x0f, length, header))
}

fn new_header(first: u8, rest: &[u8]) -> Result<(u8, usize, usize)> {
    let octet = |at: usize| rest.get(at).copied().map(usize::from).context("cut off");
    let (length, header) = match octet(0)? {
        short @ 0..192 => (short, 1),
        long @ 192..224 => (((long - 192) << 8) + octet(1)? + 192, 2),
        255 => {
            let four = rest.get(1..5).context("cut off")?;
            (four.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), 5)
        }
        _ => bail!("a packet in parts"),
    };
    Ok((first & 0x3f, length, header))
}

/// `upload` with our signatures by `issuer` is `answer`: every key, subkey and user ID of the one
/// is in the other and the reverse, no signature was added but the issuer's, one for each user ID.
pub fn assert_only_certified(upload: &[u8], answer: &[u8], issuer: &str) -> Result<()> {
    let (before, after) = (Packet::all(upload)?, Packet::all(answer)?);
    let (ours, own): (Vec<_>, Vec<_>) =
        after.iter().cloned().partition(|packet| packet.is_by(issuer));
    if let Some(new) = own.iter().find(|packet| !before.contains(packet)) {
        return Err(anyhow!("a packet of type {} was added or changed", new.tag));
    }
    let parts = |packets: &[Packet]| -> Vec<Packet> {
        packets.iter().filter(|packet| [6, 13, 14].contains(&packet.tag)).cloned().collect()
    };
    let mut lost = parts(&before);
    lost.retain(|packet| !own.contains(packet));
    ensure!(lost.is_empty(), "packets of types {:?} are lost", tags(&lost));
    ensure!(parts(&own).len() == parts(&before).len(), "a packet is there twice");
    let user_ids = own.iter().filter(|packet| packet.tag == 13).count();
    ensure!(ours.len() == user_ids, "{} new signatures of {user_ids} user IDs", ours.len());
    // Behind each part stands at least one signature of the owner's.
    for (at, part) in own.iter().enumerate() {
        let next = own.get(at + 1);
        let bound = ![13, 14].contains(&part.tag) || next.is_some_and(|next| next.tag == 2);
        ensure!(bound, "a packet of type {} without a self-signature", part.tag);
    }
    Ok(())
}

fn tags(packets: &[Packet]) -> Vec<u8> {
    packets.iter().map(|packet| packet.tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpgs_listing_is_read_with_its_subpackets() {
        let listing = "pub:-:255:22:AA:1:::-:::scSC::::::23::0:\n\
            uid:f::::1::B::One <1@a.example>::::::::::0:\n\
            sig:!::22:AA:1::::One:13x:::::10:\n\
            sig:!::22:00CC:5:99:::The CA:13x::::::10:\n\
            spk:20:1:9:%80%00%00%00%00%10%00%02serial@a.example01:\n\
            spk:26:0:9:https%3A//a.example/p:\n\
            uid:r::::1::C::Two\\x3a 2::::::::::0:\n\
            rev:!::22:00CC:7::::The CA:30x,20::::::10:\n\
            sub:-:255:18:DD:1::::::e:\n\
            sig:!::22:00CC:1::::The CA:18x::::::10:\n";
        let judged = judged(listing, "FF00CC").unwrap();
        assert_eq!(judged.len(), 2);
        let one = &judged[0].signatures;
        assert_eq!((one.len(), one[0].created, one[0].expires), (1, 5, Some(99)));
        assert_eq!(one[0].policies, ["https://a.example/p"]);
        assert_eq!(one[0].notations, ["serial@a.example=01"]);
        assert_eq!((judged[1].user_id.as_str(), judged[1].validity.as_str()), ("Two: 2", "r"));
        assert_eq!(judged[1].signatures[0].kind, "rev");
    }

    #[test]
    fn packets_are_read_in_both_forms() {
        let old = [0x99, 0, 3, 1, 2, 3, 0xb4, 1, 9];
        let new = [0xc6, 3, 1, 2, 3, 0xcd, 0xff, 0, 0, 0, 1, 9];
        let packets = Packet::all(&old).unwrap();
        assert_eq!(packets, Packet::all(&new).unwrap());
        let written: Vec<u8> = packets.iter().flat_map(Packet::write).collect();
        assert_eq!(packets, Packet::all(&written).unwrap());
        assert!(Packet::all(&old[..4]).is_err() && Packet::all(&[0x01]).is_err());
    }

    #[test]
    fn what_was_added_changed_or_lost_is_noticed() {
        let packet = |tag, body: &[u8]| Packet { tag, body: body.to_vec() };
        let issuer = "0A0B";
        let (key, user_id, own) = (packet(6, b"k"), packet(13, b"u"), packet(2, b"s"));
        let (subkey, ours) = (packet(14, b"e"), packet(2, &[4, 33, 4, 0x0a, 0x0b, 1]));
        let write = |packets: &[&Packet]| -> Vec<u8> {
            packets.iter().flat_map(|packet| packet.write()).collect()
        };
        let upload = write(&[&key, &user_id, &own, &subkey, &own]);
        let judge = |packets: &[&Packet]| assert_only_certified(&upload, &write(packets), issuer);
        judge(&[&key, &user_id, &own, &ours, &subkey, &own]).unwrap();
        let other = packet(2, b"x");
        for bad in [
            &[&key, &user_id, &own, &subkey, &own][..],
            &[&key, &user_id, &own, &ours],
            &[&key, &user_id, &own, &ours, &ours, &subkey, &own],
            &[&key, &user_id, &own, &other, &ours, &subkey, &own],
            &[&key, &user_id, &own, &ours, &subkey],
            &[&key, &user_id, &own, &ours, &subkey, &own, &subkey, &own],
        ] {
            assert!(judge(bad).is_err(), "{bad:?}");
        }
    }
}
