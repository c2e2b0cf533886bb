//! The limit order book: which orders rest, and what the best bid and ask are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::market::{Kind, Level, Message, Side, Top};

/// All resting orders of one instrument, by id and by price.
#[derive(Default)]
pub(crate) struct Book {
    orders: HashMap<u64, Resting, BuildHasherDefault<OrderIdHasher>>,
    bids: BTreeMap<i64, u64>,
    asks: BTreeMap<i64, u64>,
    unknown: u64,
}

impl Book {
    /// Brings the book up to date with one message.
    pub(crate) fn apply(&mut self, message: &Message) {
        match message.kind {
            Kind::Submission => self.add(message),
            Kind::Cancellation | Kind::ExecutionVisible => {
                self.take(message.order_id, message.shares);
            }
            Kind::Deletion => self.take(message.order_id, u32::MAX),
            // A hidden order was never in the book, and neither a cross nor a halt names an order.
            Kind::ExecutionHidden | Kind::Cross | Kind::Halt => {}
        }
    }

    pub(crate) fn top(&self) -> Top {
        let level = |(&price, &shares)| Level { price, shares };
        Top {
            bid: self.bids.last_key_value().map(level),
            ask: self.asks.first_key_value().map(level),
        }
    }

    /// Messages that referred to an order that is not in the book, since the book was created.
    pub(crate) fn unknown_orders(&self) -> u64 {
        self.unknown
    }

    /// Forgets every order, but not how many were unknown.
    pub(crate) fn clear(&mut self) {
        self.orders.clear();
        self.bids.clear();
        self.asks.clear();
    }

    fn add(&mut self, message: &Message) {
        let resting = Resting {
            price: message.price,
            shares: message.shares,
            side: message.side,
        };
        // An id that is used again replaces its order: the levels stay the sum of the orders
        // whatever comes.
        if let Some(replaced) = self.orders.insert(message.order_id, resting) {
            self.reduce(replaced.side, replaced.price, replaced.shares);
        }
        *self
            .side_mut(message.side)
            .entry(message.price)
            .or_default() += u64::from(message.shares);
    }

    /// Takes up to `shares` off an order, which leaves the book with its last share.
    fn take(&mut self, order_id: u64, shares: u32) {
        let Some(order) = self.orders.get_mut(&order_id) else {
            self.unknown += 1;
            return;
        };
        let Resting { side, price, .. } = *order;
        let taken = shares.min(order.shares);
        order.shares -= taken;
        if order.shares == 0 {
            self.orders.remove(&order_id);
        }
        self.reduce(side, price, taken);
    }

    fn reduce(&mut self, side: Side, price: i64, shares: u32) {
        let levels = self.side_mut(side);
        if let Some(level) = levels.get_mut(&price) {
            *level -= u64::from(shares);
            if *level == 0 {
                levels.remove(&price);
            }
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<i64, u64> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

struct Resting {
    price: i64,
    shares: u32,
    side: Side,
}

/// Order ids are spread well by one folded multiplication; the default hasher costs more than the
/// rest of the lookup.
#[derive(Default)]
struct OrderIdHasher(u64);

impl Hasher for OrderIdHasher {
    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio.
        let product = u128::from(id ^ self.0) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::SplitMix64;

    fn message(kind: Kind, order_id: u64, side: Side, price: i64, shares: u32) -> Message {
        Message {
            time_ns: 0,
            order_id,
            price,
            shares,
            kind,
            side,
        }
    }

    /// The book as the obvious list of orders, whose best levels are computed anew each time.
    #[derive(Default)]
    struct NaiveBook {
        orders: Vec<(u64, Side, i64, u32)>,
        unknown: u64,
    }

    impl NaiveBook {
        fn apply(&mut self, message: &Message) {
            let known = self
                .orders
                .iter()
                .position(|order| order.0 == message.order_id);
            match message.kind {
                Kind::Submission => {
                    if let Some(known) = known {
                        self.orders.remove(known);
                    }
                    self.orders.push((
                        message.order_id,
                        message.side,
                        message.price,
                        message.shares,
                    ));
                }
                Kind::Cancellation | Kind::ExecutionVisible | Kind::Deletion => match known {
                    None => self.unknown += 1,
                    Some(known) => {
                        let left = self.orders[known].3.saturating_sub(message.shares);
                        if left == 0 || message.kind == Kind::Deletion {
                            self.orders.remove(known);
                        } else {
                            self.orders[known].3 = left;
                        }
                    }
                },
                _ => {}
            }
        }

        fn top(&self) -> Top {
            let best = |side: Side, price: Option<i64>| {
                price.map(|price| Level {
                    price,
                    shares: self
                        .orders
                        .iter()
                        .filter(|order| (order.1, order.2) == (side, price))
                        .map(|order| u64::from(order.3))
                        .sum(),
                })
            };
            let prices = |side| {
                self.orders
                    .iter()
                    .filter(move |order| order.1 == side)
                    .map(|order| order.2)
            };
            Top {
                bid: best(Side::Buy, prices(Side::Buy).max()),
                ask: best(Side::Sell, prices(Side::Sell).min()),
            }
        }
    }

    #[test]
    fn matches_a_naive_book_on_any_stream_of_messages() {
        let kinds = [
            Kind::Submission,
            Kind::Submission,
            Kind::Cancellation,
            Kind::Deletion,
            Kind::ExecutionVisible,
            Kind::ExecutionHidden,
            Kind::Cross,
            Kind::Halt,
        ];
        for seed in 0..20 {
            let mut random = SplitMix64::new(seed);
            let (mut book, mut naive) = (Book::default(), NaiveBook::default());
            for step in 0..500 {
                // Few ids, prices and sizes, so that reuse, overdraw and emptied levels all happen.
                let message = message(
                    kinds[random.below(kinds.len() as u64) as usize],
                    random.below(30),
                    if random.below(2) == 0 {
                        Side::Buy
                    } else {
                        Side::Sell
                    },
                    1 + random.below(6) as i64,
                    1 + random.below(4) as u32,
                );
                book.apply(&message);
                naive.apply(&message);
                assert_eq!(
                    book.top(),
                    naive.top(),
                    "seed {seed}, step {step}: {message:?}"
                );
                assert_eq!(book.unknown_orders(), naive.unknown);
            }
        }
    }

    #[test]
    fn the_best_level_sums_its_orders_and_falls_back_to_the_next() {
        let mut book = Book::default();
        book.apply(&message(Kind::Submission, 1, Side::Buy, 100, 10));
        book.apply(&message(Kind::Submission, 2, Side::Buy, 200, 5));
        book.apply(&message(Kind::Submission, 3, Side::Buy, 200, 7));
        let bid = |book: &Book| book.top().bid.map(|level| (level.price, level.shares));
        assert_eq!(bid(&book), Some((200, 12)));
        book.apply(&message(Kind::Cancellation, 2, Side::Buy, 200, 2));
        assert_eq!(bid(&book), Some((200, 10)));
        book.apply(&message(Kind::ExecutionVisible, 3, Side::Buy, 200, 7));
        book.apply(&message(Kind::Deletion, 2, Side::Buy, 200, 3));
        assert_eq!(bid(&book), Some((100, 10)));
        assert_eq!(book.top().ask, None);
    }

    #[test]
    fn unknown_orders_are_counted_and_survive_clearing() {
        let mut book = Book::default();
        book.apply(&message(Kind::Submission, 1, Side::Sell, 100, 10));
        book.apply(&message(Kind::Deletion, 2, Side::Sell, 100, 10));
        book.clear();
        book.apply(&message(Kind::Deletion, 1, Side::Sell, 100, 10));
        assert_eq!(book.unknown_orders(), 2);
        assert_eq!(book.top(), Top::default());
    }
}
