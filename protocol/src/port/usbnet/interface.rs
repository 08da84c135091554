//! Whether a network interface is a cable and nothing else.
//!
//! [`Interface::look`] is the only maker of an [`Interface`], so whoever has one has been told by
//! the kernel, this moment, that it leads to no place but the other end of its wire. It reads what
//! a person can read with `cat`, decides by [`judge`], and changes nothing.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use nix::ifaddrs::getifaddrs;

/// An interface that leads nowhere but to the other end of its wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// The kernel's number: another one means another device under the same name.
    pub(super) index: u32,
    /// Its own link-local address.
    pub(super) address: Ipv6Addr,
}

/// Why an interface cannot be the cable. The first two pass by themselves; the others need the
/// operator.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceFault {
    /// There is no such interface: unplugged, or called otherwise.
    #[error("there is no such interface; plug the adapter in, or see `ip link` for its name")]
    Absent,
    /// It is there and has no usable link-local address.
    #[error("it has no link-local IPv6 address yet; run `ip link set {0} up`")]
    NotReady(String),
    /// It has an address that is known beyond the wire.
    #[error("it has the address {0}, and a cable has none but fe80::; take the address away")]
    Address(IpAddr),
    /// The kernel sends packets for elsewhere there.
    #[error("it has a route to {0}, and a cable leads to fe80::/64 only; take the route away")]
    Route(String),
    /// The kernel passes packets on from or to it.
    #[error("forwarding is on for it; run `sysctl -w {0}=0`")]
    Forwarding(String),
    /// It is a part of a bridge or bond, carries a VLAN or the like, or is one upon another.
    #[error("it is joined to {0}, so it leads further than its wire; take it out of there")]
    Joined(String),
    /// The kernel does not say.
    #[error("the kernel's list {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which list.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Interface {
    /// Asks the kernel about the interface called `name`.
    pub(super) fn look(name: &str) -> Result<Self, InterfaceFault> {
        judge(name, &Facts::read(name)?)
    }
}

/// What the kernel says about an interface.
#[derive(Debug, Default)]
struct Facts {
    /// `/proc/net/if_inet6`: every IPv6 address.
    if_inet6: String,
    /// `/proc/net/ipv6_route`: every IPv6 route of every table.
    ipv6_route: String,
    /// `/proc/net/route`: every IPv4 route of the main table.
    route: String,
    /// The interface's IPv4 addresses.
    addresses: Vec<Ipv4Addr>,
    /// The forwarding settings that are not off.
    forwarding: Vec<String>,
    /// What it is joined to.
    joined: Vec<String>,
    /// Whether there is an interface of the name.
    present: bool,
}

impl Facts {
    fn read(name: &str) -> Result<Self, InterfaceFault> {
        let text = |path: PathBuf| {
            let failed = |source| InterfaceFault::Unreadable { path: path.clone(), source };
            fs::read_to_string(&path).map_err(failed)
        };
        let mut facts = Self::default();
        let addresses = getifaddrs().map_err(|errno| InterfaceFault::Unreadable {
            path: "of addresses".into(),
            source: errno.into(),
        })?;
        for entry in addresses.filter(|entry| entry.interface_name == name) {
            facts.present = true;
            let v4 = entry.address.as_ref().and_then(|address| address.as_sockaddr_in());
            facts.addresses.extend(v4.map(|address| address.ip()));
        }
        if !facts.present {
            return Ok(facts);
        }
        facts.if_inet6 = text("/proc/net/if_inet6".into())?;
        facts.ipv6_route = text("/proc/net/ipv6_route".into())?;
        // A kernel without IPv4 has neither.
        facts.route = text("/proc/net/route".into()).or_else(absent_is_empty)?;
        for family in ["ipv4", "ipv6"] {
            let path = PathBuf::from(format!("/proc/sys/net/{family}/conf/{name}/forwarding"));
            let value = text(path).or_else(absent_is_empty)?;
            if !matches!(value.trim(), "0" | "") {
                facts.forwarding.push(format!("net.{family}.conf.{name}.forwarding"));
            }
        }
        // A container may have no /sys of its own; what is not said there is not held against it.
        for entry in fs::read_dir(format!("/sys/class/net/{name}")).into_iter().flatten().flatten()
        {
            let link = entry.file_name().to_string_lossy().into_owned();
            // A VLAN or macvlan leads wherever the interface leads upon which it is.
            match link.strip_prefix("upper_").or_else(|| link.strip_prefix("lower_")) {
                Some(other) => facts.joined.push(other.to_owned()),
                None if link == "master" => facts.joined.push("a bridge or bond".to_owned()),
                None => {}
            }
        }
        Ok(facts)
    }
}

fn absent_is_empty(fault: InterfaceFault) -> Result<String, InterfaceFault> {
    match fault {
        InterfaceFault::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        fault => Err(fault),
    }
}

/// Decides. What cannot be understood counts against the interface.
fn judge(name: &str, facts: &Facts) -> Result<Interface, InterfaceFault> {
    if !facts.present {
        return Err(InterfaceFault::Absent);
    }
    if let Some(joined) = facts.joined.first() {
        return Err(InterfaceFault::Joined(joined.clone()));
    }
    if let Some(setting) = facts.forwarding.first() {
        return Err(InterfaceFault::Forwarding(setting.clone()));
    }
    if let Some(address) = facts.addresses.first() {
        return Err(InterfaceFault::Address((*address).into()));
    }
    let mut own = None;
    for row in rows(&facts.if_inet6, name, IF_INET6_NAME) {
        let address = hex_address(row[0]).ok_or_else(|| unknown(&row))?;
        if !address.is_unicast_link_local() {
            return Err(InterfaceFault::Address(address.into()));
        }
        let index = u32::from_str_radix(row[1], 16).map_err(|_| unknown(&row))?;
        let flags = u32::from_str_radix(row[4], 16).map_err(|_| unknown(&row))?;
        if flags & NOT_USABLE == 0 {
            own = own.or(Some(Interface { index, address }));
        }
    }
    if let Some(row) = rows(&facts.route, name, ROUTE_NAME).next() {
        let destination = hex_v4(row[1]).zip(hex_v4(row[7]));
        return Err(InterfaceFault::Route(match destination {
            Some((network, mask)) => format!("{network}/{}", mask.to_bits().count_ones()),
            None => row.join(" "),
        }));
    }
    for row in rows(&facts.ipv6_route, name, IPV6_ROUTE_NAME) {
        let network = hex_address(row[0]).ok_or_else(|| unknown(&row))?;
        let length = u8::from_str_radix(row[1], 16).map_err(|_| unknown(&row))?;
        let gateway = hex_address(row[4]).ok_or_else(|| unknown(&row))?;
        // fe80::/64 and single addresses in it; and groups, which are not passed on.
        let on_the_wire = network.octets()[..8] == LINK_LOCAL_NETWORK && length >= 64
            || network.is_multicast() && length >= 8;
        if !on_the_wire || !gateway.is_unspecified() {
            return Err(InterfaceFault::Route(format!("{network}/{length}")));
        }
    }
    own.ok_or_else(|| InterfaceFault::NotReady(name.to_owned()))
}

/// The rows of a list, in words, whose word number `at` is the interface's name.
fn rows<'t>(list: &'t str, name: &'t str, at: usize) -> impl Iterator<Item = Vec<&'t str>> + 't {
    let words = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(move |row| row.get(at) == Some(&name))
}

fn unknown(row: &impl fmt::Debug) -> InterfaceFault {
    let text = format!("{row:?}, which this program cannot read,");
    InterfaceFault::Route(text)
}

fn hex_address(digits: &str) -> Option<Ipv6Addr> {
    (digits.len() == 32)
        .then(|| u128::from_str_radix(digits, 16).ok())
        .flatten()
        .map(Ipv6Addr::from)
}

/// The kernel prints the four octets as they lie in memory, as one number.
fn hex_v4(digits: &str) -> Option<Ipv4Addr> {
    u32::from_str_radix(digits, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()))
}

/// Which word of a row of `/proc/net/if_inet6` is the interface's name.
const IF_INET6_NAME: usize = 5;
/// The same of `/proc/net/ipv6_route`.
const IPV6_ROUTE_NAME: usize = 9;
/// The same of `/proc/net/route`.
const ROUTE_NAME: usize = 0;
/// IFA_F_TENTATIVE and IFA_F_DADFAILED of linux/if_addr.h: nobody may use the address.
const NOT_USABLE: u32 = 0x40 | 0x08;
/// The first eight octets of fe80::/64.
const LINK_LOCAL_NETWORK: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "fe800000000000007096a1fffe3667b0 02 40 20 80      usb0\n";
    const OTHERS: &str = "\
        00000000000000000000000000000001 01 80 10 80       lo\n\
        20010db8000000000000000000000001 03 40 00 80     eth0\n";

    fn v6(network: &str, length: &str, gateway: &str, interface: &str) -> String {
        format!(
            "{network} {length} {:032x} 00 {gateway} 00000100 00000001 00000000 00000001 {interface}\n",
            0
        )
    }

    /// A cable, on a machine that has a network elsewhere.
    fn plain() -> Facts {
        let zero = format!("{:032x}", 0);
        Facts {
            if_inet6: format!("{OTHERS}{OWN}"),
            ipv6_route: [
                v6("fe800000000000000000000000000000", "40", &zero, "usb0"),
                v6("fe800000000000007096a1fffe3667b0", "80", &zero, "usb0"),
                v6("ff000000000000000000000000000000", "08", &zero, "usb0"),
                v6("20010db8000000000000000000000000", "40", &zero, "eth0"),
                v6(&zero, "00", "fe800000000000000000000000000001", "eth0"),
                v6(&zero, "00", &zero, "lo"),
            ]
            .concat(),
            route: "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                    eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n"
                .to_owned(),
            present: true,
            ..Facts::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = plain();
        change(&mut facts);
        judge("usb0", &facts).unwrap_err().to_string()
    }

    #[test]
    fn interface_with_nothing_but_its_wire_is_a_cable_whatever_others_have() {
        let cable = judge("usb0", &plain()).unwrap();
        let address = "fe80::7096:a1ff:fe36:67b0".parse().unwrap();
        assert_eq!(cable, Interface { index: 2, address });
    }

    // USBNET-1 to USBNET-6: each way to lead further than the wire.
    #[test]
    fn whatever_leads_further_is_refused_by_name() {
        let zero = format!("{:032x}", 0);
        let told = refusal(|facts| facts.addresses.push([10, 0, 0, 1].into()));
        assert!(told.contains("the address 10.0.0.1"), "{told}");
        let global = "20010db8000000000000000000000009 02 40 00 80 usb0\n";
        let told = refusal(|facts| facts.if_inet6.push_str(global));
        assert!(told.contains("the address 2001:db8::9"), "{told}");
        let private = "fd000000000000000000000000000009 02 40 00 80 usb0\n";
        let told = refusal(|facts| facts.if_inet6.push_str(private));
        assert!(told.contains("the address fd00::9"), "{told}");
        let row = "usb0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        let told = refusal(|facts| facts.route.push_str(row));
        assert!(told.contains("a route to 192.168.0.0/24"), "{told}");
        let row = "usb0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n";
        let told = refusal(|facts| facts.route.push_str(row));
        assert!(told.contains("a route to 0.0.0.0/0"), "{told}");
        for (network, length, told_as) in [
            (zero.as_str(), "00", "::/0"),
            ("20010db8000000000000000000000000", "20", "2001:db8::/32"),
            ("fe800000000000000000000000000000", "0a", "fe80::/10"),
            ("fe810000000000000000000000000000", "40", "fe81::/64"),
        ] {
            let told = refusal(|facts| facts.ipv6_route += &v6(network, length, &zero, "usb0"));
            assert!(told.contains(&format!("a route to {told_as},")), "{told}");
        }
        let gateway = "fe800000000000000000000000000001";
        let own_network = "fe800000000000000000000000000000";
        let told = refusal(|facts| facts.ipv6_route += &v6(own_network, "40", gateway, "usb0"));
        assert!(told.contains("a route to fe80::/64"), "{told}");
        let setting = "net.ipv4.conf.usb0.forwarding";
        let told = refusal(|facts| facts.forwarding.push(setting.to_owned()));
        assert!(told.contains("`sysctl -w net.ipv4.conf.usb0.forwarding=0`"), "{told}");
        let told = refusal(|facts| facts.joined.push("br0".to_owned()));
        assert!(told.contains("joined to br0"), "{told}");
    }

    #[test]
    fn interface_that_is_away_or_not_up_is_waited_for() {
        assert!(refusal(|facts| facts.present = false).contains("plug the adapter in"));
        assert!(
            refusal(|facts| facts.if_inet6 = OTHERS.to_owned()).contains("`ip link set usb0 up`")
        );
        // Still being checked for a duplicate; and found to be one.
        for flags in ["40", "88"] {
            let unusable = OWN.replace(" 80 ", &format!(" {flags} "));
            let told = refusal(|facts| facts.if_inet6 = unusable);
            assert!(told.contains("no link-local IPv6 address yet"), "{told}");
        }
    }

    #[test]
    fn row_that_cannot_be_read_counts_against_the_interface() {
        let told = refusal(|facts| facts.if_inet6.push_str("nonsense 02 40 20 80 usb0\n"));
        assert!(told.contains("cannot read"), "{told}");
        let row = "xx 40 00 00 00 00 00 00 00 usb0\n";
        let told = refusal(|facts| facts.ipv6_route.push_str(row));
        assert!(told.contains("cannot read"), "{told}");
        let told = refusal(|facts| facts.route.push_str("usb0 zz 0 0 0 0 0 zz\n"));
        assert!(told.contains("usb0 zz"), "{told}");
    }

    #[test]
    fn loopback_of_this_machine_is_no_cable() {
        let fault = Interface::look("lo").unwrap_err();
        assert!(matches!(fault, InterfaceFault::Address(_)), "{fault}");
        assert!(matches!(Interface::look("no-such-one"), Err(InterfaceFault::Absent)));
    }
}
