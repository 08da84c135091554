//! What the kernel tells of a running process: its memory, and which processes it started.

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

/// The processes below this one that were started with `word` on their command line.
pub(crate) fn below(process: u32, word: &str) -> Vec<u32> {
    let mut family = vec![process];
    let mut asked = 0;
    // Who ends while it is asked about has no more children and no words.
    while let Some(parent) = family.get(asked) {
        let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children = threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .collect::<String>();
        family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        asked += 1;
    }
    family.retain(|id| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        *id != process && words.split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    });
    family
}
