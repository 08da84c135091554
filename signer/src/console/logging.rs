//! Where log events go: journald where it is, else standard error, readable or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::LogForm;

/// Starts logging for this process. `SIGNER_LOG` sets the level, `info` without it.
pub(super) fn start(form: LogForm) {
    let filter = EnvFilter::try_from_env("SIGNER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    if under_systemd && let Ok(journal) = tracing_journald::layer() {
        return started(registry.with(journal).try_init());
    }
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    started(match form {
        LogForm::Text => registry.with(layer).try_init(),
        LogForm::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    });
}

fn started(result: Result<(), tracing_subscriber::util::TryInitError>) {
    // Only a second start in one process fails, and then the first goes on.
    drop(result);
}
