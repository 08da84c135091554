//! Take-overs that are interrupted at every point, and trees that change meanwhile.

use std::{collections::BTreeMap, fs};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    pkey::Private,
    x509::X509,
    x509::{X509Builder, X509Name, X509NameBuilder},
};

use super::*;
use crate::{audit::Event, durable::crash, vault};

const NOW: UnixTime = UnixTime(1_800_000_000);

struct Old {
    scratch: tempfile::TempDir,
}

fn name(common_name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", common_name).unwrap();
    builder.build()
}

fn certificate(
    key: &openssl::pkey::PKey<Private>,
    serial: u32,
    subject: &str,
    issuer: &str,
) -> X509 {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_issuer_name(&name(issuer)).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_str_x509("20300101000000Z").unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

impl Old {
    /// Two roots with three certificates each; the second of each is revoked.
    fn grow() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for (label, subject) in [("CA", "First"), ("root2", "Second")] {
            let directory = scratch.path().join("ssl").join(label);
            fs::create_dir_all(directory.join("newcerts")).unwrap();
            let group = EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
            let key = EcKey::generate(&group).unwrap();
            let key = openssl::pkey::PKey::from_ec_key(key).unwrap();
            let own = certificate(&key, 77, subject, subject);
            fs::write(directory.join("cacert.crt"), own.to_pem().unwrap()).unwrap();
            let pem = key.private_key_to_pem_pkcs8().unwrap();
            fs::write(directory.join("cacert.pem"), pem).unwrap();
            let mut index = String::new();
            for serial in 1..=3 {
                let leaf = certificate(&key, serial, &format!("leaf {serial}"), subject);
                let path = directory.join(format!("newcerts/0{serial}.pem"));
                fs::write(path, leaf.to_pem().unwrap()).unwrap();
                let status = if serial == 2 {
                    "R\t300101000000Z\t260101000000Z"
                } else {
                    "V\t300101000000Z\t"
                };
                index.push_str(&format!("{status}\t0{serial}\tunknown\t/CN=leaf {serial}\n"));
            }
            fs::write(directory.join("index.txt"), index).unwrap();
            fs::write(directory.join("serial"), "04\n").unwrap();
        }
        let store = scratch.path().join("store");
        for part in ["", "audit", "authorities"] {
            fs::create_dir(store.join(part)).unwrap();
        }
        let mut ledger = Ledger::create(&Ledger::path(&store)).unwrap();
        let mut tx = ledger.begin(NOW).unwrap();
        tx.audit(&Event::StoreCreated).unwrap();
        tx.commit().unwrap();
        Self { scratch }
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&Ledger::path(&self.store())).unwrap()
    }

    fn wishes(&self) -> Wishes {
        Wishes { ssl: self.scratch.path().join("ssl"), ..Wishes::default() }
    }

    fn plan(&self, ledger: &Ledger) -> Result<Plan, Fault> {
        Plan::make(&self.wishes(), &self.store(), ledger, None, NOW, 2)
    }

    /// What the command does, whatever was done before.
    fn adopt(&self) -> Result<Vec<Done>, Fault> {
        let (store, mut ledger) = (self.store(), self.ledger());
        let names = match finished(&self.wishes(), &store, &ledger)? {
            Some(names) => names,
            None => {
                let plan = self.plan(&ledger)?;
                assert_eq!(plan.problems.refusals(), 0, "{:?}", plan.problems);
                let mut random: vault::Random = Box::new(|octets| {
                    octets.fill(7);
                    Ok(())
                });
                take(&plan, &store, &mut ledger, None, &mut random, NOW)?;
                plan.authorities.into_iter().map(|planned| planned.name).collect()
            }
        };
        finish(&names, &store, &mut ledger, None, NOW)
    }

    /// Every file of the old tree.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.scratch.path().join("ssl")];
        while let Some(folder) = folders.pop() {
            for path in tree::entries(&folder).unwrap() {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// What stands in the store's directory of authorities, without what begins with a dot.
    fn visible(&self) -> Vec<String> {
        let entries = tree::entries(&self.store().join("authorities")).unwrap();
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        names.filter(|name| !name.starts_with('.')).map(str::to_owned).collect()
    }
}

#[test]
fn interrupted_adoption_is_simply_run_again_and_shows_all_authorities_or_none() {
    let old = Old::grow();
    let before = old.files();
    let mut seen = std::collections::BTreeSet::new();
    let mut points = 0;
    let done = loop {
        crash::after(Some(points));
        let attempt = old.adopt();
        crash::after(None);
        assert_eq!(old.files(), before, "the old tree was changed at point {points}");
        let ledger = old.ledger();
        let known = ledger.authorities().unwrap().len();
        assert!(known == 0 || known == 2, "{known} authorities at point {points}");
        seen.insert(known);
        match attempt {
            Ok(done) => break done,
            Err(_) => points += 1,
        }
        assert!(points < 1_000, "it never ends");
    };
    assert!(points > 20 && seen.len() == 2, "only {points} points, {seen:?}");
    let crls: Vec<_> = done.iter().map(|done| (done.name.as_str(), done.crl.1)).collect();
    assert_eq!(crls, [("class1", 1), ("root2", 1)]);
    assert_eq!(old.visible(), ["class1", "root2"]);
    let loaded = vault::load_all(&old.store(), None).unwrap();
    let report = vault::check(&old.store(), &loaded, &mut |_| ()).unwrap();
    assert_eq!((report.certificates, report.findings), (6, Vec::new()));
}

#[test]
fn tree_that_changes_between_plan_and_deed_is_not_taken_over() {
    for file in ["CA/index.txt", "CA/newcerts/03.pem"] {
        let old = Old::grow();
        let mut ledger = old.ledger();
        let plan = old.plan(&ledger).unwrap();
        let path = old.wishes().ssl.join(file);
        let content = fs::read(&path).unwrap();
        fs::write(&path, [&content[..], &content[..]].concat()).unwrap();
        let mut random: vault::Random = Box::new(|_| Ok(()));
        let fault = take(&plan, &old.store(), &mut ledger, None, &mut random, NOW).unwrap_err();
        assert!(fault.to_string().contains("changed while"), "{fault}");
        assert!(ledger.authorities().unwrap().is_empty(), "{file}");
        let left = tree::entries(&old.store().join("authorities")).unwrap();
        assert!(left.is_empty(), "a copy of the key was left: {left:?}");
    }
}

#[test]
fn plan_with_a_refusal_is_never_done() {
    let old = Old::grow();
    fs::write(old.wishes().ssl.join("CA/serial"), "").unwrap();
    let mut ledger = old.ledger();
    let plan = old.plan(&ledger).unwrap();
    assert_eq!(plan.problems.refusals(), 1);
    let mut random: vault::Random = Box::new(|_| Ok(()));
    assert!(take(&plan, &old.store(), &mut ledger, None, &mut random, NOW).is_err());
    assert!(ledger.authorities().unwrap().is_empty());
}

#[test]
fn crl_lives_as_long_as_the_old_ones_did() {
    let with = |seconds: i64| Survey {
        newest_crl: Some(NewestCrl {
            path: PathBuf::new(),
            number: None,
            this_update: NOW,
            next_update: Some(UnixTime(NOW.0 + seconds)),
            entries: 0,
        }),
        ..Survey::default()
    };
    assert_eq!(crl_days(&with(7 * DAY_S)), 7);
    assert_eq!(crl_days(&with(DAY_S + 1)), 2);
    assert_eq!(crl_days(&with(30 * DAY_S)), 30);
    // What no CRL may have here, or was never promised: CAcert's own week.
    for odd in [400 * DAY_S, 0, -DAY_S] {
        assert_eq!(crl_days(&with(odd)), CRL_DAYS_DEFAULT);
    }
    assert_eq!(crl_days(&Survey::default()), CRL_DAYS_DEFAULT);
}
