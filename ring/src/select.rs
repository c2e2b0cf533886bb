//! Waiting for any of several consumers, of one ring or of several.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use crate::consumer::Consumer;
use crate::refusal::debug_as_text;
use crate::sync::Fences;
use crate::wait::{Patience, Wait, Waiter};

/// A consumer, whatever its events, as one of several to wait for.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Waiting, try_any};
/// # let trades = Ring::builder(8).build(u64::default)?;
/// # let quotes = Ring::builder(8).build(String::new)?;
/// let mut trade = trades.consumer("book").join()?;
/// let mut quote = quotes.consumer("book").join()?;
/// let mut both: [&mut dyn Waiting; 2] = [&mut trade, &mut quote];
/// assert_eq!(try_any(&mut both), None);
/// trades.producer()?.publish_value(7)?;
/// assert_eq!(try_any(&mut both), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Waiting: sealed::Waiting {}

impl<T> Waiting for Consumer<T> {}

mod sealed {
    use std::time::Duration;

    use crate::sync::Fences;
    use crate::wait::EventCount;

    pub trait Waiting {
        /// Asked at once, or after a pause that was short or not.
        fn is_ready(&mut self, was_short: bool) -> bool;
        fn what_wakes(&self) -> Place<'_>;
        fn parking(&self) -> Option<Parking>;
        /// How long to sleep at most.
        fn longest_sleep(&self) -> Option<Duration>;
        /// The wait is over.
        fn is_awake(&self);
    }

    /// Where a consumer is woken; not for users to look into.
    pub struct Place<'c>(pub(super) &'c EventCount);

    /// How it and those who wake it stay in order; nor this.
    pub struct Parking(pub(super) Fences);
}

impl<T> sealed::Waiting for Consumer<T> {
    fn is_ready(&mut self, was_short: bool) -> bool {
        Consumer::is_ready(self, was_short)
    }

    fn what_wakes(&self) -> sealed::Place<'_> {
        sealed::Place(Consumer::what_wakes(self))
    }

    fn parking(&self) -> Option<sealed::Parking> {
        Consumer::parking(self).map(sealed::Parking)
    }

    fn longest_sleep(&self) -> Option<Duration> {
        Consumer::longest_sleep(self)
    }

    fn is_awake(&self) {
        Consumer::give_up_the_duty(self);
    }
}

/// Waits until the next call for a batch of any of these consumers would not wait, and returns the index
/// of the first such.
///
/// A ring that is closed and drained, or poisoned, is ready for ever: take its consumer out. The first in
/// the list goes first: rotate it to be fair. How the consumers wait by themselves does not matter here.
///
/// # Errors
/// If `wait` is to park and one of their rings was built without [parking](crate::RingBuilder::parking).
///
/// # Panics
/// If there are no consumers.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Wait, wait_any};
/// let trades = Ring::builder(8).build(u64::default)?;
/// let quotes = Ring::builder(8).build(String::new)?;
/// let mut trade = trades.consumer("book").join()?;
/// let mut quote = quotes.consumer("book").join()?;
/// quotes.producer()?.publish(|quote| quote.push_str("585.69"))?;
/// assert_eq!(wait_any(&mut [&mut trade, &mut quote], Wait::Yield)?, 1);
/// assert_eq!(quote.next_batch()?[0], "585.69");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any(consumers: &mut [&mut dyn Waiting], wait: Wait) -> Result<usize, NoParking> {
    let ready = wait_for(consumers, wait, Patience::Forever)?;
    Ok(ready.expect("patience has no end"))
}

/// As [`wait_any`], until `deadline`: then returns `None`.
///
/// # Errors
/// As [`wait_any`].
///
/// # Panics
/// As [`wait_any`].
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Wait, wait_any_deadline};
/// # use std::time::{Duration, Instant};
/// # let trades = Ring::builder(8).build(u64::default)?;
/// # let quotes = Ring::builder(8).build(String::new)?;
/// # let mut trade = trades.consumer("book").join()?;
/// # let mut quote = quotes.consumer("book").join()?;
/// let deadline = Instant::now() + Duration::from_millis(1);
/// assert_eq!(wait_any_deadline(&mut [&mut trade, &mut quote], Wait::Yield, deadline)?, None);
/// quotes.producer()?.publish(|quote| quote.push_str("585.69"))?;
/// assert_eq!(wait_any_deadline(&mut [&mut trade, &mut quote], Wait::Yield, deadline)?, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any_deadline(
    consumers: &mut [&mut dyn Waiting],
    wait: Wait,
    deadline: Instant,
) -> Result<Option<usize>, NoParking> {
    wait_for(consumers, wait, Patience::Until(deadline))
}

/// As [`wait_any`], without waiting: `None` if none is ready.
///
/// # Examples
/// See [`Waiting`].
pub fn try_any(consumers: &mut [&mut dyn Waiting]) -> Option<usize> {
    first_ready(consumers, true)
}

fn first_ready(consumers: &mut [&mut dyn Waiting], was_short: bool) -> Option<usize> {
    consumers
        .iter_mut()
        .position(|consumer| consumer.is_ready(was_short))
}

fn wait_for(
    consumers: &mut [&mut dyn Waiting],
    wait: Wait,
    patience: Patience,
) -> Result<Option<usize>, NoParking> {
    assert!(!consumers.is_empty(), "there is nobody to wait for");
    if wait == Wait::Park
        && let Some(consumer) = consumers
            .iter()
            .position(|consumer| consumer.parking().is_none())
    {
        return Err(NoParking { consumer });
    }
    let parking = (consumers.iter()).filter_map(|consumer| consumer.parking());
    let parking = parking.map(|parking| parking.0).reduce(Fences::and);
    let mut waiter = Waiter::new(wait, patience, parking);
    let ready = loop {
        let ready = first_ready(consumers, waiter.was_short);
        if ready.is_some() {
            break ready;
        }
        let places = consumers.iter().map(|consumer| consumer.what_wakes().0);
        let at_most = || {
            (consumers.iter())
                .filter_map(|consumer| consumer.longest_sleep())
                .min()
        };
        if !waiter.pause_at_any(places, at_most) {
            break None;
        }
    };
    consumers.iter().for_each(|consumer| consumer.is_awake());
    Ok(ready)
}

/// A consumer cannot be waited for by parking.
///
/// # Examples
/// ```
/// # use annulus_ring::{Ring, Wait, wait_any};
/// let trades = Ring::builder(8).parking().build(u64::default)?;
/// let quotes = Ring::builder(8).build(String::new)?;
/// let mut trade = trades.consumer("book").join()?;
/// let mut quote = quotes.consumer("book").join()?;
/// let error = wait_any(&mut [&mut trade, &mut quote], Wait::Park).unwrap_err();
/// assert_eq!(error.consumer, 1);
/// assert!(error.to_string().contains("built without parking"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NoParking {
    /// Its index among those given.
    pub consumer: usize,
}

impl fmt::Display for NoParking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "consumer {} of those to wait for has a ring that was built without parking: build it with \
             .parking(), or choose another way to wait",
            self.consumer
        )
    }
}

debug_as_text!(NoParking);

impl Error for NoParking {}
