//! The written forms of names: hosts, mail addresses, URIs, and text that deceives.
//!
//! A form that is good here may still be refused by a profile.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use protocol::message::GeneralName;
use regex::Regex;

/// Control characters, those that make text read other than it is stored, tags that nobody sees,
/// and what is no character at all (Unicode TR 36).
pub(super) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e007f}')
        || u32::from(character) & 0xfffe == 0xfffe
}

pub(super) fn check_general_name(name: &GeneralName, wildcard: bool) -> Result<(), String> {
    match name {
        GeneralName::Dns(dns) => check_dns(dns, wildcard),
        GeneralName::Email(address) => check_email(address),
        GeneralName::Uri(uri) => check_uri(uri),
        GeneralName::Xmpp(address) => check_xmpp(address),
        GeneralName::Ip4(octets) if Ipv4Addr::from(*octets).is_unspecified() => {
            Err("the address 0.0.0.0 names no host".into())
        }
        GeneralName::Ip6(octets) => check_ip6(Ipv6Addr::from(*octets)),
        GeneralName::Ip4(_) => Ok(()),
    }
}

/// The form in which two names that mean the same are the same text: case, a trailing dot, and
/// for XMPP the local part too (RFC 7622 3.3) make no difference. Control: `names-twice`.
pub(super) fn comparable(name: &GeneralName) -> String {
    let host = |text: &str| text.strip_suffix('.').unwrap_or(text).to_lowercase();
    match name {
        GeneralName::Dns(dns) => format!("dns:{}", host(dns)),
        GeneralName::Email(address) => match address.rsplit_once('@') {
            Some((local, domain)) => format!("email:{local}@{}", host(domain)),
            None => name.to_string(),
        },
        GeneralName::Xmpp(address) => format!("xmpp:{}", host(address)),
        GeneralName::Uri(uri) => match authority_of(uri) {
            // RFC 3986 6.2.2.1: scheme and host in any case.
            Some(range) => {
                let (before, after) = (&uri[..range.end], &uri[range.end..]);
                format!("uri:{}{after}", before.to_lowercase())
            }
            None => name.to_string(),
        },
        GeneralName::Ip4(_) | GeneralName::Ip6(_) => name.to_string(),
    }
}

/// Control: `name-ip`. An IPv4 address in IPv6 form would be the same host by another text.
fn check_ip6(address: Ipv6Addr) -> Result<(), String> {
    match address.to_ipv4_mapped() {
        Some(plain) => Err(format!("`{address}` is an IPv4 address; ask for ip:{plain}")),
        None if address.is_unspecified() => Err("the address :: names no host".into()),
        None => Ok(()),
    }
}

/// Control: `name-dns`, `name-wildcard`, `name-idn`. RFC 1034 3.5 with RFC 1123 2.1, at least two
/// labels; a wildcard is the whole leftmost label (RFC 6125 6.4.3).
pub(super) fn check_dns(dns: &str, wildcard: bool) -> Result<(), String> {
    if let Some(a_labels) = a_label_form(dns) {
        return Err(format!("`{dns}` must be written in A-labels: `{a_labels}`"));
    }
    let rest = match dns.strip_prefix("*.") {
        Some(rest) if wildcard => rest,
        Some(_) => return Err(format!("`{dns}` is a wildcard, which the profile does not take")),
        None => dns,
    };
    let label_is_good = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && !edges && label.bytes().all(known)
    };
    let labels: Vec<&str> = rest.split('.').collect();
    let numeric = labels.last().is_some_and(|top| top.bytes().all(|byte| byte.is_ascii_digit()));
    let whole = dns.len() <= DNS_MAX && labels.len() >= 2 && !numeric;
    if !whole || !labels.iter().all(|label| label_is_good(label)) {
        return Err(format!("`{dns}` is no fully qualified DNS name in lower case"));
    }
    // RFC 5890 2.3.1: two hyphens in the third and fourth place announce an encoding.
    if labels.iter().any(|label| label.as_bytes().get(2..4) == Some(b"--")) {
        check_a_labels(rest).ok_or_else(|| {
            format!("`{dns}` has a label with `--` that is no valid A-label (RFC 5891 4.2)")
        })?;
    }
    Ok(())
}

/// Control: `name-idn`. Every A-label decodes to a U-label that encodes back to it.
fn check_a_labels(host: &str) -> Option<()> {
    let uts46 = Uts46::new();
    let (decoded, result) = uts46.to_unicode(host.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    result.ok()?;
    let encoded = uts46
        .to_ascii(decoded.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
        .ok()?;
    let is_good = decoded.split('.').all(|label| label.is_ascii() || U_LABEL.is_match(label));
    (encoded == host && is_good).then_some(())
}

/// RFC 5892 2.1 and 2.6: letters, digits, marks and a few exceptions; UTS 46 alone would take
/// symbols and pictures too.
static U_LABEL: LazyLock<Regex> = LazyLock::new(|| {
    let letters = r"\p{Ll}\p{Lo}\p{Lm}\p{Mn}\p{Mc}\p{Nd}";
    let exceptions = r"\x{b7}\x{375}\x{5f3}\x{5f4}\x{6fd}\x{6fe}\x{f0b}\x{3007}\x{30fb}";
    Regex::new(&format!(r"\A[-{letters}{exceptions}\x{{200c}}\x{{200d}}]+\z"))
        .expect("the pattern is written here and compiled by a test")
});

/// The same name in A-labels, where it has other labels (RFC 5890 2.3.2.1) and can be written so.
pub(super) fn a_label_form(host: &str) -> Option<String> {
    if host.is_ascii() {
        return None;
    }
    let (star, rest) = match host.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", host),
    };
    let uts46 = Uts46::new();
    let a_labels =
        uts46.to_ascii(rest.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify);
    a_labels.ok().map(|a_labels| format!("{star}{a_labels}"))
}

/// Control: `name-email`. The form of RFC 5280 4.2.1.6: `local@host`, nothing around it.
pub(super) fn check_email(address: &str) -> Result<(), String> {
    let fault = || format!("`{address}` is no mail address of the form local@host");
    let (local, host) = address.rsplit_once('@').ok_or_else(fault)?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.is_empty() || local.len() > 64 || dots || !local.bytes().all(atom) {
        return Err(fault());
    }
    check_dns(&host.to_ascii_lowercase(), false).map_err(|text| format!("{}: {text}", fault()))
}

/// Control: `name-xmpp`. A bare JID (RFC 7622 3) in ASCII: a server's domain, or `local@domain`.
fn check_xmpp(address: &str) -> Result<(), String> {
    let fault = || format!("`{address}` is no XMPP address of the form domain or local@domain");
    let (local, domain) = match address.split_once('@') {
        Some((local, domain)) => (Some(local), domain),
        None => (None, address),
    };
    let part = |byte: u8| byte.is_ascii_graphic() && !b"\"&'/:<>@".contains(&byte);
    if local.is_some_and(|local| local.is_empty() || !local.bytes().all(part)) {
        return Err(fault());
    }
    check_dns(&domain.to_ascii_lowercase(), false).map_err(|text| format!("{}: {text}", fault()))
}

/// Control: `name-uri`. RFC 5280 4.2.1.6: absolute, with a scheme and something after it; where it
/// has a host, that is a whole DNS name or an address.
pub(super) fn check_uri(uri: &str) -> Result<(), String> {
    let fault = || format!("`{uri}` is no absolute URI");
    let (scheme, rest) = uri.split_once(':').ok_or_else(fault)?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let starts_well = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let printable =
        uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte));
    if !starts_well || !scheme.bytes().all(known) || rest.is_empty() || !printable {
        return Err(fault());
    }
    let Some(range) = authority_of(uri) else { return Ok(()) };
    let host = host_of(&uri[range]).ok_or_else(fault)?;
    let address = host.parse::<Ipv4Addr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    match address {
        true => Ok(()),
        false => check_dns(&host.to_ascii_lowercase(), false)
            .map_err(|text| format!("`{uri}` has no usable host: {text}")),
    }
}

/// Where the authority (RFC 3986 3.2) of a URI is, if it has one.
fn authority_of(uri: &str) -> Option<std::ops::Range<usize>> {
    let start = uri.find("://")? + 3;
    if !uri[..start - 3].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return None;
    }
    let length = uri[start..].find(['/', '?', '#']).unwrap_or(uri.len() - start);
    Some(start..start + length)
}

/// The host of an authority without port; a user before it would deceive, so there is none.
fn host_of(authority: &str) -> Option<&str> {
    let colon = match authority.starts_with('[') {
        true => authority.find("]:").map(|at| at + 1),
        false => authority.find(':'),
    };
    let (host, port) = match colon {
        Some(at) => (&authority[..at], &authority[at + 1..]),
        None => (authority, "0"),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port_is_good = digits && port.parse::<u16>().is_ok();
    (port_is_good && !host.contains('@')).then_some(host)
}

/// RFC 1035 2.3.4, less the root and the lengths.
const DNS_MAX: usize = 253;
