//! `signer`: the isolated signer's program; [`signer`] is what it does.

use std::process::ExitCode;

use clap::Parser as _;
use signer::console::{Arguments, run};

fn main() -> ExitCode {
    run(Arguments::parse())
}
