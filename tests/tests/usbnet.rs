//! A network cable that is a cable and nothing else: the real programs in two namespaces.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use tests::{
    Cable, Process, World,
    netns::{INTERFACE, LINK, Machine::*, Wire},
    story,
    world::{self, START_MAX},
};

#[test]
fn a_certificate_crosses_an_interface_that_is_a_cable_and_nothing_else() {
    wired(|world, wire| {
        let (signer, frontend) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        frontend.wait_for("link up", START_MAX)?;
        issue(world, "first")?;

        // One socket listens, on the interface's own address, and no datagram is waited for.
        let listening = wire.exec(Signer, &["ss", "-Hltn"])?.done()?.text();
        let own = format!("[{}]%{INTERFACE}:47815", wire.address(Signer)?);
        ensure!(listening.lines().count() == 1 && listening.contains(&own), "{own}: {listening}");
        for machine in [Signer, Frontend] {
            let datagrams = wire.exec(machine, &["ss", "-Hlun"])?.done()?.text();
            ensure!(datagrams.is_empty(), "{machine:?} waits for datagrams: {datagrams}");
        }
        let connected = wire.exec(Frontend, &["ss", "-Htn"])?.done()?.text();
        ensure!(connected.lines().count() == 1 && connected.contains("fe80::"), "{connected}");
        stop(frontend, signer)
    });
}

// USBNET-7: checked at each opening.
#[test]
fn an_interface_that_leads_elsewhere_is_refused_until_it_no_longer_does() {
    wired(|world, wire| {
        let default = ["-6", "route", "add", "default", "dev", INTERFACE];
        wire.on(Signer, &default)?;
        wire.on(Frontend, &["address", "add", "10.1.2.3/24", "dev", INTERFACE])?;
        let (signer, frontend) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        let told = signer.wait_for("has a route to ::/0", START_MAX)?;
        ensure!(told.contains("usb0 cannot be the cable"), "{told}");
        frontend.wait_for("has the address 10.1.2.3", START_MAX)?;

        // The next reason is told too, and nothing was opened meanwhile.
        wire.on(Frontend, &["address", "del", "10.1.2.3/24", "dev", INTERFACE])?;
        wire.set(Frontend, &format!("net/ipv6/conf/{INTERFACE}/forwarding"), "1")?;
        frontend.wait_for("sysctl -w net.ipv6.conf.usb0.forwarding=0", START_MAX)?;
        let listening = wire.exec(Signer, &["ss", "-Hltun"])?.done()?.text();
        ensure!(listening.is_empty(), "the signer listens: {listening}");

        wire.set(Frontend, &format!("net/ipv6/conf/{INTERFACE}/forwarding"), "0")?;
        wire.on(Signer, &["-6", "route", "del", "default", "dev", INTERFACE])?;
        issue(world, "after")?;
        stop(frontend, signer)
    });
}

// USBNET-8: and again while it is open.
#[test]
fn a_route_that_appears_later_closes_the_link_at_either_end() {
    wired(|world, wire| {
        let (signer, frontend) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        issue(world, "before")?;
        let route = ["2001:db8::/32", "dev", INTERFACE];
        wire.on(Signer, &[&["-6", "route", "add"][..], &route].concat())?;
        signer.wait_for("has a route to 2001:db8::/32", START_MAX)?;
        frontend.wait_for("port away", START_MAX)?;
        wire.on(Signer, &[&["-6", "route", "del"][..], &route].concat())?;
        issue(world, "between")?;

        wire.on(Frontend, &["address", "add", "fd00::1/64", "dev", INTERFACE])?;
        frontend.wait_for("has the address fd00::1", START_MAX)?;
        world.told(|| world.frontend(&["status"]), &["has the address fd00::1"])?;
        wire.on(Frontend, &["address", "del", "fd00::1/64", "dev", INTERFACE])?;
        issue(world, "after")?;
        stop(frontend, signer)
    });
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_found_by_both_ends() {
    wired(|world, wire| {
        let (signer, frontend) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        issue(world, "before")?;
        wire.unplug()?;
        signer.wait_for("there is no such interface", START_MAX)?;
        frontend.wait_for("there is no such interface", START_MAX)?;
        wire.plug()?;
        issue(world, "after")?;
        stop(frontend, signer)
    });
}

// Somebody started a copy: it must say why it has no signer, and must not disturb the other.
#[test]
fn a_second_frontend_on_the_wire_is_told_and_comes_next() {
    wired(|world, wire| {
        let (first_dir, second_dir) = (world.file("frontend"), world.file("second"));
        let copied = Command::new("cp").args(["-a", &first_dir, &second_dir]).status()?;
        ensure!(copied.success(), "the frontend's directory cannot be copied");
        let (signer, first) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        issue(world, "before")?;

        let words = ["--dir", &second_dir, "run", "--link", LINK];
        let program = world::programs()?.join("frontend");
        let second = wire.start(world, Frontend, &program, &words, "second")?;
        second.wait_for("another frontend already talks to this signer", START_MAX)?;
        let status = || world.frontend(&["--dir", &second_dir, "status"]);
        world.told(status, &["stop one of the two"])?;
        issue(world, "meanwhile")?;

        let mut first = first;
        first.stop(START_MAX)?.done()?;
        second.wait_for("link up", START_MAX)?;
        stop(second, signer)
    });
}

// A wire upon another one leads where that one leads, whatever addresses it has itself.
#[test]
fn an_interface_upon_another_one_or_below_one_is_refused() {
    wired(|world, wire| {
        let upon = |below: &str, name: &str| {
            ["link", "add", "link", below, "name", name, "type", "macvlan"].map(str::to_owned)
        };
        let on = |machine, words: &[String]| {
            wire.on(machine, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let set = |name: &str, words: &[&str]| {
            wire.on(Frontend, &[&["link", "set", name][..], words].concat())
        };
        on(Signer, &upon(INTERFACE, "upon"))?;
        set(INTERFACE, &["down"])?;
        set(INTERFACE, &["name", "lan0"])?;
        on(Frontend, &upon("lan0", INTERFACE))?;
        set("lan0", &["up"])?;
        set(INTERFACE, &["up"])?;
        let (signer, frontend) = (wire.run(world, Signer)?, wire.run(world, Frontend)?);
        signer.wait_for("it is joined to upon", START_MAX)?;
        frontend.wait_for("it is joined to lan0", START_MAX)?;

        wire.on(Signer, &["link", "del", "upon"])?;
        wire.on(Frontend, &["link", "del", INTERFACE])?;
        set("lan0", &["down"])?;
        set("lan0", &["name", INTERFACE])?;
        set(INTERFACE, &["up"])?;
        issue(world, "after")?;
        stop(frontend, signer)
    });
}

// Who lies on the wire may delay: a connection on which nobody speaks is given up for the next.
#[test]
fn a_silent_stranger_does_not_keep_the_frontend_out_for_long() {
    wired(|world, wire| {
        let signer = wire.run(world, Signer)?;
        signer.wait_for("signer runs", START_MAX)?;
        let script = format!(
            "import signal, socket\n\
             scope = socket.if_nametoindex('{INTERFACE}')\n\
             while True:\n\
             \x20   try:\n\
             \x20       s = socket.create_connection(('{}%{INTERFACE}', 47815), 1)\n\
             \x20       break\n\
             \x20   except OSError: pass\n\
             print('connected', flush=True)\n\
             signal.pause()\n",
            wire.address(Signer)?
        );
        let words = ["-c", script.as_str()];
        let stranger = wire.start(world, Frontend, Path::new("python3"), &words, "stranger")?;
        stranger.wait_for("connected", START_MAX)?;
        signer.wait_for("port open", START_MAX)?;
        let frontend = wire.run(world, Frontend)?;
        signer.wait_for("was closed at the other end", START_MAX)?;
        issue(world, "after")?;
        stop(frontend, signer)
    });
}

fn wired(tell: impl FnOnce(&mut World, &Wire) -> Result<()>) {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let wire = Wire::lay()?;
        tell(world, &wire)
    });
}

/// A certificate comes back, and openssl believes it.
fn issue(world: &World, name: &str) -> Result<()> {
    let file = world.issued(name)?;
    let (issuing, root) = (world.authority("issuing", "ca.crt"), world.authority("root", "ca.crt"));
    world.openssl(&["verify", "-CAfile", &root, "-untrusted", &issuing, &file]).map(drop)
}

fn stop(mut frontend: Process, mut signer: Process) -> Result<()> {
    frontend.stop(START_MAX)?.done()?;
    signer.stop(START_MAX)?.done().map(drop)
}
