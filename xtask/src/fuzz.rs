//! Coverage-guided fuzzing: libFuzzer on the targets of the package `fuzz`.
//!
//! The stable compiler can write the coverage counters (`-C passes=sancov-module`); libFuzzer
//! itself comes as source with the crate libfuzzer-sys. Nothing here judges: a target panics or it
//! does not. What was found lies below the build products, and one line replays it.
#![expect(clippy::disallowed_methods, reason = "driver: says how long a run took")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::workspace::{Failed, Workspace, say, succeed};

/// One target.
struct Target {
    name: &'static str,
    /// Whether the two programs are built for it.
    programs: bool,
    /// The longest input, in bytes.
    length_max: u32,
    /// Of 10,000 executions of all targets together: the fast ones take most, so that a run of
    /// them all gives each a time of the same order.
    share: u64,
}

const fn cable(name: &'static str, length_max: u32, share: u64) -> Target {
    Target { name, programs: false, length_max, share }
}

const fn program(name: &'static str, length_max: u32, share: u64) -> Target {
    Target { name, programs: true, length_max, share }
}

/// All targets.
const TARGETS: [Target; 14] = [
    cable("frame", 4500, 700),
    cable("message", 4096, 5000),
    cable("lanes", 4096, 1500),
    cable("patch", 8192, 1800),
    cable("link", 1024, 20),
    cable("session", 1024, 10),
    cable("handshake", 1024, 10),
    cable("bundle", 512, 60),
    program("csr", 4096, 40),
    program("spkac", 4096, 40),
    program("openpgp", 8192, 10),
    program("index", 1024, 500),
    program("profile", 4096, 10),
    program("crl", 4096, 300),
];

/// What makes the compiler count which code was reached and what was compared with what.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// The longest that one input may take.
const TIMEOUT_S: u32 = 10;
/// The most memory of one process. Instrumented OpenSSL and sequoia need a tenth.
const MEMORY_MIB: u32 = 1024;
/// What a committed corpus may hold; the package's own test says the same.
const CORPUS_FILES_MAX: usize = 100;
const CORPUS_BYTES_MAX: u64 = 200 * 1024;

/// What was asked for.
struct Options {
    targets: Vec<&'static Target>,
    limit: Limit,
    jobs: u32,
    replay: Option<PathBuf>,
    merge: bool,
}

/// When a target is done.
#[derive(Clone, Copy)]
enum Limit {
    /// After so many seconds.
    Seconds(u64),
    /// After so many executions, all targets and processes together.
    Runs(u64),
}

/// What came of one target.
#[derive(Default)]
struct Outcome {
    executions: u64,
    seconds: f64,
    coverage: u64,
    failed: bool,
}

/// `cargo xtask fuzz ...`
pub(crate) fn run(workspace: &Workspace, words: &[&str]) -> Result<()> {
    let Some(options) = Options::read(words)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let fuzzer = Fuzzer::new(workspace)?;
    fuzzer.build(&options)?;
    if let Some(file) = &options.replay {
        let [Target { name, .. }] = options.targets[..] else { bail!("--replay needs one target") };
        return succeed(Command::new(fuzzer.binary(name)).arg(file));
    }
    if options.merge {
        return options.targets.iter().try_for_each(|target| fuzzer.merge(target.name));
    }
    let mut table = Vec::new();
    for target in &options.targets {
        let outcome = fuzzer.fuzz(target, &options)?;
        table.push((target.name, outcome));
    }
    print_table(&table);
    match table.iter().any(|(_, outcome)| outcome.failed) {
        true => Err(Failed(1).into()),
        false => Ok(()),
    }
}

/// How many of `runs` are this target's.
fn part(runs: u64, target: &Target, among: &[&Target]) -> u64 {
    let all: u64 = among.iter().map(|target| target.share).sum();
    (u128::from(runs) * u128::from(target.share)).div_ceil(all.max(1).into()) as u64
}

fn print_table(table: &[(&str, Outcome)]) {
    println!(
        "{:<10} {:>12} {:>8} {:>10} {:>7}  findings",
        "target", "executions", "s", "/s", "edges"
    );
    let row = |name: &str, outcome: &Outcome, found: &str| {
        let Outcome { executions, seconds, coverage, .. } = outcome;
        let rate = *executions as f64 / seconds.max(0.001);
        println!("{name:<10} {executions:>12} {seconds:>8.0} {rate:>10.0} {coverage:>7}  {found}");
    };
    let mut total = Outcome::default();
    for (name, outcome) in table {
        row(name, outcome, if outcome.failed { "FOUND, see above" } else { "none" });
        total.executions += outcome.executions;
        total.seconds += outcome.seconds;
        total.failed |= outcome.failed;
    }
    row("all", &total, if total.failed { "FOUND" } else { "none" });
}

/// Where binaries, growing corpora and findings lie.
struct Fuzzer<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    host: String,
}

impl<'a> Fuzzer<'a> {
    fn new(workspace: &'a Workspace) -> Result<Self> {
        let output = Command::new("rustc").arg("-vV").output().context("rustc does not start")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or_else(|| anyhow!("`rustc -vV` names no host"))?.to_owned();
        Ok(Self { workspace, folder: workspace.target.join("fuzz"), host })
    }

    fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(&self.host).join("release").join(format!("fuzz-{name}"))
    }

    /// Builds the binaries with counters. The flags hold for the target's code only, not for build
    /// scripts, because a target is named.
    fn build(&self, options: &Options) -> Result<()> {
        let programs = options.targets.iter().any(|target| target.programs);
        let features = if programs { "libfuzzer,programs" } else { "libfuzzer" };
        say("build", "the fuzzers, with counters (the first time takes minutes)");
        let mut build = self.workspace.cargo(&["build", "--release", "--package", "fuzz"]);
        build.args(["--no-default-features", "--features", features, "--target", &self.host]);
        build.arg("--target-dir").arg(&self.folder);
        for Target { name, .. } in &options.targets {
            build.args(["--bin", &format!("fuzz-{name}")]);
        }
        succeed(build.env("RUSTFLAGS", COVERAGE.join(" ")))
    }

    /// Runs as many processes as asked for on one growing corpus.
    fn fuzz(&self, target: &Target, options: &Options) -> Result<Outcome> {
        let Target { name, length_max, .. } = *target;
        let grown = self.folder.join("corpus").join(name);
        let findings = self.folder.join("findings").join(name);
        fs::create_dir_all(&grown)?;
        fs::create_dir_all(&findings)?;
        let limit = match options.limit {
            Limit::Seconds(seconds) => format!("-max_total_time={seconds}"),
            // libFuzzer counts each input of the corpus, too.
            Limit::Runs(runs) => {
                let runs = part(runs, target, &options.targets);
                format!("-runs={}", runs.div_ceil(options.jobs.into()))
            }
        };
        say("fuzz", &format!("{name}: {} processes, {limit}", options.jobs));
        let start = Instant::now();
        let mut children: Vec<(Child, PathBuf)> = Vec::new();
        for job in 0..options.jobs {
            let log = self.folder.join(format!("{name}-{job}.log"));
            let said = File::create(&log).with_context(|| log.display().to_string())?;
            let child = Command::new(self.binary(name))
                .arg(&grown)
                .arg(self.corpus(name))
                .arg(&limit)
                .arg(format!("-max_len={length_max}"))
                .arg(format!("-timeout={TIMEOUT_S}"))
                .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
                .arg(format!("-artifact_prefix={}/", findings.display()))
                .args(["-print_final_stats=1", "-verbosity=1"])
                .stdout(Stdio::null())
                .stderr(said)
                .spawn()
                .with_context(|| format!("fuzz-{name} does not start"))?;
            children.push((child, log));
        }
        let mut outcome = Outcome::default();
        for (mut child, log) in children {
            let ended = child.wait()?;
            let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let said = Said::read(&text);
            outcome.executions += said.executions;
            outcome.coverage = outcome.coverage.max(said.coverage);
            if !ended.success() {
                outcome.failed = true;
                self.tell(name, &text, said.artifact);
            }
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// What a process said before it ended badly, and how to see it again.
    fn tell(&self, name: &str, text: &str, artifact: Option<&str>) {
        let panic = text.lines().find(|line| line.contains("panicked at"));
        let after = panic.and_then(|line| text.split_once(line)).map_or("", |(_, rest)| rest);
        eprintln!("fuzz: {name}: {}", panic.unwrap_or("it ended without a panic"));
        after.lines().skip(1).take(4).for_each(|line| eprintln!("fuzz:   {line}"));
        match artifact {
            Some(file) => eprintln!("replay with: cargo xtask fuzz {name} --replay {file}"),
            None => eprintln!("fuzz: no input was left; the log is in {}", self.folder.display()),
        }
    }

    /// The inputs that reach the most code, smallest first, become the committed corpus.
    fn merge(&self, name: &str) -> Result<()> {
        let merged = self.folder.join("merged").join(name);
        if merged.exists() {
            fs::remove_dir_all(&merged)?;
        }
        fs::create_dir_all(&merged)?;
        let grown = self.folder.join("corpus").join(name);
        fs::create_dir_all(&grown)?;
        let committed = self.corpus(name);
        let status = Command::new(self.binary(name))
            .arg("-merge=1")
            .args([&merged, &committed, &grown])
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("fuzz-{name} does not merge its corpora");
        }
        let mut files = files_in(&merged)?;
        files.sort_by_key(|(_, length)| *length);
        let (mut count, mut bytes) = (files_in(&committed)?.len(), 0);
        bytes += files_in(&committed)?.iter().map(|(_, length)| length).sum::<u64>();
        for (path, length) in files {
            let file = path.file_name().context("a merged file has a name")?;
            let to = committed.join(file);
            let known = fs::read(&path)?;
            let is_new = !files_in(&committed)?
                .iter()
                .any(|(there, _)| fs::read(there).is_ok_and(|bytes| bytes == known));
            if is_new && count < CORPUS_FILES_MAX && bytes + length <= CORPUS_BYTES_MAX {
                fs::copy(&path, to)?;
                count += 1;
                bytes += length;
            }
        }
        say("fuzz", &format!("{name}: {count} files, {bytes} bytes in fuzz/corpus/{name}"));
        Ok(())
    }

    fn corpus(&self, name: &str) -> PathBuf {
        self.workspace.root.join("fuzz/corpus").join(name)
    }
}

fn files_in(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.metadata()?.len()))
        })
        .collect()
}

/// What libFuzzer says at its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    executions: u64,
    coverage: u64,
    artifact: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Self {
        let mut said = Self::default();
        for line in text.lines() {
            if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                said.executions = count.trim().parse().unwrap_or_default();
            } else if let Some((_, file)) = line.split_once("Test unit written to ") {
                said.artifact = Some(file.trim());
            } else if let Some((before, after)) = line.split_once(" cov: ") {
                let cover = after.split(' ').next().and_then(|count| count.parse().ok());
                said.coverage = cover.unwrap_or(said.coverage);
                // A process that ends badly prints no final count: `#4096<TAB>pulse  cov: 12 ...`
                let count = before.trim_start_matches('#').split('\t').next();
                let count = count.and_then(|count| count.trim().parse().ok());
                said.executions = count.unwrap_or(said.executions).max(said.executions);
            }
        }
        said
    }
}

impl Options {
    fn read(words: &[&str]) -> Result<Option<Self>> {
        let mut options = Self {
            targets: TARGETS.iter().collect(),
            limit: Limit::Seconds(60),
            jobs: 1,
            replay: None,
            merge: false,
        };
        let mut named = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--seconds" => options.limit = Limit::Seconds(value()?.parse()?),
                "--runs" => options.limit = Limit::Runs(value()?.parse()?),
                "--jobs" => options.jobs = value()?.parse::<u32>()?.max(1),
                "--replay" => options.replay = Some(PathBuf::from(value()?)),
                "--merge" => options.merge = true,
                "--help" => return Ok(None),
                name => {
                    let target = TARGETS.iter().find(|target| target.name == name);
                    let target =
                        target.with_context(|| format!("no target is called `{name}`\n{USAGE}"))?;
                    named.push(target);
                }
            }
        }
        if !named.is_empty() {
            options.targets = named;
        }
        Ok(Some(options))
    }
}

pub(crate) const USAGE: &str = "\
fuzz [TARGET...] [--seconds N | --runs N] [--jobs N]
fuzz TARGET --replay FILE
fuzz [TARGET...] --merge

  TARGET       of frame, message, lanes, patch, link, session, handshake, bundle, csr, spkac,
               openpgp, index, profile, crl; all of them, one after the other, unless said
  --seconds N  each target for so long (60)
  --runs N     so many executions of all of them together, most of them of the fast ones
  --jobs N     so many processes on each target at once (1)
  --replay     one input again
  --merge      puts what reaches new code into fuzz/corpus, smallest first";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_file_and_no_other_file_is_there() {
        let sources: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../fuzz/src/bin"].iter().collect();
        let mut files: Vec<String> = files_in(&sources)
            .unwrap()
            .iter()
            .map(|(path, _)| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut names = TARGETS.map(|target| target.name);
        names.sort();
        assert_eq!(files, names);
        for name in names {
            assert!(USAGE.contains(name), "{name} is not in the usage");
        }
    }

    #[test]
    fn executions_are_counted_whether_a_run_ends_well_or_not() {
        let well = "#2\tINITED cov: 12 ft: 13\n#500\tDONE   cov: 40 ft: 41 corp: 3/4b\n\
                    stat::number_of_executed_units: 500\n";
        assert_eq!(Said::read(well), Said { executions: 500, coverage: 40, artifact: None });
        let badly = "#8192\tpulse  cov: 99 ft: 100\nthread panicked at a.rs:1:1:\n\
                     artifact_prefix='x/'; Test unit written to x/crash-1\n";
        let said = Said::read(badly);
        assert_eq!(said, Said { executions: 8192, coverage: 99, artifact: Some("x/crash-1") });
    }

    #[test]
    fn executions_are_dealt_out_by_share_and_all_of_them() {
        let all: Vec<&Target> = TARGETS.iter().collect();
        let dealt: u64 = all.iter().map(|target| part(100_000_000, target, &all)).sum();
        assert_eq!(dealt, 100_000_000);
        assert_eq!(all.iter().map(|target| target.share).sum::<u64>(), 10_000);
        assert_eq!(part(1000, all[0], &all[..1]), 1000, "alone it gets them all");
    }

    #[test]
    fn options_are_read_and_an_unknown_target_is_refused() {
        let options = Options::read(&["link", "--runs", "10", "--jobs", "2"]).unwrap().unwrap();
        assert_eq!(options.targets.len(), 1);
        assert!(matches!(options.limit, Limit::Runs(10)));
        assert_eq!(options.jobs, 2);
        assert_eq!(Options::read(&[]).unwrap().unwrap().targets.len(), TARGETS.len());
        assert!(Options::read(&["lnk"]).is_err());
        assert!(Options::read(&["--help"]).unwrap().is_none());
    }
}
