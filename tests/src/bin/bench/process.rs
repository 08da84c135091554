//! What the kernel tells of the memory of a running process.

use std::fs;

use anyhow::{Context, Result};

/// The largest resident set that a process ever had, in MiB.
pub(crate) fn peak_mib(process: u32) -> Result<f64> {
    mib(process, "status", "VmHWM:")
}

/// A line of `/proc/PROCESS/FILE`, there in KiB.
pub(crate) fn mib(process: u32, file: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{process}/{file}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let kib: f64 = number.with_context(|| format!("no {name} in {path}"))?.parse()?;
    Ok(kib / 1024.0)
}
