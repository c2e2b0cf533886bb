//! How long the ring takes for one event, by itself: `cargo bench -p annulus-benches`.

use std::time::Duration;

use annulus_benches::cores::Cores;
use annulus_benches::scenario::{Effort, SCENARIOS, Scenario};
use annulus_benches::subjects::{Subject, annulus};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn ring(criterion: &mut Criterion) {
    let cores = Cores::of_this_process(); // Before any thread is pinned.
    let subjects = annulus::subjects();
    for scenario in &SCENARIOS {
        let mut group = criterion.benchmark_group(scenario.name);
        if !scenario.is_round_trip() {
            group.throughput(Throughput::Elements(1));
        }
        let can = |subject: &dyn Subject| {
            let sample = subject.measure(scenario, Effort::Events(1), cores);
            sample.is_some()
        };
        for subject in subjects.iter().filter(|subject| can(&***subject)) {
            group.bench_function(BenchmarkId::from_parameter(subject.name()), |bencher| {
                bencher.iter_custom(|events| time(&**subject, scenario, events, cores));
            });
        }
        group.finish();
    }
}

fn time(subject: &dyn Subject, scenario: &Scenario, events: u64, cores: Cores) -> Duration {
    let sample = subject.measure(scenario, Effort::Events(events), cores);
    sample.expect("it could before").taken
}

criterion_group!(benches, ring);
criterion_main!(benches);
