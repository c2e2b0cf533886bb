//! How long after a death those go on whom it has held up.
//!
//! Again and again a process is started, which holds up a thread of the measuring one, by a claim or at the
//! gate, and is killed. The clock starts when the system reports that death, and stops when the thread has
//! what it waited for. The kills are spread evenly over the time for which a wait may sleep, so that they come
//! at every moment of it.

use std::fmt::Display;
use std::io::{self, BufRead};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annulus_ipc::{Directory, Segment};
use annulus_ring::{ClaimError, Consumer, OnDeath, Producers, Ring, SharedProducer, Wait};

use crate::conduct::{Event as Happening, Other, Part, READY, Thread, conduct, failed};
use crate::cores::{Cores, Role, pin};
use crate::ipc::Place;
use crate::link::{Event, Words};
use crate::scenario::{Dead, Effort, Latency, Sample, Scenario};
use crate::scratch::Scratch;
use crate::two_processes::{Task, TwoProcesses, say_ready};

type Message = Words<1>;

const RING: &str = "ring";

/// No wait lets more time pass before it looks again.
const LONGEST_SLEEP: Duration = Duration::from_millis(5);

/// By then a wait has done with spinning and yielding, if it does so at first only.
const UNTIL_IT_SLEEPS: Duration = Duration::from_millis(1);

/// Our ring between processes, with one way to wait for who is held up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldUpIn(pub(crate) Wait);

impl TwoProcesses for HeldUpIn {
    fn measure(
        &self,
        subject: &str,
        scenario: &Scenario,
        effort: Effort,
        cores: Cores,
        program: &Path,
    ) -> io::Result<Sample> {
        let scratch = Scratch::new()?;
        let place = Place {
            directory: scratch.path().to_owned(),
            plan: scenario.plan(cores),
        };
        let task = Task {
            scenario: scenario.name.to_owned(),
            subject: subject.to_owned(),
            part: Part::Victim,
            directory: scratch.path().to_owned(),
        };
        let program = program.to_owned();
        let deaths = Deaths {
            victim: move || task.command(&program),
            count: effort.deaths(),
        };
        let (wait, dead) = (self.0, dead(scenario)?);
        let measure = move |thread: &Thread| {
            let ring = create(&place)?;
            let sample = match dead {
                Dead::Producer => deaths.hold_up(&place, BehindAClaim::of(&ring, wait)?),
                Dead::Consumer => deaths.hold_up(&place, AtAGate::of(&ring, wait)?),
            };
            thread.tell(Happening::Measured(sample?));
            Ok(())
        };
        let sample = conduct(measure, Vec::new());
        drop(scratch);
        sample
    }

    fn serve(&self, part: Part, scenario: &Scenario, place: &Place) -> io::Result<()> {
        if part != Part::Victim {
            return Err(failed(format!("{part:?} is no part of {}", scenario.name)));
        }
        let ring = Directory::at(&place.directory);
        let ring = ring.open::<Message>(RING).map_err(refused)?;
        match dead(scenario)? {
            Dead::Producer => {
                let mut producer = ring.shared_producer().map_err(refused)?;
                let _claim = producer.claim(1).map_err(refused)?;
                wait_to_be_killed()
            }
            Dead::Consumer => {
                let consumer = ring.consumer("gate").on_death(OnDeath::Release);
                let _consumer = consumer.join().map_err(refused)?;
                wait_to_be_killed()
            }
        }
    }
}

fn dead(scenario: &Scenario) -> io::Result<Dead> {
    let dead = scenario.dead();
    dead.ok_or_else(|| failed(format!("nobody dies in {}", scenario.name)))
}

fn create(place: &Place) -> io::Result<Segment<Message>> {
    let ring = Ring::builder(place.plan.capacity).producers(Producers::Many);
    let segment = Segment::builder(ring).directory(Directory::at(&place.directory));
    segment.create(RING).map_err(refused)
}

fn refused(error: impl Display) -> io::Error {
    failed(format!("the ring: {error}"))
}

fn wait_to_be_killed() -> io::Result<()> {
    say_ready()?;
    loop {
        thread::park();
    }
}

// ---------------------------------------------------------------------------------------------
// Who is held up
// ---------------------------------------------------------------------------------------------

/// Does what somebody in another process holds up.
trait HeldUp: Send + 'static {
    /// All that can be done before.
    fn approach(&mut self) -> io::Result<()>;

    /// Waits until the other one is no more.
    fn pass(&mut self) -> io::Result<()>;

    /// Whether the ring says the same, after so many deaths.
    fn check(&self, deaths: u64) -> io::Result<()>;
}

/// A consumer, whose next event lies behind the claim of another process.
struct BehindAClaim {
    producer: SharedProducer<Message>,
    consumer: Consumer<Message>,
    published: u64,
}

impl BehindAClaim {
    fn of(ring: &Segment<Message>, wait: Wait) -> io::Result<Self> {
        let consumer = ring.consumer("reader").wait(wait).join();
        Ok(Self {
            producer: ring.shared_producer().map_err(refused)?,
            consumer: consumer.map_err(refused)?,
            published: 0,
        })
    }
}

impl HeldUp for BehindAClaim {
    fn approach(&mut self) -> io::Result<()> {
        self.published += 1;
        let message = Message::numbered(self.published);
        let published = self.producer.publish_value(message);
        published.map_err(|rejected| refused(rejected.cause))?;
        Ok(())
    }

    fn pass(&mut self) -> io::Result<()> {
        let batch = self.consumer.next_batch().map_err(refused)?;
        let numbers: Vec<u64> = batch.iter().map(Event::number).collect();
        if numbers == [self.published] {
            return Ok(());
        }
        Err(failed(format!(
            "{numbers:?} came instead of {}",
            self.published
        )))
    }

    fn check(&self, deaths: u64) -> io::Result<()> {
        let skipped = self.consumer.skipped();
        if skipped == deaths {
            return Ok(());
        }
        Err(failed(format!(
            "{deaths} claims were abandoned, and {skipped} skipped"
        )))
    }
}

/// A producer, for which there is no room until a consumer in another process releases something.
struct AtAGate {
    producer: SharedProducer<Message>,
}

impl AtAGate {
    fn of(ring: &Segment<Message>, wait: Wait) -> io::Result<Self> {
        let producer = ring.shared_producer().map_err(refused)?;
        Ok(Self {
            producer: producer.with_wait(wait).map_err(refused)?,
        })
    }
}

impl HeldUp for AtAGate {
    fn approach(&mut self) -> io::Result<()> {
        for _ in 0..=self.producer.capacity() {
            match self.producer.try_claim(1) {
                Ok(claim) => _ = claim.publish(),
                Err(ClaimError::Full { .. }) => return Ok(()),
                Err(error) => return Err(refused(error)),
            }
        }
        Err(failed("nobody holds up the producer"))
    }

    fn pass(&mut self) -> io::Result<()> {
        self.producer.claim(1).map_err(refused)?.publish();
        Ok(())
    }

    fn check(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// What the thread says that is held up.
enum Told {
    Waits,
    GoesOn(Instant),
}

/// Is held up as often as it is asked to.
fn be_held_up(
    mut held_up: impl HeldUp,
    asked: &mpsc::Receiver<()>,
    tell: &mpsc::Sender<Told>,
) -> io::Result<()> {
    let mut times = 0;
    for () in asked {
        held_up.approach()?;
        let _ = tell.send(Told::Waits); // Nobody listens only if all has failed already.
        held_up.pass()?;
        let _ = tell.send(Told::GoesOn(Instant::now()));
        times += 1;
    }
    held_up.check(times)
}

// ---------------------------------------------------------------------------------------------
// Who kills
// ---------------------------------------------------------------------------------------------

/// Those who die, one after the other.
struct Deaths<V> {
    /// What starts one of them.
    victim: V,
    count: u64,
}

impl<V: Fn() -> io::Result<Command>> Deaths<V> {
    /// Has a thread held up by each, and takes the time from each death until it goes on.
    fn hold_up(&self, place: &Place, held_up: impl HeldUp) -> io::Result<Sample> {
        let (ask, asked) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        // This thread is not pinned: those whom it starts would be as well.
        let core = place.plan.cores.of(Role::Consumer(0));
        let waiting = thread::spawn(move || {
            pin(core);
            be_held_up(held_up, &asked, &tell)
        });
        let began = Instant::now();
        let mut times = Vec::new();
        for number in 0..self.count {
            match self.die(number, &ask, &told)? {
                Some(time) => times.push(time),
                None => break, // It says why.
            }
        }
        let taken = began.elapsed();
        drop(ask);
        match waiting.join() {
            Ok(outcome) => outcome?,
            Err(_) => return Err(failed("the thread that was held up panicked")),
        }
        Ok(Sample {
            events: self.count,
            taken,
            latency: Some(percentiles(times)),
        })
    }

    /// Holds the thread up and dies; returns how long after that it went on, or nothing if it has ended.
    fn die(
        &self,
        number: u64,
        ask: &mpsc::Sender<()>,
        told: &mpsc::Receiver<Told>,
    ) -> io::Result<Option<Duration>> {
        let (mut victim, mut output) = Other::spawn(Part::Victim, (self.victim)()?)?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim_end() != READY {
            return Err(victim.ended_early());
        }
        let (Ok(()), Ok(Told::Waits)) = (ask.send(()), told.recv()) else {
            return Ok(None);
        };
        thread::sleep(moment_of(number));
        if told.try_recv().is_ok() {
            return Err(failed("it went on while the one it waits for was alive"));
        }
        victim.child.kill()?;
        victim.child.wait()?;
        let reported = Instant::now();
        Ok(match told.recv() {
            // Locks go before the report comes, so it can have been faster than that.
            Ok(Told::GoesOn(time)) => Some(time.saturating_duration_since(reported)),
            _ => None,
        })
    }
}

/// How long after the wait has begun the death of this number comes: multiples of the golden ratio lie evenly,
/// however many there are.
fn moment_of(number: u64) -> Duration {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_8;
    UNTIL_IT_SLEEPS + LONGEST_SLEEP.mul_f64((number as f64 * GOLDEN_RATIO).fract())
}

/// Of at least one time, in microseconds. Each is one of the times.
fn percentiles(mut times: Vec<Duration>) -> Latency {
    times.sort_unstable();
    let at = |quantile: f64| {
        let rank = (quantile * times.len() as f64).ceil() as usize;
        times[rank.clamp(1, times.len()) - 1].as_secs_f64() * 1e6
    };
    Latency {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    #[test]
    fn percentiles_are_those_of_the_times() {
        let times = |count| (1..=count).rev().map(Duration::from_micros).collect();
        let of = |count| {
            let Latency { p50, p99, p999 } = percentiles(times(count));
            [p50, p99, p999].map(f64::round)
        };
        assert_eq!(of(1), [1.0, 1.0, 1.0]);
        assert_eq!(of(20), [10.0, 20.0, 20.0]);
        assert_eq!(of(100), [50.0, 99.0, 100.0]);
        assert_eq!(of(1_000), [500.0, 990.0, 999.0]);
    }

    #[test]
    fn deaths_come_at_every_moment_of_a_wait() {
        let mut tenths = [0; 10];
        for number in 0..20 {
            let into_it = moment_of(number) - UNTIL_IT_SLEEPS;
            tenths[(10.0 * into_it.as_secs_f64() / LONGEST_SLEEP.as_secs_f64()) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| count > 0), "{tenths:?}");
    }

    /// In a directory of its own.
    fn place(scratch: &Scratch, dead: Dead) -> Place {
        let is_it = |scenario: &&Scenario| scenario.dead() == Some(dead);
        let scenario = SCENARIOS.iter().find(is_it).unwrap();
        Place {
            directory: scratch.path().to_owned(),
            plan: scenario.plan(Cores::default()),
        }
    }

    /// Why it fails if this is who dies.
    fn message_if_this_dies(script: &'static str) -> String {
        let scratch = Scratch::new().unwrap();
        let place = place(&scratch, Dead::Producer);
        let ring = create(&place).unwrap();
        let victim = move || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Ok(command)
        };
        let consumer = BehindAClaim::of(&ring, Wait::default()).unwrap();
        let outcome = Deaths { victim, count: 3 }.hold_up(&place, consumer);
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn who_dies_too_early_is_an_error() {
        let message = message_if_this_dies("exit 3");
        assert!(message.contains("was to be killed has ended"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
    }

    #[test]
    fn who_holds_up_nobody_is_an_error_and_not_a_figure() {
        // Whatever the moment: if it has gone on only after the kill, nothing was skipped.
        let message = message_if_this_dies("echo ready; exec sleep 600");
        let reasons = ["was alive", "0 skipped"];
        assert!(reasons.iter().any(|it| message.contains(it)), "{message}");

        let scratch = Scratch::new().unwrap();
        let ring = create(&place(&scratch, Dead::Consumer)).unwrap();
        let mut producer = AtAGate::of(&ring, Wait::default()).unwrap();
        let message = producer.approach().unwrap_err().to_string();
        assert!(message.contains("nobody holds up"), "{message}");
    }
}
