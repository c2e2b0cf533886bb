//! How long the ring takes for one event, by itself: `cargo bench -p annulus-benches`.

use annulus_benches::{one_to_one, round_trip};
use annulus_ring::Producers;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn throughput(criterion: &mut Criterion) {
    for (name, producers) in [("one-to-one", Producers::One), ("many-1p", Producers::Many)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        for batch in [1, 10, 100] {
            group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
                bencher.iter_custom(|events| one_to_one(producers, batch, events));
            });
        }
        group.finish();
    }
}

fn latency(criterion: &mut Criterion) {
    criterion.bench_function("round-trip", |bencher| bencher.iter_custom(round_trip));
}

criterion_group!(benches, throughput, latency);
criterion_main!(benches);
