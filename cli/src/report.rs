//! What a run of `annulus demo` came to, for people and for programs.

use std::fmt::Write;
use std::num::NonZeroU64;

use annulus::{Distribution, StageReport};
use indicatif::HumanCount;
use serde::Serialize;

use crate::market::{Kind, Level};
use crate::pipeline::Outcome;

const PRICE_SCALE: i128 = 10_000;

/// The result as text for people.
pub(crate) fn text(outcome: &Outcome) -> String {
    let report = Report::of(outcome);
    let mut text = String::new();
    let mut row = |label: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:<24}{value:>16}");
    };
    let count = |count: u64| HumanCount(count).to_string();
    let latency = |latency: Option<u64>| latency.map_or("-".into(), nanoseconds);

    row("events", count(report.events));
    let ByType {
        submission,
        cancellation,
        deletion,
        execution_visible,
        execution_hidden,
        cross,
        halt,
    } = report.by_type;
    row("  submissions", count(submission));
    row("  partial cancellations", count(cancellation));
    row("  deletions", count(deletion));
    row("  visible executions", count(execution_visible));
    row("  hidden executions", count(execution_hidden));
    row("  crosses", count(cross));
    row("  halts", count(halt));
    row("times that go back", count(report.times_back));
    row("unknown orders", count(report.unknown_orders));
    row("orders sent", count(report.orders_sent));
    row("  buys", count(outcome.gateway.buys));
    row("  sells", count(outcome.gateway.sells));
    row("  notional", dollars(outcome.gateway.notional));
    row("events lost", count(report.lost));
    row("audit checksum", format!("{:016x}", outcome.audit.checksum));

    row("best bid", level(outcome.top.bid));
    row("best ask", level(outcome.top.ask));
    if let Some((least, most)) = outcome.spread.range {
        row("quotes with a spread", count(outcome.spread.quotes));
        row("  least", dollars(least));
        row("  mean", dollars(outcome.spread.mean()));
        row("  most", dollars(most));
    }

    row("seconds", format!("{:.6}", report.wall_s));
    row("events per second", count(report.events_per_s as u64));
    let is_paced = report.rate.is_some();
    row("rate", report.rate.map_or("max".into(), count));
    let tick_to_trade = if is_paced {
        "tick to trade, p50"
    } else {
        "with queueing, p50"
    };
    row(tick_to_trade, latency(report.tick_to_trade_ns.p50));
    row("  p99", latency(report.tick_to_trade_ns.p99));
    row("  p99.9", latency(report.tick_to_trade_ns.p999));
    row("  max", latency(report.tick_to_trade_ns.max));
    stages(&mut text, &report.stages);
    if !is_paced {
        text.push_str(
            "\nAt full rate events wait in rings that are full, which is most of the time shown: it is no latency.\n\
             --rate 100000 shows that of a pipeline which keeps up.\n",
        );
    }
    for warning in &outcome.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// What each stage measured of itself: p50 and p99.
fn stages(text: &mut String, stages: &[Stage]) {
    let _ = writeln!(
        text,
        "\n{:<12}{:>5}{:>12}{:>11}{:>22}{:>22}",
        "stage", "core", "events", "batches", "queue p50 / p99", "service p50 / p99"
    );
    for stage in stages {
        let core = stage.core.map_or("-".into(), |core| core.to_string());
        let pair = |latency: &Latency| {
            let text = |ns: Option<u64>| ns.map_or("-".into(), nanoseconds);
            format!("{} / {}", text(latency.p50), text(latency.p99))
        };
        let _ = writeln!(
            text,
            "{:<12}{core:>5}{:>12}{:>11}{:>22}{:>22}",
            stage.name,
            HumanCount(stage.events).to_string(),
            HumanCount(stage.batches).to_string(),
            pair(&stage.queue_ns),
            pair(&stage.service_ns),
        );
    }
}

/// The result as one JSON object.
pub(crate) fn json(outcome: &Outcome) -> serde_json::Result<String> {
    serde_json::to_string(&Report::of(outcome)).map(|object| object + "\n")
}

/// The fields of the JSON object, in their order. Prices are in dollars x 10,000.
#[derive(Serialize)]
struct Report {
    events: u64,
    by_type: ByType,
    /// How many rows have an earlier time than the row before.
    times_back: u64,
    unknown_orders: u64,
    orders_sent: u64,
    lost: u64,
    best_bid: Option<i64>,
    best_ask: Option<i64>,
    wall_s: f64,
    /// Events per second, as asked for; null for as many as possible, and then tick to trade is mostly queueing.
    rate: Option<u64>,
    events_per_s: f64,
    tick_to_trade_ns: Latency,
    stages: Vec<Stage>,
}

/// What a stage measured of itself; the times are those of the first event of each batch.
#[derive(Serialize)]
struct Stage {
    name: String,
    /// Where it ran when it ended.
    core: Option<usize>,
    events: u64,
    batches: u64,
    queue_ns: Latency,
    service_ns: Latency,
}

impl Stage {
    fn of(report: &StageReport) -> Self {
        let times = report.metrics.times.as_ref();
        Self {
            name: report.name.clone(),
            core: report.ran_on,
            events: report.handled,
            batches: report.metrics.batches,
            queue_ns: Latency::of(times.map(|times| &times.queue_ns)),
            service_ns: Latency::of(times.map(|times| &times.batch_ns)),
        }
    }
}

#[derive(Serialize)]
struct ByType {
    submission: u64,
    cancellation: u64,
    deletion: u64,
    execution_visible: u64,
    execution_hidden: u64,
    cross: u64,
    halt: u64,
}

/// All null if there was nothing to measure.
#[derive(Serialize)]
struct Latency {
    p50: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
    max: Option<u64>,
}

impl Latency {
    fn of(values: Option<&Distribution>) -> Self {
        let values = values.filter(|values| values.count() > 0);
        let quantile = |q| values.map(|values| values.quantile(q));
        Self {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: values.map(Distribution::max),
        }
    }
}

impl Report {
    fn of(outcome: &Outcome) -> Self {
        let of_kind = |kind: Kind| outcome.audit.by_kind[kind as usize];
        let latencies = &outcome.gateway.tick_to_trade_ns;
        let quantile =
            |quantile| (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile));
        let wall_s = outcome.wall.as_secs_f64();
        Self {
            events: outcome.events,
            by_type: ByType {
                submission: of_kind(Kind::Submission),
                cancellation: of_kind(Kind::Cancellation),
                deletion: of_kind(Kind::Deletion),
                execution_visible: of_kind(Kind::ExecutionVisible),
                execution_hidden: of_kind(Kind::ExecutionHidden),
                cross: of_kind(Kind::Cross),
                halt: of_kind(Kind::Halt),
            },
            times_back: outcome.times_back,
            unknown_orders: outcome.unknown_orders,
            orders_sent: outcome.orders_sent,
            lost: outcome.lost,
            best_bid: outcome.top.bid.map(|level| level.price),
            best_ask: outcome.top.ask.map(|level| level.price),
            wall_s,
            rate: outcome.rate.map(NonZeroU64::get),
            events_per_s: (outcome.events as f64 / wall_s).round(),
            tick_to_trade_ns: Latency {
                p50: quantile(0.5),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: quantile(1.0),
            },
            stages: outcome.stages.iter().map(Stage::of).collect(),
        }
    }
}

fn level(level: Option<Level>) -> String {
    level.map_or("none".into(), |level| {
        format!("{} x {}", HumanCount(level.shares), dollars(level.price))
    })
}

/// Cents if it is whole cents, else all four decimals.
fn dollars(price: impl Into<i128>) -> String {
    let price = price.into();
    let sign = if price < 0 { "-" } else { "" };
    let (dollars, rest) = (price.abs() / PRICE_SCALE, price.abs() % PRICE_SCALE);
    if rest % 100 == 0 {
        format!("{sign}{dollars}.{:02}", rest / 100)
    } else {
        format!("{sign}{dollars}.{rest:04}")
    }
}

fn nanoseconds(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_read_as_dollars() {
        assert_eq!(dollars(5_853_300), "585.33");
        assert_eq!(dollars(5_853_350), "585.3350");
        assert_eq!(dollars(-100), "-0.01");
    }

    #[test]
    fn latencies_keep_a_readable_unit() {
        assert_eq!(nanoseconds(812), "812 ns");
        assert_eq!(nanoseconds(12_345), "12.3 us");
        assert_eq!(nanoseconds(12_345_678), "12.3 ms");
    }
}
