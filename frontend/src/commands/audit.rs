//! `audit`: the copy of the signer's audit log. Entries are shown, checked and written out; none is
//! ever changed.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::show;
use crate::{
    audit::{
        AUDIT, AUDIT_CHAIN, AUDIT_COPY,
        copy::{Book, CopyError, LogCopy, Memory},
    },
    cli::{AuditCommand, AuditExport, Cli},
    clock::{self, Utc},
    error::{Failure, sentence},
    home::Home,
    store::{Alarms, Notes, Store},
};

/// `frontend audit`
pub(super) fn audit(cli: &Cli, home: &Home, command: &AuditCommand) -> Result<(), Failure> {
    let store = home.store()?;
    if let AuditCommand::Accept = command {
        return accept(cli, &store);
    }
    let memory: Option<Memory> = Notes(store.connection()).read(AUDIT)?;
    let Some(memory) = memory.filter(|memory| !memory.books.is_empty()) else {
        let text = "nothing of the signer's audit log has come yet; `frontend run` fetches it";
        return Err(Failure::Waiting(text.to_owned()));
    };
    match command {
        AuditCommand::Status => status(cli, home, &store, &memory),
        AuditCommand::Verify => verify(cli, home, &memory),
        AuditCommand::Export(wish) => export(cli, home, &memory, wish),
        AuditCommand::Accept => unreachable!("done above"),
    }
}

/// `frontend audit status`
fn status(cli: &Cli, home: &Home, store: &Store, memory: &Memory) -> Result<(), Failure> {
    let copy = LogCopy::new(home);
    let book = memory.book();
    let mut lines = vec![format!("entries    {}", book.last), format!("head       {}", book.head)];
    if let Some(heard) = &memory.heard {
        let age_s = clock::unix_us().saturating_sub(heard.at_us) / 1_000_000;
        let behind = heard.last.saturating_sub(book.last);
        lines.push(format!(
            "signer     {} entries, heard {age_s} s ago, {behind} not here yet",
            heard.last
        ));
    }
    for (index, book) in memory.books.iter().enumerate() {
        lines.push(format!("book {:<5} {}", index + 1, told(book)));
    }
    let alarms = alarms(store)?;
    lines.extend(alarms.iter().map(|text| format!("ALARM      {text}")));
    let value = json!({
        "last": book.last,
        "head": book.head.to_string(),
        "signer": memory.heard.as_ref().map(|heard| json!({
            "last": heard.last,
            "head": heard.head.to_string(),
            "heard_at": Utc(heard.at_us).to_string(),
        })),
        "books": books(&copy, memory),
        "alarms": alarms,
    });
    show(cli, &lines.join("\n"), &value)
}

/// `frontend audit verify`
fn verify(cli: &Cli, home: &Home, memory: &Memory) -> Result<(), Failure> {
    let copy = LogCopy::new(home);
    let mut broken = Vec::new();
    for (index, book) in memory.books.iter().enumerate() {
        match copy.read(index + 1, book, (0, u64::MAX), |_| Ok(())) {
            Ok(_) => {}
            Err(error) => broken.push(format!("book {}: {}", index + 1, sentence(&error))),
        }
    }
    let (last, head) = (memory.book().last, memory.book().head);
    let text = match broken.as_slice() {
        [] => format!("the chain is whole up to entry {last}\nhead {head}"),
        broken => broken.join("\n"),
    };
    let value = json!({
        "ok": broken.is_empty(),
        "last": last,
        "head": head.to_string(),
        "books": books(&copy, memory),
        "broken": broken,
    });
    show(cli, &text, &value)?;
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::Away(
            "the copy of the audit log is damaged; do as hsm-docs/audit.md says".to_owned(),
        )),
    }
}

/// `frontend audit export`
fn export(cli: &Cli, home: &Home, memory: &Memory, wish: &AuditExport) -> Result<(), Failure> {
    let copy = LogCopy::new(home);
    let number = wish.book.unwrap_or(memory.books.len());
    let chosen = number.checked_sub(1).and_then(|index| memory.books.get(index));
    let Some(chosen) = chosen else {
        let count = memory.books.len();
        return Err(Failure::Usage(format!("there is no book {number}; there are {count}")));
    };
    let (mut output, name): (Box<dyn Write>, _) = match &wish.out {
        Some(path) => (Box::new(create(path)?), Some(path.display().to_string())),
        None if cli.json => (Box::new(io::sink()), None),
        None => (Box::new(io::stdout().lock()), None),
    };
    let mut entries = 0_u64;
    let mut write = |line: &[u8]| {
        entries += 1;
        output.write_all(line).map_err(|source| CopyError::Io {
            what: "write",
            path: wish.out.clone().unwrap_or_else(|| "standard output".into()),
            source,
        })
    };
    // A later book begins where it left the line of an earlier one.
    for (index, (from, to)) in line_of(memory, number) {
        let book = &memory.books[index];
        match copy.read(index + 1, book, (from.max(wish.from), to), &mut write) {
            Err(CopyError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(()); // who closed the pipe has seen enough
            }
            read => read.map_err(|error| Failure::Away(sentence(&error)))?,
        };
    }
    let flushed = output.flush();
    flushed.map_err(|error| Failure::Away(format!("cannot write the entries: {error}")))?;
    let (last, head) = (chosen.last, chosen.head.to_string());
    match (cli.json, &name) {
        (false, None) => Ok(()),
        _ => {
            let text = format!("{entries} entries up to {last} written\nhead {head}");
            let value = json!({
                "entries": entries, "book": number, "last": last, "head": head, "file": name,
            });
            show(cli, &text, &value)
        }
    }
}

/// `frontend audit accept`
fn accept(cli: &Cli, store: &Store) -> Result<(), Failure> {
    let alarms = Alarms(store.connection());
    let text = alarms.text(AUDIT)?;
    alarms.clear(AUDIT)?;
    let told = match &text {
        None => "nothing to accept: no alarm about the audit log stands".to_owned(),
        Some(text) => format!("taken down: {text}\nboth logs stay as they are"),
    };
    show(cli, &told, &json!({ "accepted": text }))
}

/// Which entries of which books make the whole log that book `number` ends: by index, oldest first.
fn line_of(memory: &Memory, number: usize) -> Vec<(usize, (u64, u64))> {
    let (mut parts, mut to) = (Vec::new(), u64::MAX);
    for (index, book) in memory.books.iter().enumerate().take(number).rev() {
        if book.base < to {
            parts.push((index, (book.base + 1, to)));
            to = book.base;
        }
        if to == 0 {
            break;
        }
    }
    parts.reverse();
    parts
}

fn books(copy: &LogCopy, memory: &Memory) -> Vec<Value> {
    let value = |(index, book): (usize, &Book)| {
        json!({
            "book": index + 1,
            "after": book.base,
            "last": book.last,
            "head": book.head.to_string(),
            "since": Utc(book.since_us).to_string(),
            "why": book.why,
            "directory": copy.book_dir(index + 1).display().to_string(),
        })
    };
    memory.books.iter().enumerate().map(value).collect()
}

fn told(book: &Book) -> String {
    let entries = match book.last - book.base {
        0 => "no entries".to_owned(),
        _ => format!("entries {} to {}", book.base + 1, book.last),
    };
    match &book.why {
        None => format!("{entries}, since {}", Utc(book.since_us)),
        Some(why) => format!("{entries}, since {}: {why}", Utc(book.since_us)),
    }
}

fn alarms(store: &Store) -> Result<Vec<String>, Failure> {
    let alarms = Alarms(store.connection());
    let mut texts = Vec::new();
    for scope in [AUDIT, AUDIT_CHAIN, AUDIT_COPY] {
        texts.extend(alarms.text(scope)?);
    }
    Ok(texts)
}

fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    File::create(path).map(BufWriter::new).map_err(|error| {
        let text = sentence(&error);
        Failure::Usage(format!("cannot write `{}`: {text}; name another file", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{End, ORIGIN};

    #[test]
    fn a_whole_log_is_made_of_the_books_that_it_runs_through() {
        let book = |base, last| {
            let mut book = Memory::new(0).books.remove(0);
            (book.base, book.last, book.head) = (base, last, ORIGIN);
            book
        };
        assert_eq!(book(0, 0).end(), End::ORIGIN);
        let books = vec![book(0, 600), book(500, 700), book(650, 650), book(100, 120)];
        let memory = Memory { books, heard: None };
        assert_eq!(line_of(&memory, 1), [(0, (1, u64::MAX))]);
        assert_eq!(line_of(&memory, 2), [(0, (1, 500)), (1, (501, u64::MAX))]);
        assert_eq!(line_of(&memory, 3), [(0, (1, 500)), (1, (501, 650)), (2, (651, u64::MAX))]);
        // The last one parted before the second and third began.
        assert_eq!(line_of(&memory, 4), [(0, (1, 100)), (3, (101, u64::MAX))]);
    }
}
