//! Why a port gives no bytes, as a sentence for the one who stands before it.

use std::{io, path::PathBuf};

use super::usbnet::InterfaceFault;

/// Why a port gives no bytes. All of it passes when the cable or the other program is back.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device or socket cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program has the device or listens on the socket.
    #[error("{} is in use by another program: stop that one", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// The other program closed its end, or the device is gone.
    #[error("{} was closed at the other end or unplugged", path.display())]
    Closed {
        /// Which.
        path: PathBuf,
    },
    /// A network interface that is away, or leads further than its wire.
    #[error("{interface} cannot be the cable: {fault}")]
    Interface {
        /// Which.
        interface: String,
        /// Why.
        fault: InterfaceFault,
    },
    /// The device failed.
    #[error("{} failed: {source}", path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}
