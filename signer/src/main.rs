//! `signer`: the isolated signer's program; [`signer`] is what it does.

use std::process::ExitCode;

use signer::console::{Arguments, run};

fn main() -> ExitCode {
    match Arguments::read() {
        Ok(arguments) => run(arguments),
        Err(exit_code) => exit_code,
    }
}
