//! What travels over the three rings: market events, quotes and orders.
//!
//! Prices are integers in dollars x 10,000 and times are integers in nanoseconds, as in the source
//! data: nothing is rounded on the way. Every quote and order carries on the time stamp of the
//! market event that caused it.

/// What the exchange reported in one row of a message file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Message {
    /// Nanoseconds after midnight.
    pub(crate) time_ns: u64,
    /// The order that the message is about; 0 where there is none to name.
    pub(crate) order_id: u64,
    /// Dollars x 10,000; of a halt: its state (-1 halted, 0 quoting resumed, 1 trading resumed).
    pub(crate) price: i64,
    /// Shares submitted, cancelled, deleted or executed.
    pub(crate) shares: u32,
    pub(crate) kind: Kind,
    /// The side of the resting order, also for executions.
    pub(crate) side: Side,
}

/// The type of a message. The discriminants are those of the files, less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Kind {
    #[default]
    Submission,
    Cancellation,
    Deletion,
    ExecutionVisible,
    ExecutionHidden,
    Cross,
    Halt,
}

impl Kind {
    pub(crate) const COUNT: usize = 7;
}

/// The side of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Side {
    #[default]
    Buy,
    Sell,
}

/// One price of one side of the book, with all the shares that rest there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) price: i64,
    pub(crate) shares: u64,
}

/// The best level of both sides; `None` where a side is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Top {
    pub(crate) bid: Option<Level>,
    pub(crate) ask: Option<Level>,
}

/// An event of the market ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MarketEvent {
    /// Raw clock reading taken when this event was published.
    pub(crate) stamp: u64,
    pub(crate) message: Message,
    /// The first event of a repetition: the book starts afresh.
    pub(crate) fresh: bool,
}

/// An event of the quotes ring: the best bid or ask has changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quote {
    /// The stamp of the market event that moved the market.
    pub(crate) stamp: u64,
    pub(crate) top: Top,
}

/// An event of the orders ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    /// The stamp of the market event that the strategy reacted to.
    pub(crate) stamp: u64,
    pub(crate) side: Side,
    pub(crate) price: i64,
    pub(crate) shares: u32,
}
