//! Refuses early what the signer's last catalogue says it would refuse.
//!
//! A convenience: a hostile or older caller skips it, so the signer decides anyway. Without a
//! catalogue nothing is refused here.

use protocol::message::{
    DEFAULT_POLICY, GeneralName, Name, OpenPgpPolicyEntry, ProfileEntry, RefusalCode,
};

use crate::{
    catalogue::{Authority, OpenPgpAuthority, Trusted},
    refusal::Refusal,
};

/// Whether a certificate could be issued: authority, profile, days and types of names.
pub fn issue(
    trusted: &Trusted,
    authority: &Name,
    profile: &Name,
    days: Option<u32>,
    names: &[GeneralName],
) -> Result<(), Refusal> {
    if days == Some(0) {
        return Err(Refusal::new(RefusalCode::Validity, "0 days are asked for"));
    }
    if trusted.catalogue.is_none() {
        return Ok(());
    }
    let authority = known(trusted, authority)?;
    let entry = authority.profile(profile).ok_or_else(|| {
        let known = listed(authority.profiles.iter().map(|profile| &profile.name));
        let fact =
            format!("authority `{}` has no profile `{profile}`, it has {known}", authority.name);
        Refusal::new(RefusalCode::ProfileUnknown, fact)
    })?;
    if entry.console_only {
        let fact =
            format!("profile `{profile}` of authority `{}` is for the console", authority.name);
        return Err(Refusal::new(RefusalCode::ProfileConsoleOnly, fact));
    }
    check_days(entry, days)?;
    check_names(entry, names)
}

/// Whether a revocation could be recorded.
pub fn revoke(trusted: &Trusted, authority: &Name) -> Result<(), Refusal> {
    if trusted.catalogue.is_none() {
        return Ok(());
    }
    known(trusted, authority).map(|_| ())
}

/// By which policy an OpenPGP key could be certified, so many user IDs of it; nothing where no
/// catalogue has come yet.
pub fn certify<'t>(
    trusted: &'t Trusted,
    authority: &Name,
    policy: Option<&Name>,
    days: Option<u32>,
    user_ids: usize,
) -> Result<Option<&'t OpenPgpPolicyEntry>, Refusal> {
    if days == Some(0) {
        return Err(Refusal::new(RefusalCode::Validity, "0 days are asked for"));
    }
    if trusted.catalogue.is_none() {
        return Ok(None);
    }
    let authority = known_openpgp(trusted, authority)?;
    let Some(entry) = authority.policy(policy) else {
        let asked = policy.map_or(DEFAULT_POLICY, Name::as_str);
        let known = listed(authority.policies.iter().map(|policy| &policy.name));
        let fact = format!(
            "OpenPGP authority `{}` has no policy `{asked}`, it has {known}",
            authority.name
        );
        return Err(Refusal::new(RefusalCode::OpenPgpPolicyUnknown, fact));
    };
    if let Some(days) = days.filter(|days| *days > entry.days_max) {
        let (name, max) = (&entry.name, entry.days_max);
        let fact = format!("{days} days are asked for, policy `{name}` allows at most {max}");
        return Err(Refusal::new(RefusalCode::Validity, fact));
    }
    if user_ids > usize::from(entry.user_ids_max) {
        let (name, max) = (&entry.name, entry.user_ids_max);
        let fact = format!("{user_ids} user IDs are asked for, policy `{name}` allows {max}");
        return Err(Refusal::new(RefusalCode::OpenPgpUserIdForm, fact));
    }
    Ok(Some(entry))
}

/// Whether certifications could be taken back.
pub fn revoke_openpgp(trusted: &Trusted, authority: &Name) -> Result<(), Refusal> {
    if trusted.catalogue.is_none() {
        return Ok(());
    }
    known_openpgp(trusted, authority).map(|_| ())
}

fn known_openpgp<'t>(trusted: &'t Trusted, name: &Name) -> Result<&'t OpenPgpAuthority, Refusal> {
    let offered = || trusted.openpgp.values().filter(|authority| authority.offered);
    if offered().next().is_none() {
        let fact = "the signer has no OpenPGP key";
        return Err(Refusal::new(RefusalCode::OpenPgpUnavailable, fact));
    }
    offered().find(|authority| authority.name == *name).ok_or_else(|| {
        let known = listed(offered().map(|authority| &authority.name));
        let fact = format!("the signer has no OpenPGP authority `{name}`, it has {known}");
        Refusal::new(RefusalCode::OpenPgpAuthorityUnknown, fact)
    })
}

fn known<'t>(trusted: &'t Trusted, name: &Name) -> Result<&'t Authority, Refusal> {
    let offered = || trusted.authorities.values().filter(|authority| authority.offered);
    offered().find(|authority| authority.name == *name).ok_or_else(|| {
        let known = listed(offered().map(|authority| &authority.name));
        let fact = format!("the signer has no authority `{name}`, it has {known}");
        Refusal::new(RefusalCode::AuthorityUnknown, fact)
    })
}

fn check_days(profile: &ProfileEntry, days: Option<u32>) -> Result<(), Refusal> {
    match days {
        Some(days) if days > profile.days_max => {
            let (name, max) = (&profile.name, profile.days_max);
            let fact = format!("{days} days are asked for, profile `{name}` allows at most {max}");
            Err(Refusal::new(RefusalCode::Validity, fact))
        }
        _ => Ok(()),
    }
}

fn check_names(profile: &ProfileEntry, names: &[GeneralName]) -> Result<(), Refusal> {
    let takes = |kind: &str| profile.name_types.iter().any(|name_type| **name_type == *kind);
    match names.iter().find(|name| !takes(name.type_name())) {
        None => Ok(()),
        Some(name) => {
            let kind = name.type_name();
            let fact = format!("`{name}`: profile `{}` takes no {kind} names", profile.name);
            Err(Refusal::new(RefusalCode::NameRule, fact))
        }
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    let names: Vec<&str> = names.map(Name::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::Catalogues, store::Store, test_ca::TestCa};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn trusted() -> Trusted {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        let catalogues = Catalogues(store.connection());
        catalogues.receive(&TestCa::new("CA").catalogue("issuing"), 1).unwrap();
        catalogues.trusted().unwrap()
    }

    #[test]
    fn each_rule_of_the_catalogue_refuses_with_its_own_code() {
        let trusted = trusted();
        let ask = |authority: &str, profile: &str, days, san: &str| {
            issue(&trusted, &name(authority), &name(profile), days, &[san.parse().unwrap()])
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(ask("issuing", "server", Some(90), "dns:a.example"), Ok(()));
        assert_eq!(ask("issuing", "server", None, "ip:::1"), Ok(()));
        let cases = [
            (ask("nobody", "server", None, "dns:a"), RefusalCode::AuthorityUnknown),
            (ask("issuing", "nothing", None, "dns:a"), RefusalCode::ProfileUnknown),
            (ask("issuing", "subca", None, "dns:a"), RefusalCode::ProfileConsoleOnly),
            (ask("issuing", "server", Some(0), "dns:a"), RefusalCode::Validity),
            (ask("issuing", "server", Some(201), "dns:a"), RefusalCode::Validity),
            (ask("issuing", "server", Some(65_535), "dns:a"), RefusalCode::Validity),
            (ask("issuing", "server", None, "email:a@b.example"), RefusalCode::NameRule),
        ];
        for (result, code) in cases {
            assert_eq!(result, Err(code));
        }
        assert_eq!(
            revoke(&trusted, &name("nobody")).unwrap_err().code,
            RefusalCode::AuthorityUnknown
        );
        let refused = certify(&trusted, &name("ca"), None, None, 1).unwrap_err();
        assert_eq!(refused.code, RefusalCode::OpenPgpUnavailable);
    }

    #[test]
    fn without_a_catalogue_the_signer_decides() {
        let nothing = Trusted::default();
        assert_eq!(issue(&nothing, &name("a"), &name("b"), Some(9999), &[]), Ok(()));
        assert_eq!(revoke(&nothing, &name("a")), Ok(()));
        assert_eq!(certify(&nothing, &name("a"), None, Some(5), 1), Ok(None));
        assert_eq!(revoke_openpgp(&nothing, &name("a")), Ok(()));
    }
}
