//! The order in which things are measured: shuffled, and the same for the same number.

/// A source of orders.
#[derive(Clone, Debug)]
pub struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// The source of this number.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The items in the next order.
    pub fn order<'i, T>(&mut self, items: &'i [T]) -> Vec<&'i T> {
        let mut items: Vec<&T> = items.iter().collect();
        for end in (1..items.len()).rev() {
            let other = (self.next() % (end as u64 + 1)) as usize;
            items.swap(end, other);
        }
        items
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_everything_once_and_depends_on_the_seed() {
        let items: Vec<u32> = (0..20).collect();
        let first = Shuffle::new(1).order(&items);
        assert_eq!(first, Shuffle::new(1).order(&items));
        assert_ne!(first, Shuffle::new(2).order(&items));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, items.iter().collect::<Vec<_>>());
    }
}
