//! The order in which training sees the samples.

use rand::seq::SliceRandom;

use super::host_rng;
use crate::numbers::random::{random_bits, stream};

/// Endless passes over N samples, each pass (epoch) in its own seeded order.
///
/// The order is a pure function of (N, seed, position), so the position alone is enough to resume exactly.
#[derive(Debug, Clone)]
pub struct Shuffle {
    len: usize,
    seed: u64,
    position: u64,
    /// The current epoch's order, recomputed whenever an epoch begins.
    order: Vec<usize>,
}

impl Shuffle {
    /// Starts at the first sample of the first epoch.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn new(len: usize, seed: u64) -> Self {
        Self::at(len, seed, 0)
    }

    /// Goes on after `position` samples have been drawn, exactly as if they had been drawn here.
    ///
    /// # Panics
    /// When `len` is 0.
    pub fn at(len: usize, seed: u64, position: u64) -> Self {
        assert!(len > 0, "there must be samples to shuffle");
        Self { len, seed, position, order: permutation(len, seed, position / len as u64) }
    }

    /// How many samples have been drawn since the beginning.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Replaces `indices` by the next `batch` indices; a batch may run over the end of an epoch.
    pub fn next_batch(&mut self, batch: usize, indices: &mut Vec<usize>) {
        indices.clear();
        let len = self.len as u64;
        for _ in 0..batch {
            indices.push(self.order[(self.position % len) as usize]);
            self.position += 1;
            if self.position.is_multiple_of(len) {
                self.order = permutation(self.len, self.seed, self.position / len);
            }
        }
    }
}

/// Whether the sample that is drawn at `position` is mirrored, where [`crate::data::DataConfig::flip`] asks for it:
/// true with probability 1/2, and as reproducible as the order.
pub fn is_mirrored(seed: u64, position: u64) -> bool {
    let [bits, ..] = random_bits(seed, stream::DATA, position as u32, 0, (position >> 32) as u32);
    bits >> 31 == 1
}

/// A uniform permutation of 0..len that depends on seed and stream alone.
pub(super) fn permutation(len: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut host_rng(seed, stream));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(shuffle: &mut Shuffle, batches: &[usize]) -> Vec<usize> {
        let mut indices = Vec::new();
        batches
            .iter()
            .flat_map(|&batch| {
                shuffle.next_batch(batch, &mut indices);
                assert_eq!(indices.len(), batch);
                indices.clone()
            })
            .collect()
    }

    #[test]
    fn every_epoch_shows_every_sample_once_in_its_own_order() {
        let all = draw(&mut Shuffle::new(13, 4), &[8; 13]);
        let epochs: Vec<_> = all.chunks(13).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..13).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(all, draw(&mut Shuffle::new(13, 5), &[8; 13]), "another seed, another order");
    }

    #[test]
    fn the_order_does_not_depend_on_the_batch_size() {
        assert_eq!(draw(&mut Shuffle::new(7, 1), &[21]), draw(&mut Shuffle::new(7, 1), &[1, 5, 7, 8]));
    }

    #[test]
    fn half_of_the_samples_are_mirrored_whatever_their_place() {
        let mirrored =
            |seed: u64, from: u64| (from..from + 10_000).filter(|&at| is_mirrored(seed, at)).collect::<Vec<_>>();
        for from in [0, u64::from(u32::MAX) - 5000] {
            let count = mirrored(3, from).len();
            // Five standard deviations of 50.
            assert!(count.abs_diff(5000) <= 250, "{count}");
        }
        assert_eq!(mirrored(3, 0), mirrored(3, 0));
        assert_ne!(mirrored(3, 0), mirrored(4, 0));
        let high = 1 << 32;
        assert_ne!(mirrored(3, 0), mirrored(3, high).iter().map(|at| at - high).collect::<Vec<_>>());
    }

    #[test]
    fn resuming_at_any_position_continues_exactly() {
        let whole = draw(&mut Shuffle::new(5, 9), &[1; 20]);
        for position in 0..20 {
            let mut resumed = Shuffle::at(5, 9, position as u64);
            assert_eq!(draw(&mut resumed, &[20 - position]), whole[position..]);
            assert_eq!(resumed.position(), 20);
        }
    }
}
