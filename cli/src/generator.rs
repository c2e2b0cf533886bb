//! A made-up but plausible trading day: the same seed gives the same messages for ever.
//!
//! The mix of messages is that of a real hour of Apple on NASDAQ. The stream is consistent: what is
//! cancelled, deleted or executed rests in the book, executions hit the best level, and bids stay
//! below asks.

use std::collections::BTreeMap;

use crate::market::{Kind, Message, Side};

/// More would not end before midnight.
pub(crate) const MOST_EVENTS: u32 = 100_000_000;

const START_NS: u64 = 34_200 * 1_000_000_000;
const LONGEST_PAUSE_NS: u64 = 1_000_000;
const TICK: i64 = 100;
const START_PRICE: i64 = 5_850_000;
/// The fair price moves by one tick once in so many messages.
const STEADINESS: u64 = 50;
/// New orders rest up to this many ticks away from the fair price.
const REACH: u64 = 32;
/// Resting orders of one side: below the least only submissions come, at the most the furthest
/// order goes instead.
const LEAST_RESTING: usize = 8;
const MOST_RESTING: usize = 512;
/// How often each kind came in the real hour. Crosses and halts did not; here each comes once in
/// `RARE` messages.
const MIX: [(Kind, u64); 5] = [
    (Kind::Submission, 44_256),
    (Kind::Cancellation, 469),
    (Kind::Deletion, 41_004),
    (Kind::ExecutionVisible, 4_067),
    (Kind::ExecutionHidden, 2_201),
];
const MIX_TOTAL: u64 = 91_997;
const RARE: u64 = 1 << 16;

/// The prices in the state column of halts.
const HALTED: i64 = -1;
const RESUMED: i64 = 1;

/// An endless stream of messages.
pub(crate) struct Generator {
    random: SplitMix64,
    time_ns: u64,
    /// What a share is worth: walks at random, and orders are placed around it.
    fair: i64,
    next_order_id: u64,
    halted: bool,
    bids: Resting,
    asks: Resting,
}

impl Iterator for Generator {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.time_ns += 1 + self.random.below(LONGEST_PAUSE_NS);
        match self.random.below(2 * STEADINESS) {
            // Prices stay positive however long the walk.
            0 if self.fair > START_PRICE / 2 => self.fair -= TICK,
            1 => self.fair += TICK,
            _ => {}
        }
        let (kind, side) = self.draw();
        let (order_id, price, shares) = match kind {
            Kind::Halt => (0, if self.halted { HALTED } else { RESUMED }, 0),
            Kind::Cross => (0, self.fair, 100 * self.shares()),
            Kind::ExecutionHidden => (0, self.resting(side).best_price()?, self.shares()),
            Kind::Submission => self.submit(side),
            Kind::Cancellation | Kind::Deletion | Kind::ExecutionVisible => {
                self.reduce(kind, side)?
            }
        };
        Some(Message {
            time_ns: self.time_ns,
            order_id,
            price,
            shares,
            kind,
            side,
        })
    }
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: SplitMix64::new(seed),
            time_ns: START_NS,
            fair: START_PRICE,
            next_order_id: 1,
            halted: false,
            bids: Resting::new(Side::Buy),
            asks: Resting::new(Side::Sell),
        }
    }

    /// Draws what happens next, and overrules the draw where the book could not follow it.
    fn draw(&mut self) -> (Kind, Side) {
        if self.halted {
            self.halted = false;
            return (Kind::Halt, Side::Sell);
        }
        match self.random.below(RARE) {
            0 => {
                self.halted = true;
                return (Kind::Halt, Side::Sell);
            }
            1 => return (Kind::Cross, Side::Sell),
            _ => {}
        }
        let mut drawn = self.random.below(MIX_TOTAL);
        let mut kind = Kind::Submission;
        for (candidate, share) in MIX {
            if drawn < share {
                kind = candidate;
                break;
            }
            drawn -= share;
        }
        let pull = match kind {
            Kind::ExecutionVisible | Kind::ExecutionHidden => self.pull(),
            _ => None,
        };
        let side = match pull {
            Some(side) => side,
            None if self.random.below(2) == 0 => Side::Buy,
            None => Side::Sell,
        };
        match self.resting(side).orders.len() {
            ..LEAST_RESTING => (Kind::Submission, side),
            MOST_RESTING.. if kind == Kind::Submission => (Kind::Deletion, side),
            _ => (kind, side),
        }
    }

    /// The side whose best price the fair price has passed: trades there drag the book after it.
    fn pull(&self) -> Option<Side> {
        let (bid, ask) = (self.bids.best_price(), self.asks.best_price());
        if ask.is_some_and(|ask| ask <= self.fair) {
            Some(Side::Sell)
        } else if bid.is_some_and(|bid| bid >= self.fair) {
            Some(Side::Buy)
        } else {
            None
        }
    }

    /// Adds an order to the book: its id, price and shares.
    fn submit(&mut self, side: Side) -> (u64, i64, u32) {
        let away = TICK + self.distance();
        // A price that would trade at once is moved back to where it rests.
        let price = match side {
            Side::Buy => {
                let ask = self.asks.best_price().unwrap_or(i64::MAX);
                (self.fair - away).min(ask - TICK)
            }
            Side::Sell => {
                let bid = self.bids.best_price().unwrap_or(0);
                (self.fair + away).max(bid + TICK)
            }
        };
        let shares = self.shares();
        let order_id = self.next_order_id;
        self.next_order_id += 1;
        let resting = self.resting(side);
        let rank = resting.sign * price;
        resting.orders.insert((rank, order_id), shares);
        (order_id, price, shares)
    }

    /// Takes shares from an order in the book: its id, its price and how many; `None` only if the
    /// side is empty.
    fn reduce(&mut self, kind: Kind, side: Side) -> Option<(u64, i64, u32)> {
        let distance = self.distance();
        let part = self.random.next_u64();
        let resting = self.resting(side);
        let (&best, _) = resting.orders.first_key_value()?;
        let (&furthest, _) = resting.orders.last_key_value()?;
        let key = match kind {
            Kind::ExecutionVisible => best,
            Kind::Deletion if resting.orders.len() >= MOST_RESTING => furthest,
            // Most orders that go are as near to the market as most that come.
            _ => {
                let mut from_there = resting.orders.range((best.0 + distance, 0)..);
                from_there.next().map_or(furthest, |(&key, _)| key)
            }
        };
        let rests = resting.orders.get_mut(&key)?;
        let taken = match kind {
            // A cancellation leaves something, if there is more than one share.
            Kind::Cancellation => 1.max((part % u64::from(*rests)) as u32),
            Kind::ExecutionVisible if part.is_multiple_of(4) => {
                1 + (part / 4 % u64::from(*rests)) as u32
            }
            _ => *rests,
        };
        *rests -= taken;
        if *rests == 0 {
            resting.orders.remove(&key);
        }
        Some((key.1, resting.sign * key.0, taken))
    }

    /// How far from the market an order comes or goes; nearer is likelier.
    fn distance(&mut self) -> i64 {
        TICK * self.random.below(REACH).min(self.random.below(REACH)) as i64
    }

    fn shares(&mut self) -> u32 {
        match self.random.below(2) {
            0 => 100,
            _ => 1 + self.random.below(400) as u32,
        }
    }

    fn resting(&mut self, side: Side) -> &mut Resting {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

/// The resting orders of one side with their shares, best and oldest first.
struct Resting {
    /// Turns a price into its rank, and back: the lower the better on both sides.
    sign: i64,
    /// By rank and order id.
    orders: BTreeMap<(i64, u64), u32>,
}

impl Resting {
    fn new(side: Side) -> Self {
        Self {
            sign: match side {
                Side::Buy => -1,
                Side::Sell => 1,
            },
            orders: BTreeMap::new(),
        }
    }

    fn best_price(&self) -> Option<i64> {
        let (&(rank, _), _) = self.orders.first_key_value()?;
        Some(self.sign * rank)
    }
}

/// SplitMix64 by Steele, Lea and Flood (2014), in the form of Vigna's public domain code: ours, so
/// that no dependency can change what a seed means.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias of scaling instead of rejecting is far below what matters
    /// here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Book;
    use crate::stages::Audit;

    const EVENTS: usize = 30_000;

    #[test]
    fn splitmix64_gives_the_reference_numbers() {
        let mut random = SplitMix64::new(1_234_567);
        let numbers = [(); 3].map(|()| random.next_u64());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn a_seed_decides_everything() {
        let messages = |seed| -> Vec<Message> { Generator::new(seed).take(EVENTS).collect() };
        assert_eq!(messages(7), messages(7));
        assert_ne!(messages(7), messages(8));
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut audit = Audit::default();
        for message in Generator::new(1).take(EVENTS) {
            audit.handle(&message);
        }
        assert_eq!(audit.checksum, 12_053_004_307_083_738_111);
    }

    #[test]
    fn every_message_fits_the_book_it_meets() {
        let mut book = Book::default();
        let mut time_ns = 0;
        for message in Generator::new(3).take(EVENTS) {
            let top = book.top();
            assert!(message.time_ns > time_ns, "time goes on");
            time_ns = message.time_ns;
            if message.kind == Kind::ExecutionVisible {
                let best = match message.side {
                    Side::Buy => top.bid,
                    Side::Sell => top.ask,
                };
                assert_eq!(best.map(|level| level.price), Some(message.price));
            }
            book.apply(&message);
            if let (Some(bid), Some(ask)) = (book.top().bid, book.top().ask) {
                assert!(bid.price < ask.price, "{bid:?} {ask:?} after {message:?}");
            }
        }
        assert_eq!(book.unknown_orders(), 0);
    }

    #[test]
    fn the_mix_is_that_of_the_real_hour_and_the_book_stays_bounded() {
        let mut counts = [0_u64; Kind::COUNT];
        let mut generator = Generator::new(5);
        for message in generator.by_ref().take(EVENTS) {
            counts[message.kind as usize] += 1;
        }
        for (kind, share) in MIX {
            let wanted = share * EVENTS as u64 / MIX_TOTAL;
            let off = counts[kind as usize].abs_diff(wanted);
            assert!(off < EVENTS as u64 / 50, "{kind:?}: {counts:?}");
        }
        for side in [generator.bids, generator.asks] {
            assert!((LEAST_RESTING - 1..=MOST_RESTING).contains(&side.orders.len()));
        }
    }

    #[test]
    fn a_halt_is_followed_by_its_end() {
        let mut generator = Generator::new(0).skip_while(|message| message.kind != Kind::Halt);
        let states = [(); 2].map(|()| generator.next().map(|halt| (halt.kind, halt.price)));
        assert_eq!(
            states,
            [HALTED, RESUMED].map(|price| Some((Kind::Halt, price)))
        );
    }
}
