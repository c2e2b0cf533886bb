//! R8 RECOVER, between processes: who waits finds the dead by their leases, and newcomers take their rows.
//!
//! Each process has a ring of its own over the same memory; what the kernel does for it, its locks, is made of loom's
//! types. A process dies at a named step, wherever the others are then: its leases end, its lock of the member table
//! too, and it does nothing any more. These models are for loom alone: there are no steps without it.

#![cfg(loom)]

mod common;

use std::alloc::{self, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use annulus_loom_tests::{builder, model, thread};
use annulus_ring::Producers::{Many, One};
use annulus_ring::{
    Consumer, Ended, Lease, OnDeath, Producers, Ring, RingBuilder, SharedMemory, Start, Step,
    at_each_step,
};
use common::Mortal;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicBool;

/// Memory that processes share, and the kernel's locks.
struct Machine {
    memory: NonNull<u8>,
    layout: alloc::Layout,
    leases: Arc<[AtomicBool; 4]>,
    /// The thread that has the member table locked.
    table: Mutex<Option<thread::ThreadId>>,
}

// SAFETY: the memory is atomics, and events that the ring guards.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

/// More than a model's slot takes.
type Event = [u64; 64];

impl Machine {
    fn new(builder: &RingBuilder) -> Arc<Self> {
        let event = alloc::Layout::new::<Event>();
        let geometry = builder.geometry(event).unwrap();
        let layout = alloc::Layout::from_size_align(geometry.size, geometry.align).unwrap();
        // SAFETY: a ring has a size.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        // SAFETY: as large and as aligned as it says, and new; a number takes less than `Event`.
        unsafe { builder.format(memory, event, || 0_u64) }.unwrap();
        Arc::new(Self {
            memory,
            layout,
            leases: Arc::new(std::array::from_fn(|_| AtomicBool::new(false))),
            table: Mutex::new(None),
        })
    }

    /// A process that has the ring open.
    fn process(self: &Arc<Self>, builder: &RingBuilder) -> Ring<u64> {
        // SAFETY: formatted in `new` by the same builder; only such rings use it.
        unsafe { builder.attach(Arc::clone(self) as _, alloc::Layout::new::<Event>()) }.unwrap()
    }

    /// The process ends that has the lease of this row, on this thread.
    fn let_go(&self, row: usize) {
        let mut table = self.table.lock().unwrap();
        if *table == Some(thread::current().id()) {
            *table = None;
        }
        drop(table);
        self.leases[row].store(false, Release);
    }

    /// The member in this row dies with its thread when that comes to this step.
    fn dies_at(self: &Arc<Self>, mortal: &Arc<Mortal>, row: usize, step: Step) {
        let (this, mortal) = (Arc::clone(self), Arc::clone(mortal));
        at_each_step(move |reached| {
            if reached == step {
                this.let_go(row);
                mortal.stop();
            }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: from `new`; nobody has a ring any more.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

// SAFETY: the memory is there as long as this is; nobody else writes to it; a lease is had by one at a time, and lets
// go with Release of what is found with Acquire.
unsafe impl SharedMemory for Machine {
    fn base(&self) -> NonNull<u8> {
        self.memory
    }

    fn lock_table(&self) -> bool {
        let mut table = self.table.lock().unwrap();
        let is_free = table.is_none();
        if is_free {
            *table = Some(thread::current().id());
        }
        is_free
    }

    fn unlock_table(&self) {
        *self.table.lock().unwrap() = None;
    }

    fn lease(&self, row: usize) -> Result<Option<Lease>, String> {
        if self.leases[row].swap(true, Acquire) {
            return Ok(None);
        }
        Ok(Some(Box::new(Given(Arc::clone(&self.leases), row))))
    }

    fn is_leased(&self, row: usize) -> bool {
        self.leases[row].load(Acquire)
    }

    fn process(&self) -> u32 {
        1
    }
}

struct Given(Arc<[AtomicBool; 4]>, usize);

impl Drop for Given {
    fn drop(&mut self) {
        self.0[self.1].store(false, Release);
    }
}

fn shared(capacity: usize, producers: Producers, members: usize) -> RingBuilder {
    builder(capacity, producers).members(members).no_parking()
}

/// Waits for events until it has been given this one; returns all that came.
fn read_to(consumer: &mut Consumer<u64>, last: u64) -> Vec<u64> {
    let mut values = Vec::new();
    while !values.contains(&last) {
        values.extend(consumer.next_batch().unwrap().iter());
    }
    values
}

/// A producer of one process dies; another process publishes behind it, and reads: nobody calls for a recovery.
fn a_producer_dies(step: Step, is_published: bool) {
    let shared = shared(2, Many, 3);
    let machine = Machine::new(&shared);
    let (here, there) = (machine.process(&shared), machine.process(&shared));
    let mut consumer = here.consumer("c").join().unwrap();
    let mut first = there.shared_producer().unwrap();
    let mut second = here.shared_producer().unwrap();
    let mortal = Mortal::new(first.row());
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, first.row(), step);
            _ = first.publish_value(10);
            first
        }
    });
    second.publish_value(20).unwrap();
    let mut values = read_to(&mut consumer, 20);
    mortal.wait_for_death();
    second.publish_value(21).unwrap();
    values.extend(read_to(&mut consumer, 21));
    let all = values.len();
    values.retain(|value| *value != 10);
    assert_eq!(values, [20, 21]);
    assert_eq!(all - 2, usize::from(is_published));
    let claimed = matches!(step, Step::Exchange | Step::Write);
    assert_eq!(consumer.skipped(), u64::from(claimed));
    drop(until_over);
    dying.join().unwrap();
}

/// Another member takes the row of the dead one, while somebody waits and looks for the dead.
fn a_newcomer_takes_the_row(step: Step) {
    let shared = shared(2, Many, 2);
    let machine = Machine::new(&shared);
    let [a, b, c] = [(); 3].map(|()| machine.process(&shared));
    let mut consumer = a.consumer("c").join().unwrap();
    let mut first = b.shared_producer().unwrap();
    let mortal = Mortal::new(first.row());
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, first.row(), step);
            _ = first.publish_value(10);
            first
        }
    });
    let reading = thread::spawn(move || {
        let values = read_to(&mut consumer, 20);
        (consumer, values)
    });
    mortal.wait_for_death();
    let mut second = c.shared_producer().unwrap();
    second.publish_value(20).unwrap();
    let (consumer, values) = reading.join().unwrap();
    assert_eq!(values, [20]);
    assert_eq!(consumer.skipped(), u64::from(step == Step::Exchange));
    assert!(machine.is_leased(1), "its row was taken from the newcomer");
    assert_eq!(a.snapshot().members.len(), 2);
    drop(until_over);
    dying.join().unwrap();
}

/// The only producer dies, and the next goes on behind what consumers may have seen.
fn the_only_producer_is_succeeded(step: Step, is_published: bool) {
    let shared = shared(2, One, 2);
    let machine = Machine::new(&shared);
    let (here, there) = (machine.process(&shared), machine.process(&shared));
    let mut consumer = here.consumer("c").join().unwrap();
    let mut first = there.producer().unwrap();
    let mortal = Mortal::new(first.row());
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, first.row(), step);
            _ = first.publish_value(10);
            first
        }
    });
    let reading = thread::spawn(move || read_to(&mut consumer, 20));
    mortal.wait_for_death();
    let mut second = here.producer().unwrap();
    second.publish_value(20).unwrap();
    let expected = if is_published { vec![10, 20] } else { vec![20] };
    assert_eq!(reading.join().unwrap(), expected);
    drop(until_over);
    dying.join().unwrap();
}

/// A consumer dies while it reads, and whoever waits for it finds out.
fn a_consumer_dies(step: Step) {
    let shared = shared(1, Many, 3);
    let machine = Machine::new(&shared);
    let (here, there) = (machine.process(&shared), machine.process(&shared));
    let mut consumer = there
        .consumer("c")
        .on_death(OnDeath::Release)
        .join()
        .unwrap();
    let mut producer = here.shared_producer().unwrap();
    let mortal = Mortal::new(consumer.row());
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, consumer.row(), step);
            drop(consumer.next_batch());
            consumer
        }
    });
    for value in 0..3 {
        producer.publish_value(value).unwrap();
    }
    drop(until_over);
    dying.join().unwrap();
}

/// A consumer dies while it joins; the next of that name joins, and misses nothing.
fn a_joiner_dies(step: Step) {
    let shared = shared(4, Many, 3); // Who joins gates where it enters until it looks.
    let machine = Machine::new(&shared);
    let (here, there) = (machine.process(&shared), machine.process(&shared));
    let mut producer = here.shared_producer().unwrap();
    let mortal = Mortal::new(1);
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, 1, step);
            there.consumer("c").join()
        }
    });
    let writing = thread::spawn(move || {
        producer.publish_value(1).unwrap();
        producer.publish_value(2).unwrap();
        producer
    });
    mortal.wait_for_death();
    let mut consumer = here.consumer("c").join().unwrap();
    let mut producer = writing.join().unwrap();
    producer.publish_value(3).unwrap();
    let values = read_to(&mut consumer, 3);
    assert!([1, 2, 3].ends_with(&values), "{values:?}"); // From where it has joined on.
    assert_eq!(consumer.row(), 1);
    drop(until_over);
    _ = dying.join().unwrap();
}

/// The only producer dies behind a stamp; a consumer has read that event. Another joins, and the first is told that no
/// producer lives.
fn the_only_producer_dies_behind_a_stamp() {
    let shared = shared(2, One, 3);
    let machine = Machine::new(&shared);
    let (here, there) = (machine.process(&shared), machine.process(&shared));
    let first = here.consumer("first").require_producer();
    let mut first = first.join().unwrap();
    let mut producer = there.producer().unwrap();
    let mortal = Mortal::new(producer.row());
    let until_over = mortal.until_over();
    let dying = thread::spawn({
        let (machine, mortal) = (Arc::clone(&machine), Arc::clone(&mortal));
        move || {
            machine.dies_at(&mortal, producer.row(), Step::Stamp);
            _ = producer.publish_value(10);
            producer
        }
    });
    assert_eq!(read_to(&mut first, 10), [10]);
    mortal.wait_for_death();
    let joining = thread::spawn(move || here.consumer("second").join().map(drop));
    assert_eq!(first.next_batch().map(drop), Err(Ended::NoProducer));
    assert_eq!(joining.join().unwrap(), Ok(()));
    drop(until_over);
    dying.join().unwrap();
}

/// A consumer leaves while another joins, and perhaps has the table locked; a producer goes on.
fn a_consumer_leaves_while_another_joins() {
    let shared = shared(2, Many, 3);
    let machine = Machine::new(&shared);
    let [a, b, c] = [(); 3].map(|()| machine.process(&shared));
    let mut leaving = a.consumer("leaving").join().unwrap();
    let mut producer = c.shared_producer().unwrap();
    producer.publish_value(0).unwrap();
    producer.publish_value(1).unwrap();
    let mut batch = leaving.try_next_batch().unwrap();
    batch.release(1);
    batch.give_back();
    let going_on = thread::spawn(move || {
        drop(leaving);
        let wrote = producer.try_publish(|event| *event = 2).is_ok();
        (producer, wrote)
    });
    let mut late = b.consumer("late").start(Start::Oldest).join().unwrap();
    let mut next = late.try_next_batch().map(|batch| {
        assert!(
            batch
                .with_sequences()
                .all(|(sequence, event)| *event == sequence)
        );
        batch.sequences().end
    });
    let (mut producer, wrote) = going_on.join().unwrap();
    let published = 2 + u64::from(wrote);
    producer.publish_value(published).unwrap();
    while let Ok(batch) = late.try_next_batch() {
        assert!(
            batch
                .with_sequences()
                .all(|(sequence, event)| *event == sequence)
        );
        assert!(
            next.is_err() || next == Ok(batch.sequences().start),
            "an event is left out"
        );
        next = Ok(batch.sequences().end);
    }
    assert_eq!(late.position(), published + 1);
}

macro_rules! models {
    ($($name:ident: $scenario:ident($($argument:expr),*),)*) => {$(
        #[test]
        fn $name() {
            model(concat!("r8 ", stringify!($name)), || $scenario($($argument),*));
        }
    )*};
}

models! {
    a_process_dies_at_its_intent: a_producer_dies(Step::Intent, false),
    a_process_dies_at_its_exchange: a_producer_dies(Step::Exchange, false),
    a_process_dies_at_its_write: a_producer_dies(Step::Write, false),
    a_process_dies_at_its_stamp: a_producer_dies(Step::Stamp, true),
    a_newcomer_takes_the_row_of_one_that_died_at_its_intent: a_newcomer_takes_the_row(Step::Intent),
    a_newcomer_takes_the_row_of_one_that_died_at_its_exchange: a_newcomer_takes_the_row(Step::Exchange),
    the_only_process_that_publishes_dies_at_its_write: the_only_producer_is_succeeded(Step::Write, false),
    the_only_process_that_publishes_dies_at_its_stamp: the_only_producer_is_succeeded(Step::Stamp, true),
    the_only_process_that_publishes_dies_when_it_is_done: the_only_producer_is_succeeded(Step::Publish, true),
    a_process_dies_at_the_end_of_its_batch: a_consumer_dies(Step::End),
    a_process_dies_at_its_release: a_consumer_dies(Step::Release),
    // Shows D38.
    d38_a_join_and_a_wait_find_out_that_the_producer_died_behind_a_stamp: the_only_producer_dies_behind_a_stamp(),
    d36_a_consumer_leaves_while_another_joins_at_the_oldest: a_consumer_leaves_while_another_joins(),
    a_process_dies_with_a_row: a_joiner_dies(Step::Row),
    a_process_dies_when_it_enters: a_joiner_dies(Step::Enter),
    a_process_dies_when_it_is_counted: a_joiner_dies(Step::Count),
    a_process_dies_when_it_has_joined: a_joiner_dies(Step::Join),
}
