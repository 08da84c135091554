//! Every target over its corpus, and over a fixed number of seeded mutations of it, with the
//! ordinary compiler: what `cargo xtask ci` runs of the fuzzer.
//!
//! More of them: `FUZZ_SMOKE_RUNS=1000000 cargo test --release -p fuzz --test smoke frame`.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is")]

use std::{env, fs, path::PathBuf, thread};

use fuzz::{TARGETS, Target, mutate::Mutator};

/// The longest input of a run here.
const LENGTH_MAX: usize = 4096;
/// What a corpus may hold: it is for reading, too.
const FILES_MAX: usize = 100;
const BYTES_MAX: u64 = 200 * 1024;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "corpus", target].iter().collect();
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs one input; a panic leaves it in a file and one line that replays it.
struct Running<'a> {
    target: &'a Target,
    input: &'a [u8],
}

impl Running<'_> {
    fn run(target: &Target, input: &[u8]) {
        let running = Running { target, input };
        (target.run)(running.input);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = self.target.name;
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("found-{name}"));
            match fs::write(&path, self.input) {
                Ok(()) => {
                    eprintln!("replay with: cargo xtask fuzz {name} --replay {}", path.display())
                }
                Err(error) => eprintln!("{}: {error}: {:02x?}", path.display(), self.input),
            }
        }
    }
}

/// The corpus, then `runs` mutations of it.
fn smoke(name: &str, runs: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (path, bytes) in &corpus {
        let shown = path.display();
        assert!(!bytes.is_empty() && bytes.len() as u64 <= BYTES_MAX, "{shown}");
        Running::run(target, bytes);
    }
    let more = env::var("FUZZ_SMOKE_RUNS").ok().and_then(|runs| runs.parse().ok());
    let mut mutator = Mutator::new(0x5eed);
    for _ in 0..more.unwrap_or(runs) {
        let [base, other] = [(); 2].map(|()| &corpus[mutator.below(corpus.len())].1);
        let input = mutator.mutate(base, other, LENGTH_MAX);
        Running::run(target, &input);
    }
}

#[test]
fn every_target_has_a_small_corpus_and_every_corpus_a_target() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "corpus"].iter().collect();
    let entries = fs::read_dir(folder).unwrap();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort();
    if cfg!(feature = "programs") {
        assert_eq!(folders, names);
    }
    for name in names {
        let files = corpus(name);
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(files.len() <= FILES_MAX && bytes <= BYTES_MAX, "{name}: {} files", files.len());
    }
}

#[test]
fn every_message_of_the_frozen_version_is_in_the_corpus() {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../protocol/tests/golden/v1"].iter().collect();
    let held: Vec<_> = corpus("message").into_iter().map(|(_, bytes)| bytes).collect();
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let choice = match name {
            name if name.starts_with("request-") => "00",
            name if name.starts_with("answer-") => "01",
            _ => continue,
        };
        let text = fs::read_to_string(&path).unwrap();
        let digits = text.lines().flat_map(|line| line.split('#').next());
        let digits: String = digits.flat_map(str::split_whitespace).collect();
        let digits = format!("{choice}{digits}");
        let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(octet).collect();
        assert!(held.contains(&bytes), "{name} is not in the corpus of `message`");
        found += 1;
    }
    assert!(found > 20, "{found} messages");
}

#[test]
fn frames_in_any_pieces() {
    smoke("frame", 3000);
}

#[test]
fn messages_of_any_bytes() {
    smoke("message", 10_000);
}

#[test]
fn lanes_with_any_segments() {
    smoke("lanes", 2000);
}

#[test]
fn patches_of_any_bytes() {
    smoke("patch", 3000);
}

#[test]
fn two_ends_of_the_link_with_any_operations() {
    smoke("link", 1000);
}

#[test]
fn two_sessions_and_somebody_who_owns_the_line() {
    smoke("session", 200);
}

#[test]
fn a_paired_side_and_an_arbitrary_peer() {
    smoke("handshake", 500);
}

#[test]
fn bundles_changed_anywhere() {
    smoke("bundle", 500);
}

#[cfg(feature = "programs")]
#[test]
fn csrs_of_any_bytes() {
    smoke("csr", 2000);
}

#[cfg(feature = "programs")]
#[test]
fn spkacs_of_any_bytes() {
    smoke("spkac", 2000);
}

#[cfg(feature = "programs")]
#[test]
fn openpgp_keys_of_any_bytes() {
    smoke("openpgp", 300);
}

#[cfg(feature = "programs")]
#[test]
fn index_lines_of_any_bytes() {
    smoke("index", 5000);
}

#[cfg(feature = "programs")]
#[test]
fn profiles_of_any_text() {
    smoke("profile", 1000);
}

#[cfg(feature = "programs")]
#[test]
fn crls_of_any_bytes() {
    smoke("crl", 3000);
}
