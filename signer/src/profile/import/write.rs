//! Brings what was read under the rules of today, and writes it down for review.
//!
//! Everything that becomes stricter on the way is reported; nothing becomes wider here.

use std::fmt::Write as _;

use protocol::message::{AttributeType, NAMES_MAX};

use super::{
    LeftOut, Report,
    ca::CaSection,
    extensions::{Extensions, Names},
};
use crate::profile::{
    DAYS_MAX, DEVIATIONS, Deviation, Encoding, Order, Presence, ProfileConfig,
    check::{VALIDITY_RULES, check, purpose_name},
};

/// A profile about to be written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    ca: &'a CaSection,
    extensions: &'a Extensions,
    days_default: u32,
    caps: Vec<(&'static str, u32)>,
    key_usage: Vec<&'static str>,
    key_usage_critical: bool,
    purposes: Vec<&'a str>,
    purposes_critical: bool,
    no_check: bool,
    must_staple: bool,
    constrains_names: bool,
    names: &'static [&'static str],
}

impl<'a> Draft<'a> {
    pub(super) fn new(ca: &'a CaSection, extensions: &'a Extensions, report: &mut Report) -> Self {
        let line = ca.extensions.as_ref().map_or(ca.line, |extensions| extensions.line);
        let purposes: Vec<&str> = extensions.purposes.iter().map(|oid| purpose_name(oid)).collect();
        let serves = |purpose: &str| purposes.contains(&purpose);
        let caps = caps(ca, &purposes, extensions.ca, report);
        let days_default = caps.first().map_or(1, |cap| cap.1);
        let (key_usage, key_usage_critical) = key_usage(extensions, line, report);
        let mut draft = Self {
            ca,
            extensions,
            days_default,
            caps,
            key_usage,
            key_usage_critical,
            purposes_critical: extensions.purposes_critical,
            no_check: extensions.no_check,
            must_staple: extensions.must_staple,
            constrains_names: extensions.name_constraints.is_some(),
            names: types(extensions.names, ca, report),
            purposes: purposes.clone(),
        };
        if draft.purposes_critical && serves("anyExtendedKeyUsage") {
            let why = "beside anyExtendedKeyUsage it is not written critical (RFC 5280 4.2.1.12)";
            report.left(line, "extendedKeyUsage", "critical", why);
            draft.purposes_critical = false;
        }
        if draft.no_check && !serves("OCSPSigning") {
            let why = "it belongs to OCSP responders alone (RFC 6960 4.2.2.2.1)";
            report.left(line, "noCheck", "yes", why);
            draft.no_check = false;
        }
        let staples =
            (serves("serverAuth") || serves("clientAuth")) && !extensions.ocsp_urls.is_empty();
        if draft.must_staple && !staples {
            let why = "it belongs to TLS certificates with an OCSP URL (RFC 7633 4.2.3, 4.3.3)";
            report.left(line, "tlsfeature", "status_request", why);
            draft.must_staple = false;
        }
        if draft.constrains_names && !extensions.ca {
            let why = "it belongs to CA certificates alone (RFC 5280 4.2.1.10)";
            report.left(line, "nameConstraints", "…", why);
            draft.constrains_names = false;
        }
        draft
    }

    /// The profile's text, with the deviations that it needs.
    pub(super) fn toml(&self, left_out: &[LeftOut]) -> String {
        let body = self.body();
        let deviations = needed(&body);
        let mut out = self.heading(left_out);
        if !deviations.is_empty() {
            out.push_str("# Where it is weaker than the rules of today; each one is logged.\n");
            out.push_str("deviations = [\n");
            for Deviation { name, clause, says } in deviations {
                let _ = writeln!(out, "    {}, # {clause}: {says}", quoted(name)); // a String grows
            }
            out.push_str("]\n\n");
        }
        out + &body
    }

    fn heading(&self, left_out: &[LeftOut]) -> String {
        let mut out = format!(
            "# Imported from an openssl configuration: [{}]{}.\n",
            self.ca.name.escape_debug(),
            match &self.ca.extensions {
                Some(extensions) => format!(", extensions [{}]", extensions.section.escape_debug()),
                None => ", without extensions".to_owned(),
            }
        );
        if !left_out.is_empty() {
            out.push_str("# Not carried over, or not as it was:\n");
            for left in left_out {
                let _ = writeln!(out, "#   {left}"); // a String grows
            }
        }
        out + "\n"
    }

    fn body(&self) -> String {
        let mut out = Lines::default();
        if self.extensions.ca {
            out.say("# The link never gets a CA.");
            out.set("console_only", "true");
            out.say("");
        }
        self.validity(&mut out);
        self.keys(&mut out);
        self.subject(&mut out);
        self.names(&mut out);
        self.extensions(&mut out);
        if self.purposes.contains(&"codeSigning") {
            out.section("crl");
            out.say("# Code Signing BR 4.9.7: revoked certificates stay in CRLs for ten years.");
            out.set("keep_days", "3653");
        }
        out.0
    }

    fn validity(&self, out: &mut Lines) {
        out.section("validity");
        out.set("days_default", self.days_default);
        let row =
            |(from, days): &(&str, u32)| format!("{{ from = {}, days = {days} }}", quoted(from));
        match self.caps.as_slice() {
            [one] => out.set("max", format!("[{}]", row(one))),
            rows => {
                let rows: String = rows.iter().map(|cap| format!("    {},\n", row(cap))).collect();
                out.set("max", format!("[\n{rows}]"));
            }
        }
    }

    fn keys(&self, out: &mut Lines) {
        out.section("keys");
        out.say("# `openssl ca` took any key; these are the ones that may be taken today.");
        out.set("rsa_bits_min", 2048);
        out.set("rsa_bits_max", 8192);
        out.list("curves", &["P-256", "P-384", "P-521"]);
    }

    fn subject(&self, out: &mut Lines) {
        let short = |kinds: &[AttributeType]| -> Vec<&str> {
            kinds.iter().map(|kind| kind.short_name()).collect()
        };
        out.section("subject");
        out.list("allowed", &short(&self.ca.allowed));
        if !self.ca.required.is_empty() {
            out.list("required", &short(&self.ca.required));
        }
        out.say("# As `openssl ca` does: other attributes are left out of the subject.");
        out.set("unlisted", quoted("drop"));
        match self.ca.order {
            Order::AsAllowed => out.set("order", quoted("as-allowed")),
            Order::AsAsked | Order::Strict => out.set("order", quoted("as-asked")),
        }
        if self.ca.encoding == Encoding::Printable {
            out.set("encoding", quoted("printable"));
        }
        if !self.ca.fixed.is_empty() {
            out.section("subject.fixed");
            for (kind, value) in &self.ca.fixed {
                out.set(kind.short_name(), quoted(value));
            }
        }
    }

    fn names(&self, out: &mut Lines) {
        out.section("names");
        out.list("types", self.names);
        out.set("max", if self.names.is_empty() { 0 } else { NAMES_MAX });
        if self.names.contains(&"dns") {
            out.set("wildcard", true);
        }
        if matches!(self.extensions.names, Names::SubjectEmails | Names::RequestOrSubjectEmails) {
            out.say("# subjectAltName = email:copy");
            out.set("from_subject", true);
        }
    }

    fn extensions(&self, out: &mut Lines) {
        let extensions = self.extensions;
        out.section("extensions");
        out.set("digest", quoted(self.ca.digest));
        if extensions.ca {
            out.set("ca", true);
        }
        if let Some(length) = extensions.path_length {
            out.set("path_length", length);
        }
        match extensions.basic_constraints {
            // A CA without basicConstraints was not read as a CA.
            Presence::Critical => {}
            Presence::Plain => out.set("basic_constraints", quoted("plain")),
            Presence::Absent => out.set("basic_constraints", quoted("absent")),
        }
        out.list("key_usage", &self.key_usage);
        if !self.key_usage_critical && !self.key_usage.is_empty() {
            out.set("key_usage_critical", false);
        }
        out.list("extended_key_usage", &self.purposes);
        if self.purposes_critical {
            out.set("extended_key_usage_critical", true);
        }
        if self.no_check {
            out.set("ocsp_no_check", true);
        }
        if self.must_staple {
            out.set("must_staple", true);
        }
        for (key, urls) in [
            ("crl_urls", &extensions.crl_urls),
            ("delta_crl_urls", &extensions.delta_crl_urls),
            ("ocsp_urls", &extensions.ocsp_urls),
            ("issuer_urls", &extensions.issuer_urls),
        ] {
            if !urls.is_empty() {
                out.list(key, urls);
            }
        }
        if !extensions.policies.is_empty() {
            let policy = |(oid, cps): &(String, Option<String>)| match cps {
                Some(cps) => format!("    {{ oid = {}, cps = {} }},\n", quoted(oid), quoted(cps)),
                None => format!("    {{ oid = {} }},\n", quoted(oid)),
            };
            let rows: String = extensions.policies.iter().map(policy).collect();
            out.set("policies", format!("[\n{rows}]"));
        }
        if let Some(constraints) =
            extensions.name_constraints.as_ref().filter(|_| self.constrains_names)
        {
            out.section("extensions.name_constraints");
            out.list("permitted", &constraints.permitted);
            out.list("excluded", &constraints.excluded);
        }
    }
}

/// The deviations that a profile without any would need: of all of them named, those that are not
/// superfluous.
fn needed(body: &str) -> Vec<&'static Deviation> {
    // A text that cannot be read is a fault of the caller's own check, which says so.
    let Ok(mut config) = toml::from_str::<ProfileConfig>(body) else { return Vec::new() };
    config.deviations = DEVIATIONS.iter().map(|deviation| deviation.name.to_owned()).collect();
    check(&config).0.deviations
}

/// The longest validity by date of issue: what the file says, under what the rules say today.
fn caps(
    ca: &CaSection,
    purposes: &[&str],
    is_ca: bool,
    report: &mut Report,
) -> Vec<(&'static str, u32)> {
    let unruled = is_ca || purposes.is_empty() || purposes.contains(&"anyExtendedKeyUsage");
    let mut rows: Vec<(&str, u32)> = vec![("2020-01-01", DAYS_MAX)];
    let mut rules = Vec::new();
    for rule in VALIDITY_RULES {
        if !unruled && purposes.contains(&purpose_name(rule.purpose)) {
            rules.push(rule.deviation.clause);
            // A day less than the rule has, which counts both ends.
            let steps: Vec<_> = rule.steps.iter().map(|(from, most)| (*from, most - 1)).collect();
            rows = if steps.len() > 1 { lower(&steps, &rows) } else { lower(&rows, &steps) };
        }
    }
    if let Some(days) = ca.days {
        let most = rows.first().map_or(DAYS_MAX, |row| row.1);
        if rows.iter().any(|row| row.1 < days.days) {
            let steps: Vec<String> =
                rows.iter().map(|(from, most)| format!("{most} from {from}")).collect();
            let rules = if rules.is_empty() { "40 years".into() } else { rules.join(", ") };
            let why = format!("at most {} ({rules})", steps.join(", "));
            report.left(days.line, "default_days", &days.days.to_string(), why);
        }
        let days = days.days.min(most);
        rows.iter_mut().for_each(|row| row.1 = row.1.min(days));
        rows.dedup_by_key(|row| row.1);
    }
    rows
}

/// The dates of `steps`, each with the fewer days of itself and of `others` at that date.
fn lower(
    steps: &[(&'static str, u32)],
    others: &[(&'static str, u32)],
) -> Vec<(&'static str, u32)> {
    let at = |from: &str| {
        // Dates as text sort as dates; before the first, the first holds.
        let begun = others.iter().rev().find(|other| other.0 <= from);
        begun.or(others.first()).map_or(DAYS_MAX, |other| other.1)
    };
    steps.iter().map(|(from, days)| (*from, at(from).min(*days))).collect()
}

fn key_usage(extensions: &Extensions, line: u32, report: &mut Report) -> (Vec<&'static str>, bool) {
    let mut usages = extensions.key_usage.clone();
    if extensions.ca {
        if usages.is_empty() {
            let why = "a CA's certificate needs it: keyCertSign and cRLSign are taken (RFC 5280 \
                       4.2.1.3)";
            report.left(line, "keyUsage", "", why);
            return (vec!["keyCertSign", "cRLSign"], true);
        }
        return (usages, extensions.key_usage_critical);
    }
    for usage in ["keyCertSign", "cRLSign"] {
        if usages.contains(&usage) {
            let why = "it belongs to CA certificates alone (RFC 5280 4.2.1.3)";
            report.left(line, "keyUsage", usage, why);
            usages.retain(|known| *known != usage);
        }
    }
    (usages, extensions.key_usage_critical)
}

fn types(names: Names, ca: &CaSection, report: &mut Report) -> &'static [&'static str] {
    match names {
        Names::None => {
            let why = "names in a request were left out; here a request that has some is refused";
            report.left(ca.line, "copy_extensions", "none", why);
            &[]
        }
        Names::SubjectEmails => &["email"],
        Names::Request | Names::RequestOrSubjectEmails => &["dns", "ip", "email", "uri", "xmpp"],
    }
}

/// The lines of a TOML file.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn say(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, name: &str) {
        if !self.0.is_empty() && !self.0.ends_with("\n\n") {
            self.say("");
        }
        self.say(&format!("[{name}]"));
    }

    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.say(&format!("{key} = {value}"));
    }

    fn list<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value.as_ref())).collect();
        self.set(key, format!("[{}]", values.join(", ")));
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
