//! Numbers that look random and come of a seed alone.

use crate::Time;

/// `SplitMix64` (Steele, Lea and Flood 2014): a counter, well mixed. Any seed is a good one, and streams of different names do not
/// meet.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each name and number.
    pub fn new(seed: u64, name: &str, number: u64) -> Self {
        Self(mix(mix(seed ^ hash(name.as_bytes())) ^ number))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly from above 0 to 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits are what a double has
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly below `count`.
    #[allow(clippy::cast_possible_truncation)] // it is below a usize
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() <= share
    }

    /// Of an exponential distribution.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    pub fn seconds(&mut self, mean: f64) -> Time {
        Time::from_secs_f64(self.exponential(mean))
    }

    /// Of the normal distribution of mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
        radius * angle.cos()
    }
}

/// The finalizer of `SplitMix64`.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// FNV-1a of 64 bits.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(1, "test", 0);
        let mut mean = |draw: &dyn Fn(&mut Random) -> f64| (0..100_000).map(|_| draw(&mut random)).sum::<f64>() / 1e5;
        assert!((mean(&Random::unit) - 0.5).abs() < 0.005);
        assert!((mean(&|random| random.exponential(3.0)) - 3.0).abs() < 0.05);
        assert!(mean(&Random::normal).abs() < 0.02);
        assert!((mean(&|random| random.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&|random| f64::from(u8::try_from(random.below(7)).unwrap())) - 3.0).abs() < 0.03);
    }

    #[test]
    fn streams_of_other_names_are_others() {
        let first = |seed, name, number| Random::new(seed, name, number).next();
        let all = [first(1, "a", 0), first(1, "a", 1), first(1, "b", 0), first(2, "a", 0)];
        assert!((1..all.len()).all(|end| !all[..end].contains(&all[end])), "{all:?}");
        assert_eq!(all[0], first(1, "a", 0));
    }
}
