//! Time hints: the script as a shell runs it, and the arithmetic behind it.

use std::process::{Command, Output};

use super::*;

const HINT: TimeHint = TimeHint { unix_us: 0, round_trip_us: Some(40_000), synchronised: true };

fn boot_id() -> String {
    durable::read_text("/proc/sys/kernel/random/boot_id".as_ref()).unwrap().trim().to_owned()
}

fn boot_us() -> i64 {
    let uptime = durable::read_text("/proc/uptime".as_ref()).unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    (seconds * 1e6) as i64
}

fn printed(report: &Report) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("timesync.sh");
    std::fs::write(&path, script(report)).unwrap();
    Command::new("sh").arg(path).arg("--print").output().unwrap()
}

fn report_at(boot_id: String, boot_us: i64, hint_unix_us: i64) -> Report {
    let mut sync = TimeSync::new(tempfile::tempdir().unwrap().keep(), boot_id);
    let hint = TimeHint { unix_us: hint_unix_us - 20_000, ..HINT };
    sync.take(Moment { unix_us: hint_unix_us, boot_us }, hint, None).unwrap();
    std::fs::remove_dir_all(&sync.directory).unwrap();
    sync.report().unwrap()
}

#[test]
fn half_a_round_trip_is_added_to_the_hint() {
    let report = report_at("b".into(), 5_000_000, 1_800_000_000_000_000);
    assert_eq!(report.offset_us, 0);
    assert_eq!(report.newest.round_trip_us, 40_000);
}

#[test]
fn script_adds_the_time_since_the_hint() {
    // The hint came 100 s ago and said 2030-01-01 00:00:00: the script says 00:01:40 or a bit more.
    let hint = UnixTime::from_civil(2030, 1, 1, 0, 0, 0).0 * 1_000_000;
    let output = printed(&report_at(boot_id(), boot_us() - 100_000_000, hint));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("2030-01-01 00:01:4"), "{text}");
}

#[test]
fn script_refuses_after_a_reboot_and_when_the_hint_is_stale() {
    let hint = 1_900_000_000_000_000;
    let rebooted = printed(&report_at("another boot".into(), boot_us(), hint));
    assert!(!rebooted.status.success());
    assert!(String::from_utf8_lossy(&rebooted.stderr).contains("restarted"));
    let stale = printed(&report_at(boot_id(), boot_us() - 3_601_000_000, hint));
    assert!(!stale.status.success());
    assert!(String::from_utf8_lossy(&stale.stderr).contains("60 minutes old"));
}

#[test]
fn drift_is_measured_against_the_boot_clock() {
    let scratch = tempfile::tempdir().unwrap();
    let mut sync = TimeSync::new(scratch.path().into(), "b".into());
    let start = 1_800_000_000_000_000;
    for hour in 0..4 {
        // The hint gains 36 ms an hour: 10 parts per million.
        let at = hour * 3_600_000_000;
        let hint = TimeHint { unix_us: start + at + hour * 36_000, ..HINT };
        sync.take(Moment { unix_us: start, boot_us: at }, hint, None).unwrap();
    }
    let drift = sync.report().unwrap().drift_ppm.unwrap();
    assert!((drift - 10.0).abs() < 0.01, "{drift}");
    let stored: Report =
        serde_json::from_slice(&durable::read(&scratch.path().join("timesync.json")).unwrap())
            .unwrap();
    assert_eq!(Some(stored), sync.report());
}

#[test]
fn absurd_hints_do_not_overflow() {
    let scratch = tempfile::tempdir().unwrap();
    let mut sync = TimeSync::new(scratch.path().into(), "b".into());
    for unix_us in [i64::MIN, i64::MAX] {
        let hint = TimeHint { unix_us, round_trip_us: Some(u32::MAX), synchronised: false };
        sync.take(Moment { unix_us: 0, boot_us: 0 }, hint, None).unwrap();
    }
    assert!(sync.report().is_some());
}
