//! The program `frontend`: reads the command line, does one thing, says how it went.

use std::process::ExitCode;

use frontend::{
    cli::{self, Cli},
    commands,
};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => cli::report(&cli, &failure),
    }
}
