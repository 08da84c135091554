//! Time hints: always fresh, never applied by the program, and a script that is right whenever
//! a person runs it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Cable, World, batch::Batch, story};

/// Both programs run on one clock here, so the true step is zero: what is left is half of a round
/// trip, a hundredth of a second of the boot clock, and the start of a shell.
const STEP_MAX_MS: i64 = 250;

#[test]
fn the_time_script_is_right_whenever_it_is_run() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 10)?;
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(tests::world::COMMAND_MAX)?;
        let script = world.file("signer/timesync.sh");
        let first = shown_step_ms(world, &script)?;
        ensure!(first.abs() < STEP_MAX_MS, "the step is {first} ms");
        // Later, with the cable gone, it is still right.
        world.stop()?;
        batch.assert_issued_once_each(world)?;
        let later = shown_step_ms(world, &script)?;
        ensure!(later.abs() < STEP_MAX_MS, "the step is {later} ms");
        Ok(())
    });
}

#[test]
fn the_time_script_refuses_a_stale_hint_and_one_from_before_a_restart() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        Batch::queue(world, 1)?;
        world.start_signer()?;
        world.run_until_idle(tests::world::COMMAND_MAX)?;
        let script = fs::read_to_string(world.path("signer/timesync.sh"))?;
        let with = |name: &str, value: &str| -> Result<String> {
            let line = |line: &str| match line.starts_with(&format!("{name}=")) {
                true => format!("{name}={value}\n"),
                false => format!("{line}\n"),
            };
            let altered: String = script.lines().map(line).collect();
            ensure!(altered != script, "the script has no {name}");
            world.write("altered.sh", altered)
        };
        let hour_before_boot = with("boot_ms", "-7200000")?;
        let ended = world.tool("sh", &[&hour_before_boot, "--print"])?.with_code(1)?;
        ensure!(ended.stderr.contains("minutes old"), "{}", ended.stderr);
        let other_boot = with("boot_id", "00000000-0000-0000-0000-000000000000")?;
        let ended = world.tool("sh", &[&other_boot, "--print"])?.with_code(1)?;
        ensure!(ended.stderr.contains("restarted"), "{}", ended.stderr);
        Ok(())
    });
}

// Lesson: time hints stay fresh while the queue is never empty.
#[test]
fn time_hints_stay_fresh_while_the_queue_is_never_empty() {
    // A hint comes every 10 s and is written down at most 5 s later.
    const FRESH: f64 = 17.0;
    story(Cable::slow(19_200), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 120)?;
        world.start()?;
        // By the last answer the queue was never empty for longer than a hint stays fresh.
        let mut oldest: f64 = 0.0;
        for _ in 0..batch.count() {
            let more = world.running_signer()?.wait_for_more(1, Duration::from_secs(20))?;
            if !more {
                break;
            }
            if let Ok(hint) = newest_hint_boot_s(world) {
                oldest = oldest.max(boot_s()? - hint);
            }
        }
        world.run_until_idle(tests::world::COMMAND_MAX)?;
        ensure!(oldest > 0.0, "no hint was ever written down");
        ensure!(oldest < FRESH, "a hint was {oldest} s old while requests waited");
        Ok(())
    });
}

/// The step that the script would make, in milliseconds.
fn shown_step_ms(world: &World, script: &str) -> Result<i64> {
    let shown = world.tool("sh", &[script, "--print"])?.done()?.text();
    let step = shown.lines().find_map(|line| line.strip_prefix("step:"));
    let step = step.with_context(|| format!("the script shows no step: {shown}"))?;
    let seconds: f64 = step.trim().trim_end_matches('s').trim().parse()?;
    Ok((seconds * 1000.0) as i64)
}

/// The boot clock when the newest hint arrived, by `timesync.json`.
fn newest_hint_boot_s(world: &World) -> Result<f64> {
    let report: Value = serde_json::from_slice(&fs::read(world.path("signer/timesync.json"))?)?;
    let boot_us = report["newest"]["boot_us"].as_f64().context("the hint has a boot clock")?;
    Ok(boot_us / 1e6)
}

/// The boot clock now.
fn boot_s() -> Result<f64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split_whitespace().next().context("/proc/uptime has a first word")?;
    Ok(seconds.parse()?)
}
