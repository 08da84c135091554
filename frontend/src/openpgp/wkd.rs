//! The Web Key Directory (draft-koch-openpgp-webkey-service, sections 3.1 and 4.5): in which file
//! the keys of a mail address lie. No I/O: it only says names.

use std::path::PathBuf;

use protocol::user_id::UserId;

/// A mail address, as far as the directory knows addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mailbox {
    local: String,
    domain: String,
}

/// Where a directory's files lie below the root of a web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Served as `https://openpgpkey.DOMAIN/`: one root for many domains.
    Advanced,
    /// Served as `https://DOMAIN/`: a root of its own for each domain.
    Direct,
}

impl Mailbox {
    /// The address of a user ID, its domain in A-labels. Nothing where there is none, or where
    /// nobody should certify the user ID at all.
    pub fn of_user_id(user_id: &str) -> Option<Self> {
        let user_id = UserId::parse(user_id).ok()?;
        let (local, domain) = user_id.address()?.rsplit_once('@')?;
        // It becomes a folder's name: looked at once more where that matters.
        is_host(domain).then(|| Self { local: local.to_owned(), domain: domain.to_owned() })
    }

    /// The domain, in small letters.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The name of the address's file: the local part, its ASCII letters small, hashed.
    pub fn hash(&self) -> String {
        z_base_32(&openssl::sha::sha1(self.local.to_ascii_lowercase().as_bytes()))
    }
}

impl Layout {
    /// The folder of a domain, below the root.
    pub fn folder(self, domain: &str) -> PathBuf {
        let folder = PathBuf::from(WELL_KNOWN);
        match self {
            Self::Advanced => folder.join(domain),
            Self::Direct => folder,
        }
    }

    /// The policy file of a domain: it must be there, and may be empty.
    pub fn policy(self, domain: &str) -> PathBuf {
        self.folder(domain).join("policy")
    }

    /// The file with the keys of an address.
    pub fn keys(self, mailbox: &Mailbox) -> PathBuf {
        self.folder(&mailbox.domain).join("hu").join(mailbox.hash())
    }
}

/// RFC 8615: where a web server keeps what programs look for by name.
const WELL_KNOWN: &str = ".well-known/openpgpkey";

/// Whether `name` is a host's name in ASCII (RFC 1123 2.1, RFC 1035 2.3.4) of two labels or more.
/// So it is a folder's name too, which leads nowhere else.
pub fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

/// RFC 6189 5.1.6: five bits a character, the highest first.
fn z_base_32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0);
    let mut take = |five: u32| text.push(char::from(ALPHABET[(five & 31) as usize]));
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            take(held >> bits);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        take(held << (5 - bits));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(user_id: &str) -> Mailbox {
        Mailbox::of_user_id(user_id).unwrap()
    }

    #[test]
    fn the_drafts_example_has_the_drafts_file() {
        // draft-koch-openpgp-webkey-service, section 3.1 and the sample in its appendix.
        let joe = mailbox("Joe.Doe@Example.ORG");
        assert_eq!(joe.hash(), "iy9q119eutrkn8s1mk4r39qejnbu3n5q");
        assert_eq!(
            Layout::Advanced.keys(&joe).to_str().unwrap(),
            ".well-known/openpgpkey/example.org/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q"
        );
        assert_eq!(
            Layout::Direct.keys(&joe).to_str().unwrap(),
            ".well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q"
        );
        let policy = Layout::Advanced.policy("example.org");
        assert_eq!(policy.to_str().unwrap(), ".well-known/openpgpkey/example.org/policy");
        assert_eq!(Layout::Direct.policy("a.b").to_str().unwrap(), ".well-known/openpgpkey/policy");
    }

    #[test]
    fn z_base_32_takes_five_bits_a_character_highest_first() {
        // The first three are the examples of RFC 6189 5.1.6's source, the others by hand.
        for (bytes, text) in [
            (&[][..], ""),
            (&[0xf0, 0xbf, 0xc7], "6n9hq"),
            (&[0xd4, 0x7a, 0x04], "4t7ye"),
            (&[0xff], "9h"),
            (&[0xb5], "sw"),
            (&[0x34, 0x5a], "gtpy"),
        ] {
            assert_eq!(z_base_32(bytes), text, "{bytes:x?}");
        }
    }

    #[test]
    fn only_the_letters_of_ascii_are_made_small() {
        assert_eq!(mailbox("A <ÄB@a.example>"), mailbox("ÄB@a.example"));
        assert_eq!(mailbox("ÄB@a.example").hash(), mailbox("Äb@A.example").hash());
        assert_ne!(mailbox("Äb@a.example").hash(), mailbox("äb@a.example").hash());
    }

    #[test]
    fn an_address_without_a_host_has_no_file() {
        assert_eq!(mailbox("Zoë Z <z@Sub.A.Example>").domain(), "sub.a.example");
        assert_eq!(mailbox("z@BÜCHER.example").domain(), "xn--bcher-kva.example");
        for text in [
            "Zoë",
            "",
            "@a.example",
            "a@",
            "a@b",
            "a@..",
            "a@../..",
            "a@b/../c.d",
            "a@-b.c",
            "a@b-.c",
            "a@b..c",
            "a@.b.c",
            "A <a@b.c> (x)",
            "A <a@b.c",
            "A a@b.c",
            "a b@c.d",
            "a@b.c\n",
            "a\u{0}@b.c",
            "<>",
            "A <>",
        ] {
            assert_eq!(Mailbox::of_user_id(text), None, "{text}");
        }
        assert!(is_host("a.b") && !is_host("a") && !is_host("..") && !is_host("a/b.c"));
        assert!(!is_host(&format!("{}.example", "b".repeat(64))) && !is_host("a.b."));
    }
}
