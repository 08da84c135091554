//! Bad lines: nothing is lost, nothing is issued twice.

use std::time::Duration;

use tests::{Cable, batch::Batch, story};

const IDLE_MAX: Duration = Duration::from_secs(150);

#[test]
fn a_cable_that_is_out_for_a_minute_delays_and_loses_nothing() {
    story(Cable::faulty(&["--cut", "1:60"]), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 80)?;
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        let wire = world.stop()?.wire;
        let lost = wire.lines().filter(|line| line.contains(" 0 lost while cut")).count();
        anyhow::ensure!(lost < 2, "nothing was under way when the cable was cut: {wire}");
        batch.assert_issued_once_each(world)
    });
}

#[test]
fn one_byte_in_a_thousand_damaged_delays_and_loses_nothing() {
    // 1.25e-4 of the bits are 1e-3 of the bytes.
    story(Cable::faulty(&["--ber", "1.25e-4", "--seed", "0x1000"]), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 25)?;
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        let wire = world.stop()?.wire;
        let clean = wire.lines().filter(|line| line.contains(" 0 bits inverted")).count();
        anyhow::ensure!(clean == 0, "the line was clean: {wire}");
        batch.assert_issued_once_each(world)
    });
}

#[test]
fn bytes_that_vanish_delay_and_lose_nothing() {
    story(Cable::faulty(&["--drop", "5e-4", "--latency-ms", "16", "--seed", "0x2000"]), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 25)?;
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        let wire = world.stop()?.wire;
        let clean = wire.lines().filter(|line| line.contains(" 0 dropped")).count();
        anyhow::ensure!(clean == 0, "the line was clean: {wire}");
        batch.assert_issued_once_each(world)
    });
}
