//! The written forms of names: hosts, mail addresses, URIs, and text that deceives.
//!
//! A form that is good here may still be refused by a profile.

use protocol::message::GeneralName;

/// Control characters, and those that make text read other than it is stored (Unicode TR 36).
pub(super) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

pub(super) fn check_general_name(name: &GeneralName, wildcard: bool) -> Result<(), String> {
    match name {
        GeneralName::Dns(dns) => check_dns(dns, wildcard),
        GeneralName::Email(address) => check_email(address),
        GeneralName::Uri(uri) => check_uri(uri),
        // RFC 6120 addresses without a resource have the form of mail addresses.
        GeneralName::Xmpp(address) => check_email(address),
        GeneralName::Ip4(octets) if std::net::Ipv4Addr::from(*octets).is_unspecified() => {
            Err("the address 0.0.0.0 names no host".into())
        }
        GeneralName::Ip6(octets) if std::net::Ipv6Addr::from(*octets).is_unspecified() => {
            Err("the address :: names no host".into())
        }
        GeneralName::Ip4(_) | GeneralName::Ip6(_) => Ok(()),
    }
}

/// RFC 1034 3.5 with RFC 1123 2.1, at least two labels; a wildcard is the whole leftmost label
/// (RFC 6125 6.4.3).
pub(super) fn check_dns(dns: &str, wildcard: bool) -> Result<(), String> {
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
    if labels.len() < 2 || numeric || !labels.iter().all(|label| label_is_good(label)) {
        return Err(format!("`{dns}` is no fully qualified DNS name in lower case"));
    }
    Ok(())
}

/// The form of RFC 5280 4.2.1.6: `local@host`, nothing around it.
pub(super) fn check_email(address: &str) -> Result<(), String> {
    let fault = || format!("`{address}` is no mail address of the form local@host");
    let (local, host) = address.rsplit_once('@').ok_or_else(fault)?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.is_empty() || local.len() > 64 || dots || !local.bytes().all(atom) {
        return Err(fault());
    }
    check_dns(&host.to_ascii_lowercase(), false).map_err(|_| fault())
}

/// RFC 5280 4.2.1.6: absolute, with a scheme and something after it.
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
    Ok(())
}
