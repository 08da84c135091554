//! Reads a list of certificates to revoke, one a line, and finds out where each stands.
//!
//! A line is `[AUTHORITY] SERIAL [REASON]`, with a certificate's file in the place of the serial
//! where one is at hand; `#` begins a comment. Nothing here queues anything or opens a file: who
//! knows certificates is asked.

use std::{
    collections::{HashMap, hash_map},
    path::{Path, PathBuf},
};

use protocol::message::{Name, RequestId, RevocationReason, Serial};

use crate::{
    error::Failure,
    inventory::Inventory,
    queue::{Queue, State},
    refusal::Refusal,
    store::StoreError,
};

/// One certificate to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The line that names it, from 1; the first, where several do.
    pub line: usize,
    /// Who issued it.
    pub authority: Name,
    /// Its serial number.
    pub serial: Serial,
    /// Why it is revoked.
    pub reason: RevocationReason,
}

/// Where a certificate stands before anything is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody asked for its revocation, or the signer refused it.
    Fresh,
    /// Its revocation was asked for and has no outcome yet.
    Pending(RequestId),
    /// It is revoked; whether a CRL made from now on must list it, as far as is known here.
    Revoked {
        /// False once it may have left the CRL: its end is past, or is not known here.
        listed: bool,
    },
}

/// What a line that names only half of it means.
pub struct Defaults<'d> {
    /// The authority, if one was given for all.
    pub authority: Option<&'d Name>,
    /// The reason.
    pub reason: RevocationReason,
}

/// What is asked about a line: whether the authority may be named, and whose a certificate is.
pub trait Registry {
    /// Fails if the authority is not one of the signer's.
    fn check(&self, authority: &Name) -> Result<(), Failure>;

    /// The issuer and the serial of the certificate in a file; the issuer must be `authority`
    /// where one is given.
    fn certificate(&self, path: &Path, authority: Option<&Name>)
    -> Result<(Name, Serial), Failure>;
}

/// Every certificate in `text`, each once, in the order of the lines. The first bad line is told
/// with its number; `from` says where the list came from.
pub fn read(
    text: &str,
    from: &str,
    defaults: &Defaults<'_>,
    registry: &impl Registry,
) -> Result<Vec<Item>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut items, mut seen) = (Vec::<Item>::new(), HashMap::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let told = |failure| in_line(number, from, failure);
        let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let item = item(number, &words, defaults, registry).map_err(told)?;
        match seen.entry((item.authority.clone(), item.serial.clone())) {
            hash_map::Entry::Vacant(place) => {
                place.insert(items.len());
                items.push(item);
            }
            hash_map::Entry::Occupied(place) => {
                let first = &items[*place.get()];
                if first.reason != item.reason {
                    return Err(told(Failure::Usage(format!(
                        "the same certificate as in line {}, for another reason; keep one of them",
                        first.line
                    ))));
                }
            }
        }
    }
    Ok(items)
}

/// Where `item` stands. What another process commits later can change it, so the caller holds the
/// write lock.
pub fn standing(
    item: &Item,
    queue: &Queue<'_>,
    inventory: &Inventory<'_>,
    now_s: i64,
) -> Result<Standing, StoreError> {
    let stored = inventory.find(item.authority.as_str(), &item.serial)?;
    if let Some(stored) = stored.filter(|stored| stored.revoked_at.is_some()) {
        return Ok(Standing::Revoked { listed: stored.not_after > now_s });
    }
    Ok(match queue.revocation(&item.authority, &item.serial)? {
        None => Standing::Fresh,
        Some((_, State::Done)) => Standing::Revoked { listed: false },
        Some((_, State::Refused | State::Quarantined)) => Standing::Fresh,
        Some((id, State::Queued | State::Sent | State::Held)) => Standing::Pending(id),
    })
}

fn item(
    number: usize,
    words: &[&str],
    defaults: &Defaults<'_>,
    registry: &impl Registry,
) -> Result<Item, Failure> {
    let form = || {
        let text = format!("`{}` is not [AUTHORITY] SERIAL-or-FILE [REASON]", words.join(" "));
        Failure::Usage(format!("{text}; a file whose name holds spaces must be renamed"))
    };
    let (words, reason) = match words.split_last() {
        Some((last, before)) if !before.is_empty() => match RevocationReason::from_name(last) {
            Some(reason) => (before, reason),
            None => (words, defaults.reason),
        },
        _ => (words, defaults.reason),
    };
    let (authority, certificate) = match words {
        [certificate] => (None, *certificate),
        [authority, certificate] => {
            (Some(authority.parse::<Name>().map_err(|_| form())?), *certificate)
        }
        _ => return Err(form()),
    };
    let authority = authority.as_ref().or(defaults.authority);
    if let Some(authority) = authority {
        registry.check(authority)?;
    }
    let (authority, serial) = match certificate.parse::<Serial>() {
        Ok(serial) => {
            let authority = authority.ok_or_else(|| {
                let text = "no authority is named; write AUTHORITY SERIAL, or give --authority";
                Failure::Usage(text.to_owned())
            })?;
            (authority.clone(), serial)
        }
        Err(_) => registry.certificate(&PathBuf::from(certificate), authority)?,
    };
    Ok(Item { line: number, authority, serial, reason })
}

/// `failure` with the place where it lies.
fn in_line(number: usize, from: &str, failure: Failure) -> Failure {
    let told = |text: String| format!("line {number} of {from}: {text}; nothing was queued");
    match failure {
        Failure::Refused(Refusal { code, text }) => Refusal { code, text: told(text) }.into(),
        Failure::RefusedBySigner(text) => Failure::RefusedBySigner(told(text)),
        Failure::BadFile(text) => Failure::BadFile(told(text)),
        Failure::Away(text) => Failure::Away(told(text)),
        Failure::Usage(text) => Failure::Usage(told(text)),
        Failure::Waiting(text) => Failure::Waiting(told(text)),
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::{RefusalCode, Request, Revoke};

    use super::*;
    use crate::{queue::Outcome, store::Store};

    /// Knows `issuing` and `other`, and that `c.pem` is serial 77 of `other`.
    struct Known;

    impl Registry for Known {
        fn check(&self, authority: &Name) -> Result<(), Failure> {
            match authority.as_str() {
                "issuing" | "other" => Ok(()),
                _ => Err(Refusal::new(RefusalCode::AuthorityUnknown, "no such authority").into()),
            }
        }

        fn certificate(
            &self,
            path: &Path,
            authority: Option<&Name>,
        ) -> Result<(Name, Serial), Failure> {
            let other: Name = "other".parse().unwrap();
            if path != Path::new("c.pem") || authority.is_some_and(|name| *name != other) {
                return Err(Failure::Usage(format!("cannot read `{}`", path.display())));
            }
            Ok((other, "77".parse().unwrap()))
        }
    }

    fn list(text: &str, authority: Option<&str>) -> Result<Vec<String>, Failure> {
        let authority = authority.map(|name| name.parse().unwrap());
        let reason = RevocationReason::Superseded;
        let defaults = Defaults { authority: authority.as_ref(), reason };
        let items = read(text, "`l`", &defaults, &Known)?;
        let told = |item: &Item| {
            let Item { line, authority, serial, reason } = item;
            format!("{line} {authority} {serial} {}", reason.name())
        };
        Ok(items.iter().map(told).collect())
    }

    #[test]
    fn every_form_of_a_line_is_understood() {
        let text = "# the first of May\n0A:0b\n\nother 0x0C # by hand\r\n\
                    issuing 0D keyCompromise\n0E privilegeWithdrawn\nc.pem\nother c.pem superseded\n";
        let expected = [
            "2 issuing 0A0B superseded",
            "4 other 0C superseded",
            "5 issuing 0D keyCompromise",
            "6 issuing 0E privilegeWithdrawn",
        ];
        let text_without_files = text.split("c.pem").next().unwrap();
        assert_eq!(list(text_without_files, Some("issuing")).unwrap(), expected);
        assert_eq!(
            list("c.pem\nother c.pem superseded\n", None).unwrap(),
            ["1 other 77 superseded"]
        );
        assert_eq!(list("# nothing\n", None).unwrap(), [""; 0]);
    }

    #[test]
    fn a_bad_line_is_told_in_one_sentence_with_its_number() {
        for (text, told) in [
            ("issuing 01\n02\n", "line 2 of `l`: no authority is named"),
            ("nobody 01\n", "line 1 of `l`: no such authority"),
            ("A_B 01\n", "line 1 of `l`: `A_B 01` is not [AUTHORITY]"),
            ("issuing 01 because\n", "line 1 of `l`: `issuing 01 because` is not"),
            ("issuing a b c\n", "line 1 of `l`: `issuing a b c` is not"),
            ("\n\nissuing d.pem\n", "line 3 of `l`: cannot read `d.pem`"),
            ("issuing c.pem\n", "line 1 of `l`: cannot read `c.pem`"),
            ("issuing 00\n", "line 1 of `l`: cannot read `00`"),
            (
                "issuing 1\nissuing 01 keyCompromise\n",
                "line 2 of `l`: the same certificate as in line 1",
            ),
        ] {
            let failure = list(text, None).unwrap_err().to_string();
            assert!(failure.contains(told), "{text}: {failure}");
            assert!(failure.ends_with("; nothing was queued") && !failure.contains('\n'));
        }
        assert_eq!(list("nobody 01\n", None).unwrap_err().exit_code(), 2);
        assert_eq!(list("01\n", None).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn what_waits_or_is_revoked_is_known_and_what_was_refused_may_be_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        let (queue, inventory) = (Queue(store.connection()), Inventory(store.connection()));
        let item = |serial: &str| Item {
            line: 1,
            authority: "issuing".parse().unwrap(),
            serial: serial.parse().unwrap(),
            reason: RevocationReason::Superseded,
        };
        let ask = |number: u8, serial: &str| {
            let Item { authority, serial, reason, .. } = item(serial);
            let id = RequestId::from_bytes([number; 16]);
            let revoke = Request::Revoke(Revoke { id, authority, serial, reason });
            queue.insert(&revoke, 5).unwrap()
        };
        let stands = |serial: &str| standing(&item(serial), &queue, &inventory, 10).unwrap();

        assert_eq!(stands("01"), Standing::Fresh);
        let id = ask(1, "01");
        assert_eq!(stands("01"), Standing::Pending(id));
        queue.mark_sent(&[id], 6).unwrap();
        assert_eq!(stands("01"), Standing::Pending(id));
        queue.finish(id, &Outcome::Done(None), 7).unwrap();
        assert_eq!(stands("01"), Standing::Revoked { listed: false });
        assert_eq!(stands("02"), Standing::Fresh, "another serial");

        let refused = ask(2, "02");
        queue.finish(refused, &Outcome::Refused { code: "serial-unknown", text: "" }, 7).unwrap();
        assert_eq!(stands("02"), Standing::Fresh);
        let again = ask(3, "02");
        assert_eq!(stands("02"), Standing::Pending(again));
        // A refusal of the second question does not hide that the first one was answered.
        let late = ask(4, "01");
        queue.finish(late, &Outcome::Refused { code: "serial-unknown", text: "" }, 7).unwrap();
        assert_eq!(stands("01"), Standing::Revoked { listed: false });
    }
}
