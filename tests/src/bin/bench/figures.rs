//! Figures by name: a table for people, one JSON object for programs.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use crate::report::{Target, number};

/// The figures so far, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

struct Figure {
    key: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
}

impl Figures {
    /// A figure for comparison.
    pub(crate) fn add(&mut self, key: &'static str, value: f64, unit: &'static str, what: &str) {
        self.push(key, value, unit, what, None);
    }

    /// A figure with a promise.
    pub(crate) fn promised(
        &mut self,
        key: &'static str,
        value: f64,
        unit: &'static str,
        what: &str,
        target: Target,
    ) {
        self.push(key, value, unit, what, Some(target));
    }

    fn push(
        &mut self,
        key: &'static str,
        value: f64,
        unit: &'static str,
        what: &str,
        target: Option<Target>,
    ) {
        let what = what.to_owned();
        eprintln!("bench: {key} = {} {unit}", number(value));
        self.0.push(Figure { key, what, value, unit, target });
    }

    /// Prints them, and fails when a promise was not kept.
    pub(crate) fn show(&self, as_json: bool) -> Result<()> {
        if as_json {
            self.print_json();
        } else {
            self.print_table();
        }
        self.judge()
    }

    fn print_table(&self) {
        let width = self.0.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        println!("{:<width$}  {:>10} {:<6}  promised", "", "measured", "");
        println!("{}", "─".repeat(width + 50));
        for row in &self.0 {
            let promise = row.target.map(|target| {
                let kept = if target.is_kept(row.value) { "kept" } else { "NOT KEPT" };
                format!("{target} {}: {kept}", row.unit)
            });
            let promise = promise.unwrap_or_default();
            println!("{:<width$}  {:>10} {:<6}  {promise}", row.what, number(row.value), row.unit);
        }
    }

    fn print_json(&self) {
        let mut object = Map::new();
        for row in &self.0 {
            object.insert(row.key.to_owned(), json!(row.value));
        }
        println!("{}", Value::Object(object));
    }

    fn judge(&self) -> Result<()> {
        let broken = |row: &&Figure| row.target.is_some_and(|target| !target.is_kept(row.value));
        let broken: Vec<&str> = self.0.iter().filter(broken).map(|row| row.key).collect();
        if !broken.is_empty() {
            bail!("not kept: {}", broken.join(", "));
        }
        Ok(())
    }
}

/// The one in the middle; of an even number, the lower of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_is_not_kept_fails_the_run() {
        let mut figures = Figures::default();
        figures.promised("ratio", 1.1, "x", "ratio", Target::AtMost(1.1));
        assert!(figures.judge().is_ok());
        figures.promised("rate", 4999.0, "/s", "rate", Target::AtLeast(5000.0));
        assert!(figures.judge().unwrap_err().to_string().contains("rate"));
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
