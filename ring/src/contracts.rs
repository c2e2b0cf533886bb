//! Contracts that the compiler enforces, each as a program that is refused and a twin, as close as can
//! be, that is not.
//!
//! # A slot is written in its closure only
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let mut kept = None;
//! feed.publish(|slot| kept = Some(slot)).unwrap();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let mut kept = None;
//! feed.publish(|slot| kept = Some(*slot)).unwrap();
//! ```
//!
//! # A slot of a claim is not written once the claim is published
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let mut claim = feed.claim(1).unwrap();
//! let slot = &mut claim[0];
//! claim.publish();
//! *slot = 7;
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let mut claim = feed.claim(1).unwrap();
//! let slot = &mut claim[0];
//! *slot = 7;
//! claim.publish();
//! ```
//!
//! # A claim does not outlive its producer
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let claim = feed.claim(1).unwrap();
//! drop(feed);
//! claim.publish();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let claim = feed.claim(1).unwrap();
//! claim.publish();
//! drop(feed);
//! ```
//!
//! # A claim is published once
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let claim = feed.claim(1).unwrap();
//! claim.publish();
//! claim.publish();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let claim = feed.claim(1).unwrap();
//! claim.publish();
//! ```
//!
//! # A producer has one claim at a time
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let first = feed.claim(1).unwrap();
//! let second = feed.claim(1).unwrap();
//! first.publish();
//! second.publish();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut feed = ring.producer().unwrap();
//! let first = feed.claim(1).unwrap();
//! first.publish();
//! let second = feed.claim(1).unwrap();
//! second.publish();
//! ```
//!
//! # An event is not read once it is released
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut book = ring.consumer("book").join().unwrap();
//! # ring.producer().unwrap().publish_value(7).unwrap();
//! let mut batch = book.next_batch().unwrap();
//! let price = &batch[0];
//! batch.release(1);
//! assert_eq!(*price, 7);
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut book = ring.consumer("book").join().unwrap();
//! # ring.producer().unwrap().publish_value(7).unwrap();
//! let mut batch = book.next_batch().unwrap();
//! let price = &batch[0];
//! assert_eq!(*price, 7);
//! batch.release(1);
//! ```
//!
//! # A consumer has one batch at a time
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut book = ring.consumer("book").batch_limit(1).join().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let first = book.next_batch().unwrap();
//! let second = book.next_batch().unwrap();
//! assert_eq!(first[0], second[0]);
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut book = ring.consumer("book").batch_limit(1).join().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let first = book.next_batch().unwrap()[0];
//! let second = book.next_batch().unwrap()[0];
//! assert_eq!(first, second);
//! ```
//!
//! # An event is not changed once its batch is gone
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &mut batch[0];
//! drop(batch);
//! *price = 7;
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &mut batch[0];
//! *price = 7;
//! drop(batch);
//! ```
//! Nor once it is released, or held:
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = batch.iter_mut().next().unwrap();
//! batch.release(1);
//! *price = 7;
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = batch.iter_mut().next().unwrap();
//! *price = 7;
//! batch.release(1);
//! ```
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &mut batch[0];
//! batch.hold();
//! *price = 7;
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &mut batch[0];
//! *price = 7;
//! batch.hold();
//! ```
//!
//! # An event that is changed is not read meanwhile
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &batch[0];
//! batch.iter_mut().for_each(|price| *price = 7);
//! assert_eq!(*price, 7);
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! let mut batch = enrich.next_batch_mut().unwrap();
//! let price = &batch[0];
//! assert_eq!(*price, 0);
//! batch.iter_mut().for_each(|price| *price = 7);
//! ```
//!
//! # An event that is held is not read once it is released
//!
//! Shows C15.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! enrich.next_batch_mut().unwrap().hold();
//! let (_, price) = enrich.held().next().unwrap();
//! enrich.release_until(1);
//! assert_eq!(*price, 0);
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! # let mut enrich = ring.consumer("enrich").join_mut().unwrap();
//! # ring.producer().unwrap().publish_batch(2, |_| ()).unwrap();
//! enrich.next_batch_mut().unwrap().hold();
//! let (_, price) = enrich.held().next().unwrap();
//! assert_eq!(*price, 0);
//! enrich.release_until(1);
//! ```
//!
//! # A consumer that is not ordered against all others does not get to change events
//!
//! By its place:
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! let mut book = ring.consumer("book").join().unwrap();
//! let mut risk = ring.consumer("risk").after(["book"]).join_mut().unwrap();
//! std::mem::swap(&mut *risk, &mut book);
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! let mut book = ring.consumer("book").join().unwrap();
//! let mut risk = ring.consumer("risk").after(["book"]).join().unwrap();
//! std::mem::swap(&mut risk, &mut book);
//! ```
//! By its batch:
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! let mut book = ring.consumer("book").join().unwrap();
//! # ring.producer().unwrap().publish_value(7).unwrap();
//! let mut batch = book.next_batch().unwrap();
//! batch[0] = 8;
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # let ring = Ring::builder(8).build(u64::default).unwrap();
//! let mut book = ring.consumer("book").join_mut().unwrap();
//! # ring.producer().unwrap().publish_value(7).unwrap();
//! let mut batch = book.next_batch_mut().unwrap();
//! batch[0] = 8;
//! ```
//!
//! # Events can be sent between threads
//!
//! Shows C22.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! let ring = Ring::builder(8).build(std::rc::Rc::<u64>::default).unwrap();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! let ring = Ring::builder(8).build(Box::<u64>::default).unwrap();
//! ```
//! A type that can be shared and not sent is refused as well:
//! ```compile_fail
//! # use annulus_ring::Ring;
//! struct Stays(*const u8);
//! unsafe impl Sync for Stays {}
//! let ring = Ring::builder(8).build(|| Stays(std::ptr::null())).unwrap();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! struct Stays(*const u8);
//! unsafe impl Sync for Stays {}
//! unsafe impl Send for Stays {}
//! let ring = Ring::builder(8).build(|| Stays(std::ptr::null())).unwrap();
//! ```
//!
//! # Events can be shared between threads
//!
//! Several consumers read one event at the same time.
//!
//! Shows C22.
//! ```compile_fail
//! # use annulus_ring::Ring;
//! # use std::cell::Cell;
//! let ring = Ring::builder(8).build(|| Cell::new(0)).unwrap();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! # use std::cell::Cell;
//! let ring = Ring::builder(8).build(|| Cell::new(0).get()).unwrap();
//! ```
//!
//! # Members go to other threads
//!
//! Shows C22.
//! ```
//! # use annulus_ring::{Batch, Claim, Consumer, ConsumerBuilder, Events, Held, MutableBatch, MutableConsumer};
//! # use annulus_ring::{Producer, Ring, SharedProducer};
//! fn is_send<T: Send>() {}
//! fn is_shared<T: Sync>() {}
//! is_send::<Ring<u64>>();
//! is_send::<ConsumerBuilder<u64>>();
//! is_send::<Producer<u64>>();
//! is_send::<SharedProducer<u64>>();
//! is_send::<Consumer<u64>>();
//! is_send::<MutableConsumer<u64>>();
//! is_send::<Claim<u64>>();
//! is_send::<Batch<u64>>();
//! is_send::<MutableBatch<u64>>();
//! is_send::<Events<u64>>();
//! is_send::<Held<u64>>();
//! is_shared::<Ring<u64>>();
//! is_shared::<Batch<u64>>();
//! is_shared::<Events<u64>>();
//! is_shared::<Held<u64>>();
//! ```
//! Members of rings that cannot be built, because of their events, do not:
//! ```compile_fail
//! # use annulus_ring::Consumer;
//! fn is_send<T: Send>() {}
//! is_send::<Consumer<std::rc::Rc<u64>>>();
//! ```
//! ```
//! # use annulus_ring::Consumer;
//! fn is_send<T: Send>() {}
//! is_send::<Consumer<Box<u64>>>();
//! ```
//! ```compile_fail
//! # use annulus_ring::Ring;
//! fn is_shared<T: Sync>() {}
//! is_shared::<Ring<std::cell::Cell<u64>>>();
//! ```
//! ```
//! # use annulus_ring::Ring;
//! fn is_shared<T: Sync>() {}
//! is_shared::<Ring<u64>>();
//! ```
