//! What each stage does with one event. No stage looks at batches, so every run on the same input
//! decides the same.

use hdrhistogram::Histogram;

use crate::book::Book;
use crate::market::{Kind, MarketEvent, Message, Order, Quote, Side, Top};

/// Counts messages by kind, and sums them up in a checksum that depends on each field and on their
/// order.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) by_kind: [u64; Kind::COUNT],
    pub(crate) checksum: u64,
}

impl Audit {
    pub(crate) fn handle(&mut self, message: &Message) {
        self.by_kind[message.kind as usize] += 1;
        let small =
            u64::from(message.shares) << 16 | (message.kind as u64) << 8 | message.side as u64;
        for word in [
            message.time_ns,
            message.order_id,
            message.price as u64,
            small,
        ] {
            // An odd factor loses nothing, the rotation brings its high bits down.
            self.checksum =
                (self.checksum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// Keeps the book, and knows when its best levels change.
#[derive(Default)]
pub(crate) struct Quoter {
    pub(crate) book: Book,
    /// What was quoted last.
    pub(crate) top: Top,
}

impl Quoter {
    /// Brings the book up to date, and hands every change of the best bid or ask to `publish`.
    pub(crate) fn handle<E>(
        &mut self,
        event: &MarketEvent,
        mut publish: impl FnMut(Quote) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut quote_change = |book: &Book| {
            let top = book.top();
            if top == self.top {
                return Ok(());
            }
            self.top = top;
            publish(Quote {
                stamp: event.stamp,
                top,
            })
        };
        if event.fresh {
            // Quoted by itself, so that the stages behind start afresh as well.
            self.book.clear();
            quote_change(&self.book)?;
        }
        self.book.apply(&event.message);
        quote_change(&self.book)
    }
}

/// Trades with the heavier side: when one side of the best levels outweighs the other, it takes
/// what the other offers.
#[derive(Default)]
pub(crate) struct Strategy {
    heavier: Option<Side>,
}

impl Strategy {
    /// How many times the shares of the other side are an imbalance.
    const IMBALANCE: u64 = 3;
    const LOT: u32 = 100;

    /// An order when an imbalance begins; none while it lasts.
    pub(crate) fn handle(&mut self, quote: &Quote) -> Option<Order> {
        let (heavier, price) = match (quote.top.bid, quote.top.ask) {
            (Some(bid), Some(ask)) if bid.shares >= Self::IMBALANCE * ask.shares => {
                (Some(Side::Buy), ask.price)
            }
            (Some(bid), Some(ask)) if ask.shares >= Self::IMBALANCE * bid.shares => {
                (Some(Side::Sell), bid.price)
            }
            _ => (None, 0),
        };
        if heavier == self.heavier {
            return None;
        }
        self.heavier = heavier;
        heavier.map(|side| Order {
            stamp: quote.stamp,
            side,
            price,
            shares: Self::LOT,
        })
    }
}

/// Statistics of the spread over all quotes with two sides, in dollars x 10,000.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    pub(crate) quotes: u64,
    /// Least and most.
    pub(crate) range: Option<(i64, i64)>,
    sum: i128,
}

impl Spread {
    pub(crate) fn handle(&mut self, quote: &Quote) {
        if let (Some(bid), Some(ask)) = (quote.top.bid, quote.top.ask) {
            let spread = ask.price - bid.price;
            let (least, most) = self.range.unwrap_or((spread, spread));
            self.range = Some((least.min(spread), most.max(spread)));
            self.sum += i128::from(spread);
            self.quotes += 1;
        }
    }

    /// Rounded down; 0 if there was no quote.
    pub(crate) fn mean(&self) -> i64 {
        let mean = self.sum / i128::from(self.quotes.max(1));
        i64::try_from(mean).unwrap_or_default()
    }
}

/// Where orders leave and the tick-to-trade clock stops.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) tick_to_trade_ns: Histogram<u64>,
    pub(crate) buys: u64,
    pub(crate) sells: u64,
    /// What all orders are worth, in dollars x 10,000.
    pub(crate) notional: i128,
}

impl Gateway {
    pub(crate) fn new(tick_to_trade_ns: Histogram<u64>) -> Self {
        Self {
            tick_to_trade_ns,
            buys: 0,
            sells: 0,
            notional: 0,
        }
    }

    pub(crate) fn handle(&mut self, order: &Order, tick_to_trade_ns: u64) {
        self.tick_to_trade_ns.saturating_record(tick_to_trade_ns);
        match order.side {
            Side::Buy => self.buys += 1,
            Side::Sell => self.sells += 1,
        }
        self.notional += i128::from(order.price) * i128::from(order.shares);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Level;

    fn quote(bid: (i64, u64), ask: (i64, u64)) -> Quote {
        let level = |(price, shares)| (shares > 0).then_some(Level { price, shares });
        Quote {
            stamp: 9,
            top: Top {
                bid: level(bid),
                ask: level(ask),
            },
        }
    }

    #[test]
    fn the_strategy_orders_once_when_an_imbalance_begins() {
        let mut strategy = Strategy::default();
        let mut sides = |bid, ask| {
            let order = strategy.handle(&quote((100, bid), (200, ask)));
            order.map(|order| (order.side, order.price, order.stamp))
        };
        assert_eq!(sides(100, 100), None);
        assert_eq!(sides(299, 100), None);
        assert_eq!(sides(300, 100), Some((Side::Buy, 200, 9)));
        assert_eq!(sides(400, 100), None, "it lasts");
        assert_eq!(sides(100, 300), Some((Side::Sell, 100, 9)), "it turns");
        assert_eq!(sides(100, 0), None, "one side is empty");
        assert_eq!(
            sides(100, 300),
            Some((Side::Sell, 100, 9)),
            "it begins again"
        );
    }

    #[test]
    fn the_spread_covers_quotes_with_two_sides_only() {
        let mut spread = Spread::default();
        assert_eq!((spread.range, spread.mean()), (None, 0));
        for ask in [(300, 1), (400, 1), (900, 0), (600, 1)] {
            spread.handle(&quote((100, 1), ask));
        }
        assert_eq!(spread.range, Some((200, 500)));
        assert_eq!((spread.quotes, spread.mean()), (3, 333));
    }

    #[test]
    fn a_fresh_start_is_quoted_before_its_first_event() {
        let mut quoter = Quoter::default();
        let mut quotes = Vec::new();
        for fresh in [true, true] {
            let event = MarketEvent {
                stamp: 1,
                message: Message {
                    order_id: 1,
                    price: 100,
                    shares: 5,
                    ..Message::default()
                },
                fresh,
            };
            let published: Result<(), ()> = quoter.handle(&event, |quote| {
                quotes.push(quote.top.bid.map(|level| level.shares));
                Ok(())
            });
            assert_eq!(published, Ok(()));
        }
        assert_eq!(quotes, [Some(5), None, Some(5)]);
    }

    #[test]
    fn the_checksum_depends_on_every_field_and_on_the_order() {
        let base = Message::default();
        let others = [
            Message { time_ns: 1, ..base },
            Message {
                order_id: 1,
                ..base
            },
            Message { price: 1, ..base },
            Message { shares: 1, ..base },
            Message {
                kind: Kind::Halt,
                ..base
            },
            Message {
                side: Side::Sell,
                ..base
            },
        ];
        let checksum = |messages: &[&Message]| {
            let mut audit = Audit::default();
            messages.iter().for_each(|message| audit.handle(message));
            audit.checksum
        };
        let mut seen: Vec<u64> = others
            .iter()
            .flat_map(|other| [checksum(&[&base, other]), checksum(&[other, &base])])
            .collect();
        seen.push(checksum(&[&base, &base]));
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
