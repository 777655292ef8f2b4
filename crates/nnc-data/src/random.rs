//! The random numbers behind splits and orders: Philox4x32-10.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2,
//! 3", SC 2011. Counter-based: a number is a pure function of seed, purpose, epoch and position.
//!
//! **Invariant**: the bits never change between versions, platforms or thread counts; saved runs
//! are resumed on them. The tests hold the known answers of the paper's library, Random123.

/// What numbers are drawn for; each purpose has its own stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// The rows that are held out.
    HoldOut = 2,
    /// The order of an epoch that has each class equally often.
    Balance = 3,
}

/// A stream of random numbers.
pub(crate) struct Stream {
    key: [u32; 2],
    epoch: u32,
    purpose: Purpose,
    block: u64,
    /// The second half of the last block, if it is still to be used.
    spare: Option<u64>,
}

impl Stream {
    /// The stream of `purpose` in `epoch` under `seed`.
    pub(crate) fn new(seed: u64, purpose: Purpose, epoch: u32) -> Self {
        Stream { key: halves(seed), epoch, purpose, block: 0, spare: None }
    }

    /// The next 64 bits.
    fn bits(&mut self) -> u64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let [low, high] = halves(self.block);
        let words = philox([low, high, self.epoch, self.purpose as u32], self.key);
        self.block += 1;
        self.spare = Some(whole(words[2], words[3]));
        whole(words[0], words[1])
    }

    /// A number below `bound`, all equally likely.
    ///
    /// D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29(1), 2019.
    fn below(&mut self, bound: u64) -> u64 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts `items` into random order, all orders equally likely (Fisher and Yates, from the end).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

/// The low and the high half.
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// The number with the halves `low` and `high`.
fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Ten rounds of Philox on a block of four words.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let [low0, high0] = halves(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low1, high1] = halves(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut stream = Stream::new(1, Purpose::Order, 0);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }
}
