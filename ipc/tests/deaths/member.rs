//! A member of a ring in a process of its own, which does what it is told, line by line, until it ends itself.

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::ops::DerefMut;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::{env, fmt};

use annulus_ipc::{Directory, Plain, Segment, at_each_point_of_creation};
use annulus_ring::{
    Consumer, Layout, MutableConsumer, OnDeath, Producer, Producers, Ring, RingBuilder,
    SharedProducer, Wait, at_each_step,
};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Event {
    pub(crate) who: u64,
    /// Each producer counts its own.
    pub(crate) number: u64,
}

/// A stage has changed it; in its number.
pub(crate) const CHANGED: u64 = 1 << 63;

/// Where a ring is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) name: String,
}

pub(crate) const DIRECTORY: &str = "ANNULUS_DEATHS_DIRECTORY";
pub(crate) const NAME: &str = "ANNULUS_DEATHS_NAME";

pub(crate) const CAPACITY: usize = 8;

/// How many rows its table has.
pub(crate) const MEMBERS: usize = 8;

/// The ring of all combinations.
pub(crate) fn ring(producers: Producers, layout: Layout) -> RingBuilder {
    Ring::builder(CAPACITY)
        .producers(producers)
        .layout(layout)
        .members(MEMBERS)
}

/// A producer of either kind.
pub(crate) enum Feed {
    Only(Producer<Event>),
    Shared(SharedProducer<Event>),
}

impl Feed {
    pub(crate) fn join(ring: &Ring<Event>, producers: Producers, wait: Wait) -> Self {
        let joined = match producers {
            Producers::One => {
                (ring.producer().and_then(|feed| feed.with_wait(wait))).map(Self::Only)
            }
            Producers::Many => {
                (ring.shared_producer().and_then(|feed| feed.with_wait(wait))).map(Self::Shared)
            }
        };
        joined.unwrap_or_else(|error| panic!("a producer cannot join: {error}"))
    }

    pub(crate) fn producer(&mut self) -> &mut Producer<Event> {
        match self {
            Self::Only(feed) => feed,
            Self::Shared(feed) => feed.deref_mut(),
        }
    }
}

/// The place of the ring, in a process that has been started to be a member of it.
pub(crate) fn place_of_this_one() -> Option<Place> {
    Some(Place {
        directory: env::var_os(DIRECTORY)?.into(),
        name: env::var(NAME).ok()?,
    })
}

/// Obeys until there are no more orders.
pub(crate) fn obey(place: Place) -> ExitCode {
    // So that nobody is left stopped whose parent has gone.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("deaths: {error}");
        return ExitCode::FAILURE;
    }
    let points = Points::default();
    let (steps, creation) = (points.clone(), points.clone());
    at_each_step(move |step| steps.reach(&format!("{step:?}")));
    at_each_point_of_creation(move |point| creation.reach(&format!("{point:?}")));
    let mut member = Member {
        place,
        points,
        ring: None,
        feed: None,
        consumer: None,
        changer: None,
    };
    for order in io::stdin().lines() {
        let Ok(order) = order else { break };
        match member.obey(&order) {
            Ok(answer) => say(&answer),
            Err(error) => say(&format!("failed {order:?}: {error}")),
        }
    }
    ExitCode::SUCCESS
}

/// Written as a whole and at once: what is said before a death is heard.
fn say(line: &str) {
    println!("{line}");
}

/// What is to happen at which points.
#[derive(Clone, Default)]
struct Points(Rc<RefCell<Armed>>);

#[derive(Default)]
struct Armed {
    /// Ends, or stops, when it reaches this point so many times more.
    last: Option<(String, u32, Signal)>,
    /// Says so, once, when it reaches this one.
    noted: Option<String>,
}

impl Points {
    fn reach(&self, point: &str) {
        let mut armed = self.0.borrow_mut();
        if armed.noted.as_deref() == Some(point) {
            armed.noted = None;
            say(&format!("noted {point}"));
        }
        match &mut armed.last {
            Some((last, times, _)) if last == point => *times -= 1,
            _ => return,
        }
        if let Some((_, _, signal)) = armed.last.take_if(|(_, times, _)| *times == 0) {
            say(&format!("reached {point}"));
            kill_process(getpid(), signal).expect("a process may end itself");
        }
    }
}

struct Member {
    place: Place,
    points: Points,
    ring: Option<Segment<Event>>,
    feed: Option<Feed>,
    consumer: Option<Consumer<Event>>,
    changer: Option<MutableConsumer<Event>>,
}

#[derive(Debug)]
struct NotUnderstood;

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order is not understood")
    }
}

impl Error for NotUnderstood {}

impl Member {
    fn obey(&mut self, order: &str) -> Result<String, Box<dyn Error>> {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["open"] => {
                let directory = Directory::at(&self.place.directory);
                self.ring = Some(directory.open(&self.place.name)?);
                Ok("opened".to_owned())
            }
            ["create", producers, layout] => {
                let ring = ring(producers_of(producers)?, layout_of(layout)?);
                let builder =
                    Segment::builder(ring).directory(Directory::at(&self.place.directory));
                self.ring = Some(builder.create(&self.place.name)?);
                Ok("created".to_owned())
            }
            ["arm", point, times, signal] => {
                let signal = match signal {
                    "Killed" => Signal::KILL,
                    _ => Signal::STOP,
                };
                self.points.0.borrow_mut().last = Some((point.to_owned(), times.parse()?, signal));
                Ok("armed".to_owned())
            }
            ["note", point] => {
                self.points.0.borrow_mut().noted = Some(point.to_owned());
                Ok("noting".to_owned())
            }
            ["feed", producers, wait] => {
                let ring = self.ring.as_ref().ok_or(NotUnderstood)?;
                self.feed = Some(Feed::join(ring, producers_of(producers)?, wait_of(wait)?));
                Ok("joined 0".to_owned())
            }
            ["publish", n, who, first] => {
                let (n, who, first) = (n.parse()?, who.parse()?, first.parse::<u64>()?);
                let feed = self.feed.as_mut().ok_or(NotUnderstood)?.producer();
                let published = feed.publish_batch(n, |slots| {
                    for (slot, number) in slots.zip(first..) {
                        *slot = Event { who, number };
                    }
                })?;
                Ok(format!("published {} {}", published.start, published.end))
            }
            ["join", name, after, on_death, wait] => self.join(name, after, on_death, wait),
            ["change", name, after, wait] => {
                let ring = self.ring.as_ref().ok_or(NotUnderstood)?;
                let builder = ring.consumer(name).wait(wait_of(wait)?).after([after]);
                let changer = builder.join_mut()?;
                let position = changer.position();
                self.changer = Some(changer);
                Ok(format!("joined {position}"))
            }
            ["take"] if self.changer.is_some() => self.take_and_change(),
            ["take"] => self.take(),
            ["hold"] => {
                let consumer = self.consumer.as_mut().ok_or(NotUnderstood)?;
                let batch = consumer.next_batch()?;
                let end = batch.sequences().end;
                batch.hold();
                Ok(format!("held {end}"))
            }
            ["release", sequence] => {
                let consumer = self.consumer.as_mut().ok_or(NotUnderstood)?;
                consumer.release_until(sequence.parse()?);
                Ok(format!("released {}", consumer.position()))
            }
            ["leave"] => {
                self.feed = None;
                if let Some(consumer) = self.consumer.take() {
                    consumer.leave();
                }
                self.changer = None;
                Ok("left".to_owned())
            }
            ["close"] => {
                self.ring.as_ref().ok_or(NotUnderstood)?.close();
                Ok("done".to_owned())
            }
            ["poison", reason] => {
                let ring = self.ring.as_ref().ok_or(NotUnderstood)?;
                ring.poison(reason.parse()?);
                Ok("done".to_owned())
            }
            _ => Err(NotUnderstood.into()),
        }
    }

    fn join(
        &mut self,
        name: &str,
        after: &str,
        on_death: &str,
        wait: &str,
    ) -> Result<String, Box<dyn Error>> {
        let ring = self.ring.as_ref().ok_or(NotUnderstood)?;
        let mut builder = ring.consumer(name).wait(wait_of(wait)?).list_skipped();
        if after != "nobody" {
            builder = builder.after([after]);
        }
        builder = match on_death {
            "Hold" => builder.on_death(OnDeath::Hold),
            "Release" => builder.on_death(OnDeath::Release),
            _ => builder,
        };
        let consumer = builder.join()?;
        let position = consumer.position();
        self.consumer = Some(consumer);
        Ok(format!("joined {position}"))
    }

    fn take_and_change(&mut self) -> Result<String, Box<dyn Error>> {
        let changer = self.changer.as_mut().ok_or(NotUnderstood)?;
        for event in &mut changer.next_batch_mut()? {
            event.number |= CHANGED;
        }
        Ok(format!("released {}", changer.position()))
    }

    fn take(&mut self) -> Result<String, Box<dyn Error>> {
        let consumer = self.consumer.as_mut().ok_or(NotUnderstood)?;
        let batch = consumer.next_batch()?;
        for (sequence, event) in batch.sequences().zip(&batch) {
            say(&format!("got {sequence} {} {}", event.who, event.number));
        }
        drop(batch);
        Ok(format!("released {}", consumer.position()))
    }
}

/// The ways to wait that there are, by name.
pub(crate) const WAITS: [(&str, Wait); 4] = [
    ("park", Wait::Park),
    ("spin", Wait::Spin),
    ("yield", Wait::Yield),
    (
        "phased",
        Wait::Phased {
            spins: 200,
            yields: 50,
            sleep: std::time::Duration::from_micros(50),
        },
    ),
];

fn wait_of(word: &str) -> Result<Wait, NotUnderstood> {
    let found = WAITS.iter().find(|(name, _)| *name == word);
    found.map(|(_, wait)| *wait).ok_or(NotUnderstood)
}

fn producers_of(word: &str) -> Result<Producers, NotUnderstood> {
    let all = [Producers::One, Producers::Many];
    let found = all.into_iter().find(|it| format!("{it:?}") == word);
    found.ok_or(NotUnderstood)
}

fn layout_of(word: &str) -> Result<Layout, NotUnderstood> {
    let all = [Layout::Beside, Layout::Apart];
    let found = all.into_iter().find(|it| format!("{it:?}") == word);
    found.ok_or(NotUnderstood)
}
