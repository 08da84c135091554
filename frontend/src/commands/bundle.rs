//! `bundle`: what the cable would carry, as files on a medium.

use protocol::secure::Entropy;
use serde_json::json;

use super::show;
use crate::{
    bundle::{self, Exported, Imported},
    cli::{BundleCommand, Cli},
    clock::Clock,
    error::Failure,
    home::Home,
};

/// `frontend bundle`
pub(super) fn bundle(
    cli: &Cli,
    home: &Home,
    command: &BundleCommand,
    entropy: &Entropy,
) -> Result<(), Failure> {
    let now = Clock::start().now();
    match command {
        BundleCommand::Export { file, after } => {
            let exported = bundle::export(home, file, after.unwrap_or(0), now, entropy)?;
            let name = file.display().to_string();
            let Exported { number, requests, revocations, acknowledged, crls, left, length } =
                exported;
            let mut lines = vec![
                format!("bundle {number}: {requests} requests, {revocations} revocations"),
                format!("  {acknowledged} answers acknowledged, {crls} CRLs asked for"),
            ];
            if left > 0 {
                lines.push(format!("note: {left} requests did not fit; they come with the next"));
            }
            lines.push(format!(
                "written to {name}, {length} bytes; unmount the medium before you pull it out"
            ));
            let value = json!({
                "bundle": number, "requests": requests, "revocations": revocations,
                "acknowledged": acknowledged, "crls": crls, "left": left, "length": length,
                "file": name,
            });
            show(cli, &lines.join("\n"), &value)
        }
        BundleCommand::Import { file } => {
            let imported = bundle::import(home, file, now)?;
            report(cli, &imported)?;
            if imported.doubtful {
                return Err(Failure::Waiting(
                    "some answers were not taken; the notes above say why".to_owned(),
                ));
            }
            Ok(())
        }
    }
}

fn report(cli: &Cli, imported: &Imported) -> Result<(), Failure> {
    let Imported { number, answers, done, refused, quarantined, held, crls, waiting, .. } =
        *imported;
    let mut lines = vec![format!(
        "answers number {number}, for bundle {answers}: {done} done, {refused} refused, \
         {quarantined} quarantined, {crls} CRLs published"
    )];
    if held > 0 {
        lines.push(format!("  {held} wait for a person at the signer"));
    }
    if waiting > 0 {
        lines.push(format!("  {waiting} have no answer yet: they are in the next bundle"));
    }
    lines.extend(imported.notes.iter().map(|note| format!("note: {note}")));
    let value = json!({
        "answers": number, "bundle": answers, "done": done, "refused": refused,
        "quarantined": quarantined, "held": held, "crls": crls, "waiting": waiting,
        "notes": imported.notes,
    });
    show(cli, &lines.join("\n"), &value)
}
