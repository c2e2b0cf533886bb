//! From samples to rows: the least, the median and the greatest, and how it compares with the best rival.

use serde::{Deserialize, Serialize};

use crate::scenario::{SCENARIOS, Sample, Scenario};
use crate::subjects::Kind;

/// A sample with what it is a sample of; what the processes that measure write, one a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The name of the scenario.
    pub scenario: String,
    /// The name of the subject.
    pub subject: String,
    /// What came of it.
    pub sample: Sample,
}

/// What one subject did in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// The name of the subject.
    pub subject: &'static str,
    /// Whether the subject is a rival.
    pub rival: bool,
    /// The unit of the figures.
    pub unit: &'static str,
    /// The least sample; of a round trip, the least p50.
    pub min: f64,
    /// The median of the samples.
    pub median: f64,
    /// The greatest sample.
    pub max: f64,
    /// Of a round trip: the median of the samples' 99th percentiles.
    pub p99: Option<f64>,
    /// Of a round trip: the median of the samples' 99.9th percentiles.
    pub p999: Option<f64>,
    /// The median divided by that of the best rival, if there is one.
    pub ratio: Option<f64>,
    /// What the subject is.
    #[serde(skip)]
    pub kind: Kind,
}

/// One row for each subject that has samples in a scenario; scenarios and subjects keep their order.
#[must_use]
pub fn rows(measured: &[Measured], subjects: &[(&'static str, Kind)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in &SCENARIOS {
        let mut of_scenario: Vec<Row> = (subjects.iter())
            .filter_map(|&(subject, kind)| row(measured, scenario, subject, kind))
            .collect();
        let best = best_rival(&of_scenario, scenario.is_round_trip());
        for row in &mut of_scenario {
            row.ratio = best.map(|best| row.median / best);
        }
        rows.extend(of_scenario);
    }
    rows
}

fn row(
    measured: &[Measured],
    scenario: &Scenario,
    subject: &'static str,
    kind: Kind,
) -> Option<Row> {
    let samples: Vec<Sample> = (measured.iter())
        .filter(|measured| measured.scenario == scenario.name && measured.subject == subject)
        .map(|measured| measured.sample)
        .collect();
    let values = sorted(samples.iter().map(Sample::value));
    let latencies = || samples.iter().filter_map(|sample| sample.latency);
    Some(Row {
        scenario: scenario.name,
        subject,
        rival: matches!(kind, Kind::Rival(_)),
        unit: scenario.unit(),
        min: *values.first()?,
        median: median(&values)?,
        max: *values.last()?,
        p99: median(&sorted(latencies().map(|latency| latency.p99))),
        p999: median(&sorted(latencies().map(|latency| latency.p999))),
        ratio: None,
        kind,
    })
}

/// The median of the best of the rivals.
fn best_rival(rows: &[Row], less_is_better: bool) -> Option<f64> {
    let rivals = rows.iter().filter(|row| row.rival).map(|row| row.median);
    if less_is_better {
        rivals.min_by(f64::total_cmp)
    } else {
        rivals.max_by(f64::total_cmp)
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Latency;

    const SUBJECTS: [(&str, Kind); 3] = [
        ("ours", Kind::Ours),
        ("fast", Kind::Rival("fast")),
        ("slow", Kind::Rival("slow")),
    ];

    fn measured(scenario: &str, subject: &str, sample: Sample) -> Measured {
        Measured {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            sample,
        }
    }

    /// Of so many million events a second.
    fn flow(rate: u64) -> Sample {
        Sample {
            events: rate,
            taken: Duration::from_micros(1),
            latency: None,
        }
    }

    fn round_trip(p50: f64) -> Sample {
        Sample {
            events: 1,
            taken: Duration::from_micros(1),
            latency: Some(Latency {
                p50,
                p99: 2.0 * p50,
                p999: 3.0 * p50,
            }),
        }
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn of_throughput_the_best_rival_is_the_greatest() {
        let samples = [
            measured("one-to-one-b10", "slow", flow(50)),
            measured("one-to-one-b10", "ours", flow(300)),
            measured("one-to-one-b10", "fast", flow(200)),
            measured("one-to-one-b10", "ours", flow(200)),
            measured("one-to-one-b10", "ours", flow(700)),
        ];
        let rows = rows(&samples, &SUBJECTS);
        let names: Vec<_> = rows.iter().map(|row| row.subject).collect();
        assert_eq!(names, ["ours", "fast", "slow"]);
        assert_eq!(
            (rows[0].min, rows[0].median, rows[0].max),
            (200.0, 300.0, 700.0)
        );
        assert_eq!((rows[0].unit, rows[0].p99), ("M events/s", None));
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.5), Some(1.0), Some(0.25)]);
    }

    #[test]
    fn of_latency_the_best_rival_is_the_least_and_figures_are_of_the_p50() {
        let samples = [
            measured("round-trip-8", "ours", round_trip(200.0)),
            measured("round-trip-8", "ours", round_trip(300.0)),
            measured("round-trip-8", "fast", round_trip(500.0)),
            measured("round-trip-8", "slow", round_trip(1000.0)),
        ];
        let rows = rows(&samples, &SUBJECTS);
        assert_eq!(
            (rows[0].min, rows[0].median, rows[0].max),
            (200.0, 250.0, 300.0)
        );
        assert_eq!((rows[0].p99, rows[0].p999), (Some(500.0), Some(750.0)));
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(0.5), Some(1.0), Some(2.0)]);
    }

    #[test]
    fn without_rivals_there_is_no_ratio() {
        let rows = rows(&[measured("many-1p-b1", "ours", flow(5))], &SUBJECTS);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].ratio, None);
    }
}
