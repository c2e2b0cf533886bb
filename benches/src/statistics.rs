//! From samples to rows: the least, the median and the greatest, and how it compares with the best rival.
//!
//! Two cores of a virtual machine can be near each other now and far apart a minute later, and then a
//! median may be of one mode for one subject and of the other for the next. So a ratio is taken within
//! each round, where the two samples are close together, and its median over the rounds is told.

use serde::{Deserialize, Serialize};

use crate::scenario::{SCENARIOS, Sample, Scenario};
use crate::subjects::{IN_PROCESS, Kind};

/// A sample with what it is a sample of; what the processes that measure write, one a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The name of the scenario.
    pub scenario: String,
    /// The name of the subject.
    pub subject: String,
    /// In which round it was taken; no two processes have a round of the same number.
    pub round: u64,
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
    /// The least sample; of latency, the least p50.
    pub min: f64,
    /// The median of the samples.
    pub median: f64,
    /// The greatest sample.
    pub max: f64,
    /// Of latency: the median of the samples' 99th percentiles.
    pub p99: Option<f64>,
    /// Of latency: the median of the samples' 99.9th percentiles.
    pub p999: Option<f64>,
    /// To the rival with the best median, if there is one: the median of the ratios within each round,
    /// because cores can be nearer or farther by the minute. Of latency: of the p50.
    pub ratio: Option<f64>,
    /// To our own within one process, where that is measured beside two processes: taken in the same way.
    pub to_in_process: Option<f64>,
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
        if let Some(best) = best_rival(&of_scenario, scenario.is_latency()) {
            let best = samples(measured, scenario, best);
            for row in &mut of_scenario {
                row.ratio = ratio(&samples(measured, scenario, row.subject), &best);
            }
        }
        if scenario.in_process().is_some() {
            let within_one = samples(measured, scenario, IN_PROCESS);
            let others = (of_scenario.iter_mut()).filter(|row| row.subject != IN_PROCESS);
            for row in others.filter(|row| row.kind == Kind::Ours) {
                row.to_in_process = ratio(&samples(measured, scenario, row.subject), &within_one);
            }
        }
        rows.extend(of_scenario);
    }
    rows
}

/// Those of one subject in one scenario.
fn samples<'m>(measured: &'m [Measured], scenario: &Scenario, subject: &str) -> Vec<&'m Measured> {
    (measured.iter())
        .filter(|measured| measured.scenario == scenario.name && measured.subject == subject)
        .collect()
}

fn row(
    measured: &[Measured],
    scenario: &Scenario,
    subject: &'static str,
    kind: Kind,
) -> Option<Row> {
    let samples = samples(measured, scenario, subject);
    let values = sorted(samples.iter().map(|measured| measured.sample.value()));
    let latencies = || (samples.iter()).filter_map(|measured| measured.sample.latency);
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
        to_in_process: None,
        kind,
    })
}

/// The rival with the best median: who reads the medians sees which one it is.
fn best_rival(rows: &[Row], less_is_better: bool) -> Option<&'static str> {
    let rivals = rows.iter().filter(|row| row.rival);
    let by_median = |a: &&Row, b: &&Row| a.median.total_cmp(&b.median);
    let best = if less_is_better {
        rivals.min_by(by_median)
    } else {
        rivals.max_by(by_median)
    };
    best.map(|row| row.subject)
}

/// The median of the ratios within each round that has a sample of both.
fn ratio(subject: &[&Measured], rival: &[&Measured]) -> Option<f64> {
    let within_rounds = subject.iter().filter_map(|measured| {
        let other = rival.iter().find(|other| other.round == measured.round)?;
        Some(measured.sample.value() / other.sample.value())
    });
    median(&sorted(within_rounds))
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

    fn measured(scenario: &str, round: u64, subject: &str, sample: Sample) -> Measured {
        Measured {
            scenario: scenario.to_owned(),
            subject: subject.to_owned(),
            round,
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
            measured("one-to-one-b10", 0, "slow", flow(50)),
            measured("one-to-one-b10", 0, "ours", flow(300)),
            measured("one-to-one-b10", 0, "fast", flow(200)),
            measured("one-to-one-b10", 1, "ours", flow(200)),
            measured("one-to-one-b10", 2, "ours", flow(700)),
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
            measured("round-trip-8", 0, "ours", round_trip(200.0)),
            measured("round-trip-8", 1, "ours", round_trip(300.0)),
            measured("round-trip-8", 0, "fast", round_trip(400.0)),
            measured("round-trip-8", 1, "fast", round_trip(600.0)),
            measured("round-trip-8", 0, "slow", round_trip(800.0)),
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
    fn a_ratio_compares_within_rounds_and_not_near_with_far_cores() {
        // Cores are near for two rounds, move away in the middle of the third, and stay far.
        let rounds = [
            (100.0, 100.0),
            (100.0, 100.0),
            (100.0, 400.0),
            (400.0, 400.0),
            (400.0, 400.0),
        ];
        let samples: Vec<Measured> = (0..)
            .zip(rounds)
            .flat_map(|(round, (ours, fast))| {
                [
                    measured("round-trip-8", round, "ours", round_trip(ours)),
                    measured("round-trip-8", round, "fast", round_trip(fast)),
                ]
            })
            .collect();
        let rows = rows(&samples, &SUBJECTS);
        let medians: Vec<_> = rows.iter().map(|row| row.median).collect();
        assert_eq!(medians, [100.0, 400.0]);
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0)]);
    }

    #[test]
    fn ours_between_processes_is_compared_with_ours_within_one() {
        let subjects = [(IN_PROCESS, Kind::Ours), ("annulus-ipc", Kind::Ours)];
        let of = |scenario: &str| {
            let samples = [
                measured(scenario, 0, IN_PROCESS, round_trip(100.0)),
                measured(scenario, 0, "annulus-ipc", round_trip(105.0)),
                measured(scenario, 1, IN_PROCESS, round_trip(400.0)),
                measured(scenario, 1, "annulus-ipc", round_trip(420.0)),
            ];
            let rows = rows(&samples, &subjects);
            rows.iter().map(|row| row.to_in_process).collect::<Vec<_>>()
        };
        assert_eq!(of("ipc-round-trip-8"), [None, Some(1.05)]);
        assert_eq!(of("ipc-round-trip-64"), [None, None]);
    }

    #[test]
    fn samples_meet_by_round_and_not_by_order() {
        let samples = [
            measured("one-to-one-b1", 0, "ours", flow(100)),
            measured("one-to-one-b1", 1, "ours", flow(800)),
            measured("one-to-one-b1", 1, "fast", flow(400)),
            measured("one-to-one-b1", 0, "fast", flow(50)),
            measured("one-to-one-b10", 0, "fast", flow(1)),
        ];
        assert_eq!(rows(&samples, &SUBJECTS)[0].ratio, Some(2.0));
    }

    #[test]
    fn without_rivals_or_rounds_in_common_there_is_no_ratio() {
        let mut samples = vec![measured("many-1p-b1", 0, "ours", flow(5))];
        let alone = rows(&samples, &SUBJECTS);
        assert_eq!(alone.len(), 1);
        assert_eq!(alone[0].ratio, None);

        samples.push(measured("many-1p-b1", 1, "fast", flow(5)));
        let apart = rows(&samples, &SUBJECTS);
        assert_eq!(apart[0].ratio, None);
        assert_eq!(apart[1].ratio, Some(1.0));
    }
}
