//! The names of ports, as people write them on the command line. Opens nothing.

use std::{fmt, path::PathBuf, str::FromStr};

/// Which port, and how fast.
///
/// `serial:/dev/ttyS0?baud=115200` · `usbnet:IFACE[?port=N]` · `pty:/path[?baud=N]` · `unix:/path`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSpec {
    /// A serial device, 8N1; a path under `/dev/serial/by-id` survives replugging.
    Serial {
        /// The device.
        path: PathBuf,
        /// Its speed, bits per second.
        baud: u32,
    },
    /// A pseudo-terminal.
    Pty {
        /// The device.
        path: PathBuf,
        /// The speed of the line that it stands for; 0 is no limit.
        baud: u32,
    },
    /// A unix stream socket: the signer listens, the frontend connects.
    Unix {
        /// The socket.
        path: PathBuf,
    },
    /// A network interface that is a cable to the other end and nothing else: one TCP connection
    /// between two link-local addresses. The signer listens, the frontend connects.
    UsbNet {
        /// The interface.
        interface: String,
        /// The signer's TCP port, and the UDP port of its announcement.
        port: u16,
    },
}

/// A text is not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPortSpec {
    /// There is no such kind of port.
    #[error(
        "{0:?} is no port: write serial:/dev/ttyS0?baud=115200, usbnet:usb0, pty:/path or unix:/path"
    )]
    UnknownKind(String),
    /// The path is missing.
    #[error(
        "{0:?} names no path: write serial:/dev/ttyS0?baud=115200, usbnet:usb0, pty:/path or unix:/path"
    )]
    NoPath(String),
    /// The path cannot be a socket's.
    #[error("the path of a unix socket has at most {limit} bytes, this one {actual}: move it")]
    PathTooLong {
        /// The length given.
        actual: usize,
        /// unix(7): `sun_path` has 108 bytes, the last one NUL.
        limit: usize,
    },
    /// This kind of port has no such setting.
    #[error("{kind}: has no setting {setting:?}: {known}")]
    UnknownSetting {
        /// The kind of port.
        kind: &'static str,
        /// What was written.
        setting: String,
        /// What could be written.
        known: &'static str,
    },
    /// No interface can be called so.
    #[error(
        "{0:?} is no interface that can be a cable: write usbnet: and a name that `ip link` shows, \
         not lo"
    )]
    BadInterface(String),
    /// No program without root's rights may listen there.
    #[error("{0:?} is no TCP port for usbnet: write a whole number from {PORT_MIN} to 65535")]
    BadTcpPort(String),
    /// No line has this speed.
    #[error("{baud:?} is no baud rate for {kind}: write a whole number from {low} to {high}")]
    BadBaud {
        /// The kind of port.
        kind: &'static str,
        /// What was written.
        baud: String,
        /// The slowest.
        low: u32,
        /// The fastest.
        high: u32,
    },
}

/// What a port has unless something else is written.
const BAUD_DEFAULT: u32 = 115_200;
/// What usual UARTs can do, generously.
const BAUD_MAX: u32 = 12_000_000;
/// The slowest rate of termios(3) that is not a hang-up.
const SERIAL_BAUD_MIN: u32 = 50;
const UNIX_PATH_MAX: usize = 107;
/// What `usbnet:` takes unless something else is written: registered for nobody.
const TCP_PORT_DEFAULT: u16 = 47_815;
/// Below are the ports that only root may listen on, and the gate is not root.
const PORT_MIN: u16 = 1024;
/// IFNAMSIZ of net/if.h without the NUL.
const INTERFACE_NAME_MAX: usize = 15;

impl PortSpec {
    /// What the line carries, in bytes per second: 8N1 takes ten bits for a byte.
    pub fn line_rate(&self) -> Option<u32> {
        match self {
            Self::Serial { baud, .. } | Self::Pty { baud, .. } => {
                (*baud > 0).then(|| (*baud / 10).max(1))
            }
            Self::Unix { .. } | Self::UsbNet { .. } => None,
        }
    }
}

impl FromStr for PortSpec {
    type Err = NotAPortSpec;

    fn from_str(text: &str) -> Result<Self, NotAPortSpec> {
        let (kind, rest) =
            text.split_once(':').ok_or_else(|| NotAPortSpec::UnknownKind(text.to_owned()))?;
        let (path, setting) = match rest.rsplit_once('?') {
            Some((path, setting)) => (path, Some(setting)),
            None => (rest, None),
        };
        let spec = match kind {
            "usbnet" => return usbnet(path, setting),
            "serial" => Self::Serial {
                path: path.into(),
                baud: parse_baud("serial", setting, SERIAL_BAUD_MIN)?,
            },
            "pty" => Self::Pty { path: path.into(), baud: parse_baud("pty", setting, 0)? },
            "unix" => {
                if let Some(setting) = setting {
                    return Err(NotAPortSpec::UnknownSetting {
                        kind: "unix",
                        setting: setting.to_owned(),
                        known: "leave it out",
                    });
                }
                if path.len() > UNIX_PATH_MAX {
                    let actual = path.len();
                    return Err(NotAPortSpec::PathTooLong { actual, limit: UNIX_PATH_MAX });
                }
                Self::Unix { path: path.into() }
            }
            _ => return Err(NotAPortSpec::UnknownKind(text.to_owned())),
        };
        if path.is_empty() { Err(NotAPortSpec::NoPath(text.to_owned())) } else { Ok(spec) }
    }
}

fn usbnet(interface: &str, setting: Option<&str>) -> Result<PortSpec, NotAPortSpec> {
    // The name becomes a part of paths below /proc and /sys, so nothing odd is taken.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = (1..=INTERFACE_NAME_MAX).contains(&interface.len())
        && interface.starts_with(|c: char| c.is_ascii_alphanumeric())
        && interface.chars().all(plain)
        && interface != "lo";
    if !named {
        return Err(NotAPortSpec::BadInterface(interface.to_owned()));
    }
    let port = match setting {
        None => TCP_PORT_DEFAULT,
        Some(setting) => {
            let digits = setting.strip_prefix("port=").ok_or_else(|| {
                let (kind, known) = ("usbnet", "write ?port=47815 or leave it out");
                NotAPortSpec::UnknownSetting { kind, setting: setting.to_owned(), known }
            })?;
            let port = digits.parse().ok().filter(|port| *port >= PORT_MIN);
            port.ok_or_else(|| NotAPortSpec::BadTcpPort(digits.to_owned()))?
        }
    };
    Ok(PortSpec::UsbNet { interface: interface.to_owned(), port })
}

fn parse_baud(
    kind: &'static str,
    setting: Option<&str>,
    baud_min: u32,
) -> Result<u32, NotAPortSpec> {
    let Some(setting) = setting else { return Ok(BAUD_DEFAULT) };
    let digits = setting.strip_prefix("baud=").ok_or_else(|| NotAPortSpec::UnknownSetting {
        kind,
        setting: setting.to_owned(),
        known: "write ?baud=115200",
    })?;
    match digits.parse() {
        Ok(baud) if (baud_min..=BAUD_MAX).contains(&baud) => Ok(baud),
        _ => Err(NotAPortSpec::BadBaud {
            kind,
            baud: digits.to_owned(),
            low: baud_min,
            high: BAUD_MAX,
        }),
    }
}

/// The full form, which [`PortSpec::from_str`] reads back.
impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { path, baud } => write!(f, "serial:{}?baud={baud}", path.display()),
            Self::Pty { path, baud } => write!(f, "pty:{}?baud={baud}", path.display()),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
            Self::UsbNet { interface, port } => write!(f, "usbnet:{interface}?port={port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_ports_are_understood_and_written_in_full() {
        for (text, full, line_rate) in [
            ("serial:/dev/ttyS0?baud=115200", "serial:/dev/ttyS0?baud=115200", Some(11_520)),
            (
                "serial:/dev/serial/by-id/x-0:1",
                "serial:/dev/serial/by-id/x-0:1?baud=115200",
                Some(11_520),
            ),
            ("pty:/run/a", "pty:/run/a?baud=115200", Some(11_520)),
            ("pty:/run/a?baud=0", "pty:/run/a?baud=0", None),
            ("pty:b?baud=300", "pty:b?baud=300", Some(30)),
            ("unix:/run/signer.sock", "unix:/run/signer.sock", None),
            ("usbnet:usb0", "usbnet:usb0?port=47815", None),
            ("usbnet:enx00e04c?port=1024", "usbnet:enx00e04c?port=1024", None),
        ] {
            let spec: PortSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), full);
            assert_eq!(full.parse::<PortSpec>().unwrap(), spec);
            assert_eq!(spec.line_rate(), line_rate, "{text}");
        }
    }

    #[test]
    fn whatever_is_no_port_is_refused_with_a_sentence_that_says_what_to_write() {
        let long = format!("unix:/{}", "a".repeat(107));
        for (text, part) in [
            ("", "write serial:"),
            ("/dev/ttyS0", "write serial:"),
            ("usb:/dev/ttyUSB0", "write serial:"),
            ("serial:", "names no path"),
            ("pty:?baud=300", "names no path"),
            ("unix:", "names no path"),
            ("serial:/dev/ttyS0?baud=0", "from 50 to"),
            ("serial:/dev/ttyS0?baud=fast", "\"fast\" is no baud rate"),
            ("serial:/dev/ttyS0?baud=-1", "is no baud rate"),
            ("serial:/dev/ttyS0?baud=4294967296", "is no baud rate"),
            ("serial:/dev/ttyS0?parity=even", "write ?baud=115200"),
            ("pty:/a?", "write ?baud=115200"),
            ("unix:/a?baud=300", "leave it out"),
            (long.as_str(), "at most 107 bytes"),
            ("usbnet:", "a name that `ip link` shows"),
            ("usbnet:lo", "not lo"),
            ("usbnet:../../etc", "is no interface"),
            ("usbnet:..", "is no interface"),
            ("usbnet:sixteen-letters-", "is no interface"),
            ("usbnet:usb0?port=1023", "from 1024 to 65535"),
            ("usbnet:usb0?port=65536", "from 1024 to 65535"),
            ("usbnet:usb0?peer=fe80::1", "write ?port=47815"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
