//! The door to the project's chores: `cargo xtask demo | test | bench | fuzz | swarm | tidy | ci | setup`.
//!
//! It builds with `anyhow` and `serde_json` alone, before anything is installed on the machine,
//! so nothing here may use the product's crates. What the chores run lies in the package `tests`.

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

mod ci;
mod fuzz;
mod setup;
mod swarm;
mod tidy;
mod workspace;

use workspace::{Failed, Profile, Workspace};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Failed>() {
            // The failed command has said why; a runner's closing lines stay the last.
            Some(failed) => ExitCode::from(failed.0),
            None => {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(words: &[&str]) -> Result<()> {
    let Some((command, rest)) = words.split_first() else {
        println!("{USAGE}");
        return Ok(());
    };
    if matches!(*command, "help" | "--help" | "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    // Before anything is installed or built, which takes minutes.
    let takes_none = TAKE_NO_OPTIONS.contains(command);
    if (takes_none || *command == "test") && asks_for_help(rest) {
        println!("{USAGE}");
        return Ok(());
    }
    if takes_none && !rest.is_empty() {
        bail!("`cargo xtask {command}` takes no options; `cargo xtask --help` lists the commands");
    }
    let workspace = Workspace::find()?;
    match *command {
        "setup" => {
            setup::machine()?;
            setup::judges(&workspace)
        }
        "test" => {
            setup::machine()?;
            setup::judges(&workspace)?;
            ci::test(&workspace, rest)
        }
        "demo" => {
            setup::machine()?;
            workspace.build_programs(Profile::Dev)?;
            workspace.run_program(Profile::Dev, "demo", &[])
        }
        "bench" => {
            setup::machine()?;
            // It alone has keys made by one of them.
            if rest.first() == Some(&"openpgp") && !asks_for_help(rest) {
                setup::judges(&workspace)?;
            }
            workspace.build_programs(Profile::Release)?;
            workspace.run_program(Profile::Release, "bench", rest)
        }
        "fuzz" => {
            setup::machine()?;
            fuzz::run(&workspace, rest)
        }
        "swarm" => {
            setup::machine()?;
            swarm::run(&workspace, rest)
        }
        "tidy" => {
            setup::machine()?;
            workspace.build_programs(Profile::Dev)?;
            tidy::run(&workspace)
        }
        "ci" => ci::ci(&workspace),
        other => bail!("no command is called `{other}`\n{USAGE}"),
    }
}

/// Whether only help is wanted.
fn asks_for_help(words: &[&str]) -> bool {
    words.iter().any(|word| matches!(*word, "--help" | "-h"))
}

/// The commands that are complete as they are.
const TAKE_NO_OPTIONS: [&str; 4] = ["setup", "demo", "tidy", "ci"];

const USAGE: &str = "\
cargo xtask COMMAND

  demo   a CSR, a revocation and an OpenPGP key travel a simulated cable and come back signed
  test   every test, two files of them as root only; what follows goes to the runner (a part of a
         name, --no-fail-fast, ...)
  bench  what it costs, beside openssl in the same run (bench --help: its options)
  fuzz   libFuzzer on everything that reads what others wrote (fuzz --help: its options)
  swarm  both whole programs on virtual time, from one number (swarm --help: its options)
  tidy   the source and its documents judged by themselves
  ci     all that is checked before a change is taken: fmt, clippy, doc, deny, tidy, demo, swarm,
         test
  setup  install what the machine needs (every other command does this first)

Needed: Debian 12, Rust 1.95 or newer, gcc, the network; tests/README.md says more.";
