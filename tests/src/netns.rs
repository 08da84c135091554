//! Two machines joined by one network cable: two network namespaces and a veth pair.
//!
//! It types what an administrator types (`ip`, of Debian's iproute2). Needs root, and says so in
//! one sentence; a story that needs it fails without, it is never left out.

use std::{
    ffi::OsStr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::{
    Ended, Process, World,
    world::{COMMAND_MAX, programs},
};

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The one in the rack.
    Signer,
    /// The networked one.
    Frontend,
}

/// The cable's interface, which has the same name at both ends.
pub const INTERFACE: &str = "usb0";
/// The cable as `--link` takes it.
pub const LINK: &str = "usbnet:usb0";

/// Two namespaces and the cable between them.
pub struct Wire {
    name: String,
}

impl Wire {
    /// Makes the machines and plugs the cable in.
    pub fn lay() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            geteuid().is_root(),
            "this story makes network namespaces, for which it must be run as root"
        );
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let wire = Self { name: format!("cable-{}-{count}", std::process::id()) };
        for machine in [Machine::Signer, Machine::Frontend] {
            wire.ip(&["netns", "add", &wire.namespace(machine)])?;
            // A namespace may begin with what its host is set to.
            wire.set(machine, "net/ipv4/ip_forward", "0")?;
        }
        wire.plug()?;
        Ok(wire)
    }

    /// Makes both interfaces, as plugging an adapter in does, and brings them up.
    pub fn plug(&self) -> Result<()> {
        let (signer, frontend) =
            (self.namespace(Machine::Signer), self.namespace(Machine::Frontend));
        let one_end = ["link", "add", INTERFACE, "netns", &signer, "type", "veth"];
        let other_end = ["peer", "name", INTERFACE, "netns", &frontend];
        self.ip(&[&one_end[..], &other_end].concat())?;
        for namespace in [signer, frontend] {
            self.ip(&["-n", &namespace, "link", "set", INTERFACE, "up"])?;
        }
        Ok(())
    }

    /// Deletes both interfaces, as pulling an adapter out does.
    pub fn unplug(&self) -> Result<()> {
        self.on(Machine::Signer, &["link", "del", INTERFACE])
    }

    /// Types an `ip` command on a machine.
    pub fn on(&self, machine: Machine, words: &[&str]) -> Result<()> {
        let namespace = self.namespace(machine);
        self.ip(&[&["-n", &namespace][..], words].concat()).map(drop)
    }

    /// Writes a value below `/proc/sys` on a machine.
    pub fn set(&self, machine: Machine, setting: &str, value: &str) -> Result<()> {
        let script = format!("echo {value} > /proc/sys/{setting}");
        self.exec(machine, &["sh", "-c", &script])?.done().map(drop)
    }

    /// Runs a command on a machine, however it ends.
    pub fn exec(&self, machine: Machine, words: &[&str]) -> Result<Ended> {
        let namespace = self.namespace(machine);
        let words = [&["netns", "exec", &namespace][..], words].concat();
        Process::run(Path::new("ip"), words, &[], None, COMMAND_MAX)
    }

    /// Starts a program on a machine, whose output goes to a log of this name too.
    pub fn start(
        &self,
        world: &World,
        machine: Machine,
        program: &Path,
        words: &[&str],
        log: &str,
    ) -> Result<Process> {
        let namespace = self.namespace(machine);
        let program = program.to_str().context("the path of a program is text")?;
        let (signer, frontend) = (world.path("signer"), world.path("frontend"));
        let variables: [(&str, &OsStr); 2] =
            [("SIGNER_DIR", signer.as_os_str()), ("FRONTEND_DIR", frontend.as_os_str())];
        let words = [&["netns", "exec", &namespace, program][..], words].concat();
        let log = world.path(&format!("{log}.log"));
        Process::start(program, Path::new("ip"), words, &variables, None, Some(&log))
    }

    /// Starts `signer run` or `frontend run` on its machine, over the cable.
    pub fn run(&self, world: &World, machine: Machine) -> Result<Process> {
        let name = match machine {
            Machine::Signer => "signer",
            Machine::Frontend => "frontend",
        };
        let program = programs()?.join(name);
        self.start(world, machine, &program, &["run", "--link", LINK], name)
    }

    /// The interface's own address on a machine.
    pub fn address(&self, machine: Machine) -> Result<String> {
        let namespace = self.namespace(machine);
        let shown = self.ip(&["-n", &namespace, "-j", "address", "show", "dev", INTERFACE])?.stdout;
        let shown: Value = serde_json::from_slice(&shown)?;
        let address = shown[0]["addr_info"][0]["local"].as_str();
        Ok(address.context("the interface has an address")?.to_owned())
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}-{machine:?}", self.name)
    }

    fn ip(&self, words: &[&str]) -> Result<Ended> {
        let ended = Process::run(Path::new("ip"), words, &[], None, COMMAND_MAX)?;
        let absent = ended.code == Some(127);
        ensure!(!absent, "`ip` is not installed; run `cargo xtask setup`");
        ended.done()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for machine in [Machine::Signer, Machine::Frontend] {
            // Best effort: what was never made cannot be removed.
            let _ = self.ip(&["netns", "del", &self.namespace(machine)]);
        }
    }
}
