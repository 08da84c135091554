//! The table: what was measured, what somebody else's tool needs, and what was promised.

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// The rows so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    ours: f64,
    /// The same work by another tool in the same run.
    peer: Option<(&'static str, f64)>,
    target: Option<Target>,
}

/// What was promised.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Report {
    /// A measurement without a peer.
    pub(crate) fn row(&mut self, what: impl Into<String>, ours: f64, unit: &'static str) {
        self.rows.push(Row { what: what.into(), unit, ours, peer: None, target: None });
    }

    /// A measurement beside another tool's.
    pub(crate) fn beside(
        &mut self,
        what: impl Into<String>,
        ours: f64,
        unit: &'static str,
        tool: &'static str,
        theirs: f64,
    ) {
        let peer = Some((tool, theirs));
        self.rows.push(Row { what: what.into(), unit, ours, peer, target: None });
    }

    /// A measurement with a promise.
    pub(crate) fn promised(
        &mut self,
        what: impl Into<String>,
        ours: f64,
        unit: &'static str,
        target: Target,
    ) {
        self.rows.push(Row { what: what.into(), unit, ours, peer: None, target: Some(target) });
    }

    pub(crate) fn print_table(&self) {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        println!("{:<width$}  {:>10} {:<7}  beside, or promised", "", "ours", "");
        println!("{}", "─".repeat(width + 60));
        for row in &self.rows {
            let beside = match (&row.peer, row.target) {
                (Some((tool, theirs)), _) => format!("{} {} {tool}", number(*theirs), row.unit),
                (None, Some(target)) => {
                    let kept = if target.is_kept(row.ours) { "kept" } else { "NOT KEPT" };
                    format!("{target} {}: {kept}", row.unit)
                }
                (None, None) => String::new(),
            };
            println!("{:<width$}  {:>10} {:<7}  {beside}", row.what, number(row.ours), row.unit);
        }
    }

    pub(crate) fn print_json(&self) {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let peer = row.peer.map(|(tool, value)| json!({ "tool": tool, "value": value }));
                let target = row.target.map(|target| target.to_string());
                let kept = row.target.map(|target| target.is_kept(row.ours));
                json!({ "what": row.what, "unit": row.unit, "ours": row.ours, "peer": peer,
                        "target": target, "kept": kept })
            })
            .collect();
        println!("{}", json!({ "rows": rows }));
    }

    /// Fails when a promise was not kept.
    pub(crate) fn judge(&self) -> Result<()> {
        let broken = |row: &&Row| row.target.is_some_and(|target| !target.is_kept(row.ours));
        let broken: Vec<&str> =
            self.rows.iter().filter(broken).map(|row| row.what.as_str()).collect();
        if !broken.is_empty() {
            bail!("not kept: {}", broken.join(", "));
        }
        Ok(())
    }
}

impl Target {
    pub(crate) fn is_kept(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {}", number(*limit)),
            Self::AtMost(limit) => write!(f, "≤ {}", number(*limit)),
        }
    }
}

/// Three significant figures are what such a measurement is worth.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_is_not_kept_fails_the_run() {
        let mut report = Report::default();
        report.promised("fast", 10.0, "/s", Target::AtLeast(10.0));
        report.promised("soon", 0.35, "s", Target::AtMost(0.35));
        assert!(report.judge().is_ok());
        report.promised("slow", 9.9, "/s", Target::AtLeast(10.0));
        assert!(report.judge().is_err());
    }
}
