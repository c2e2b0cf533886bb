//! What is printed: a table to read, one JSON object, and a table for the README.

use std::cmp::Ordering;
use std::fmt::Write;

use serde::Serialize;

use crate::machine::version_of;
use crate::statistics::Row;
use crate::subjects::{IN_PROCESS, Kind};

/// What a ratio is, for those who read one.
pub const RATIO: &str = "\
Ratio to the rival with the best median: the median within rounds, as cores can be nearer or farther by the minute.";

/// All that a run comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: String,
    /// What was measured.
    pub commit: String,
    /// What came of it.
    pub rows: Vec<Row>,
}

impl Report {
    /// Everything, with the rivals of each scenario from the best to the worst.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines = vec![
            format!("machine: {}", self.machine),
            format!("commit:  {}", self.commit),
        ];
        for rows in self.rows.chunk_by(|a, b| a.scenario == b.scenario) {
            lines.push(String::new());
            lines.push(format!("{}, {}", rows[0].scenario, rows[0].unit));
            lines.push(format!(
                "  {:<28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
                "subject", "min", "median", "max", "p99", "p99.9", "ratio"
            ));
            lines.extend(rivals_last_and_best_first(rows).into_iter().map(line));
            lines.extend(to_in_process(rows));
        }
        lines.push(String::new());
        lines.push(RATIO.to_owned());
        lines.push("Of a round trip or a recovery: min, median and max of the p50.".to_owned());
        lines.join("\n")
    }

    /// One object.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has nothing that JSON has not")
    }

    /// One line for each scenario, with each rival library's best configuration, and the command that
    /// was run.
    #[must_use]
    pub fn markdown(&self, command: &str) -> String {
        let columns = self.columns();
        let mut text = String::from("| |");
        for column in &columns {
            let _ = write!(text, " {} |", column.title());
        }
        text += " to the best rival |\n|---|";
        text += &"---:|".repeat(columns.len() + 1);
        for rows in self.rows.chunk_by(|a, b| a.scenario == b.scenario) {
            let _ = write!(text, "\n| {}, {} |", rows[0].scenario, rows[0].unit);
            for column in &columns {
                let cell = best_of(rows, *column).map_or_else(|| "–".to_owned(), cell);
                let _ = write!(text, " {cell} |");
            }
            let _ = write!(text, " {} |", ratios_of_ours(rows));
        }
        let _ = write!(
            text,
            "\n\nMedians of several processes; of a round trip or a recovery, p50 / p99. Of each rival the best configuration.\n\
             {RATIO}\n{}; commit {}; `{command}`.",
            self.machine, self.commit
        );
        text
    }

    /// Each of ours, the floor, and each rival library, in their order.
    fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        for row in &self.rows {
            let column = Column::of(row);
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns.sort_by_key(|column| column.kind != Kind::Ours);
        columns
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Column {
    kind: Kind,
    /// None for a rival, whose subjects share a column.
    subject: Option<&'static str>,
}

impl Column {
    fn of(row: &Row) -> Self {
        Self {
            kind: row.kind,
            subject: (!row.rival).then_some(row.subject),
        }
    }

    fn title(self) -> String {
        match (self.kind, self.subject) {
            (Kind::Rival(library), _) => match version_of(library) {
                Some(version) => format!("{library} {version}"),
                None => library.to_owned(),
            },
            (_, subject) => subject.unwrap_or_default().to_owned(),
        }
    }
}

fn best_of(rows: &[Row], column: Column) -> Option<&Row> {
    let rows = rows.iter().filter(|row| Column::of(row) == column);
    rows.min_by(|a, b| by_median(a, b))
}

/// The better one first.
fn by_median(a: &Row, b: &Row) -> Ordering {
    let least_first = a.median.total_cmp(&b.median);
    let less_is_better = a.p99.is_some();
    if less_is_better {
        least_first
    } else {
        least_first.reverse()
    }
}

fn rivals_last_and_best_first(rows: &[Row]) -> Vec<&Row> {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| match (a.rival, b.rival) {
        (true, true) => by_median(a, b),
        (a, b) => a.cmp(&b),
    });
    rows
}

fn ratios_of_ours(rows: &[Row]) -> String {
    let ours = rows.iter().filter(|row| row.kind == Kind::Ours);
    let ratios: Vec<String> = ours
        .map(|row| match row.ratio {
            Some(ratio) => format!("{ratio:.2} x"),
            None => "–".to_owned(),
        })
        .collect();
    ratios.join(", ")
}

/// Where ours is also measured within one process.
fn to_in_process(rows: &[Row]) -> Option<String> {
    let ratios: Vec<String> = (rows.iter())
        .filter_map(|row| Some(format!("{} {:.2}", row.subject, row.to_in_process?)))
        .collect();
    let ratios = (!ratios.is_empty()).then(|| ratios.join(", "))?;
    Some(format!(
        "  To {IN_PROCESS}, which is within one process: {ratios}"
    ))
}

fn line(row: &Row) -> String {
    let optional = |value: Option<f64>| value.map(figure).unwrap_or_default();
    let ratio = row.ratio.map(|ratio| format!("{ratio:.2}"));
    let line = format!(
        "  {:<28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        row.subject,
        figure(row.min),
        figure(row.median),
        figure(row.max),
        optional(row.p99),
        optional(row.p999),
        ratio.unwrap_or_default()
    );
    line.trim_end().to_owned()
}

fn cell(row: &Row) -> String {
    match row.p99 {
        Some(p99) => format!("{} / {}", figure(row.median), figure(p99)),
        None => figure(row.median),
    }
}

/// With a decimal only where it says something.
fn figure(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &'static str, kind: Kind, median: f64, latency: bool) -> Row {
        Row {
            scenario: if latency {
                "round-trip-8"
            } else {
                "many-1p-b1"
            },
            subject,
            rival: matches!(kind, Kind::Rival(_)),
            unit: if latency { "ns" } else { "M events/s" },
            min: median,
            median,
            max: median,
            p99: latency.then_some(2.0 * median),
            p999: latency.then_some(3.0 * median),
            ratio: Some(median / 400.0),
            to_in_process: None,
            kind,
        }
    }

    fn report() -> Report {
        let rival = Kind::Rival("some-library");
        Report {
            machine: "a machine".to_owned(),
            commit: "abc".to_owned(),
            rows: vec![
                row("annulus", Kind::Ours, 250.0, true),
                row("floor", Kind::Floor, 150.0, true),
                row("rival", rival, 500.0, true),
                row("rival-pausing", rival, 400.0, true),
                row("annulus", Kind::Ours, 48.0, false),
                row("rival", rival, 400.0, false),
                row("rival-pausing", rival, 300.0, false),
            ],
        }
    }

    #[test]
    fn the_readme_has_a_line_a_scenario_and_the_best_of_each_rival() {
        let text = report().markdown("run this");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| | annulus | floor | some-library | to the best rival |"
        );
        assert_eq!(
            lines[2],
            "| round-trip-8, ns | 250 / 500 | 150 / 300 | 400 / 800 | 0.62 x |"
        );
        assert_eq!(
            lines[3],
            "| many-1p-b1, M events/s | 48.0 | – | 400 | 0.12 x |"
        );
        assert!(text.contains(RATIO), "{text}");
        assert!(
            text.ends_with("a machine; commit abc; `run this`."),
            "{text}"
        );
    }

    #[test]
    fn the_table_tells_how_far_two_processes_are_from_one() {
        let mut report = report();
        let text = "within one process: annulus-ipc 1.05";
        assert!(!report.table().contains("within one process"));
        report.rows[0].subject = "annulus-ipc";
        report.rows[0].to_in_process = Some(1.05);
        assert!(report.table().contains(text), "{}", report.table());
    }

    #[test]
    fn the_table_has_a_line_a_subject_and_the_best_rival_first() {
        let table = report().table();
        assert!(table.contains(RATIO), "{table}");
        let subjects: Vec<&str> = (table.lines())
            .filter(|line| line.starts_with("  "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(
            subjects,
            [
                "subject",
                "annulus",
                "floor",
                "rival-pausing",
                "rival",
                "subject",
                "annulus",
                "rival",
                "rival-pausing",
            ]
        );
    }
}
