//! nameConstraints (RFC 5280 4.2.1.10) as a person writes them: `dns:example.org`,
//! `email:example.org`, `ip:192.0.2.0/24`, `uri:.example.org`.
//!
//! What is read here is exact: an address with bits outside its mask is a fault, not a guess.

use std::net::IpAddr;

use super::{
    config::NameConstraintsConfig,
    syntax::{check_dns, check_email},
};

/// The subtrees of a CA: at least one where there was no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtrees {
    /// Names must lie in one of these, as far as one is of their type.
    pub permitted: Vec<Subtree>,
    /// Names must lie in none of these.
    pub excluded: Vec<Subtree>,
}

/// One base of a subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// A domain and all below it; empty for every DNS name.
    Dns(String),
    /// One mailbox, all of a host, or with a leading dot all below a domain.
    Email(String),
    /// A host, or with a leading dot all below a domain.
    Uri(String),
    /// The address and the mask: 4 and 4, or 16 and 16 octets.
    Ip(Vec<u8>),
}

impl Subtrees {
    /// Reads both lists; the key and the sentence of each fault.
    pub(super) fn parse(config: &NameConstraintsConfig) -> (Self, Vec<(String, String)>) {
        let mut faults = Vec::new();
        let mut read = |list: &str, texts: &[String]| {
            let mut found = Vec::new();
            for (index, text) in texts.iter().enumerate() {
                match Subtree::parse(text) {
                    Ok(Subtree::Dns(name)) if name.is_empty() && list == "permitted" => {
                        let sentence = "`dns:` alone permits everything; leave it out";
                        faults.push((format!("{list}[{index}]"), sentence.to_owned()));
                    }
                    Ok(subtree) if found.contains(&subtree) => {
                        faults
                            .push((format!("{list}[{index}]"), format!("`{text}` is there twice")));
                    }
                    Ok(subtree) => found.push(subtree),
                    Err(sentence) => faults.push((format!("{list}[{index}]"), sentence)),
                }
            }
            if texts.len() > SUBTREES_MAX {
                faults.push((list.to_owned(), format!("has over {SUBTREES_MAX} entries")));
            }
            found
        };
        let permitted = read("permitted", &config.permitted);
        let excluded = read("excluded", &config.excluded);
        if config.permitted.is_empty() && config.excluded.is_empty() {
            let sentence = "permits and excludes nothing; write an entry or leave it out";
            faults.push(("permitted".into(), sentence.into()));
        }
        (Self { permitted, excluded }, faults)
    }
}

impl Subtree {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let domain = |value: &str| check_dns(value.strip_prefix('.').unwrap_or(value), false);
        match kind {
            "dns" if value.is_empty() => Ok(Self::Dns(String::new())),
            "dns" => check_dns(value, false).map(|()| Self::Dns(value.to_owned())),
            "email" if value.contains('@') => {
                check_email(value).map(|()| Self::Email(value.to_owned()))
            }
            "email" => domain(value).map(|()| Self::Email(value.to_owned())),
            "uri" => domain(value).map(|()| Self::Uri(value.to_owned())),
            "ip" => parse_network(value)
                .map(Self::Ip)
                .ok_or_else(|| format!("`{value}` is no network as 192.0.2.0/24 or 2001:db8::/32")),
            _ => Err(format!("`{text}` is not dns:DOMAIN, email:…, uri:… or ip:NETWORK/BITS")),
        }
    }

    /// The form that is read.
    pub fn written(&self) -> String {
        match self {
            Self::Dns(domain) => format!("dns:{domain}"),
            Self::Email(domain) => format!("email:{domain}"),
            Self::Uri(domain) => format!("uri:{domain}"),
            Self::Ip(octets) => {
                let (address, mask) = octets.split_at(octets.len() / 2);
                let bits: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
                let address = match <[u8; 4]>::try_from(address) {
                    Ok(octets) => IpAddr::from(octets),
                    Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).unwrap_or_default()),
                };
                format!("ip:{address}/{bits}")
            }
        }
    }
}

/// Address and mask, without address bits outside the mask.
fn parse_network(text: &str) -> Option<Vec<u8>> {
    let (address, bits) = text.split_once('/')?;
    let address = match address.parse().ok()? {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let bits: usize = bits.parse().ok().filter(|bits| *bits <= address.len() * 8)?;
    let mask: Vec<u8> = (0..address.len())
        .map(|octet| {
            let set = bits.saturating_sub(octet * 8).min(8);
            (0xff00_u16 >> set) as u8
        })
        .collect();
    let outside = address.iter().zip(&mask).any(|(octet, mask)| octet & !mask != 0);
    (!outside).then(|| [address, mask].concat())
}

/// Each is compared with every name of every certificate below.
const SUBTREES_MAX: usize = 64;
