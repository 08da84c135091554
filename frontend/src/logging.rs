//! Where log events go: standard error in words or JSON, or the journal where it runs.
//!
//! Decides nothing else; no event carries a secret.

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
};

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{cli::LogFormat, error::Failure};

/// Starts logging at `level` unless `FRONTEND_LOG` says otherwise.
pub fn start(format: Option<LogFormat>, level: &str) -> Result<(), Failure> {
    let filter = match env::var("FRONTEND_LOG") {
        Ok(wish) => EnvFilter::try_new(&wish).map_err(|error| {
            Failure::Usage(format!("FRONTEND_LOG is `{wish}`: {error}; use error, warn, info"))
        })?,
        Err(_) => EnvFilter::new(level),
    };
    let output = match format {
        Some(LogFormat::Json) => {
            tracing_subscriber::fmt::layer().json().with_writer(io::stderr).boxed()
        }
        None if runs_under_journald() => match tracing_journald::layer() {
            Ok(journal) => journal.boxed(),
            Err(_) => text(),
        },
        Some(LogFormat::Text) | None => text(),
    };
    // Somebody who embeds this crate may have started logging already.
    let _ = tracing_subscriber::registry().with(output.with_filter(filter)).try_init();
    Ok(())
}

fn text<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let colours = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours);
    layer.with_writer(io::stderr).boxed()
}

/// systemd sets JOURNAL_STREAM for what it connects to the journal (systemd.exec(5)).
fn runs_under_journald() -> bool {
    env::var_os("JOURNAL_STREAM").is_some()
        && !io::stderr().is_terminal()
        && Path::new("/run/systemd/journal/socket").exists()
}
