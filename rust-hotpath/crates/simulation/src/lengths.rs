//! How long texts are, in tokens.

use serde::Deserialize;

use crate::random::Random;

/// A distribution of lengths.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lengths {
    /// All the same.
    Exactly(usize),
    /// Exponential, rounded up.
    Exponential {
        /// Its mean.
        mean: f64,
        /// No more than so many.
        most: usize,
    },
    /// The logarithm is normal: as chats are, most of them short, and some very long.
    Lognormal {
        /// Half of them are shorter.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// No more than so many.
        most: usize,
    },
}

impl Lengths {
    /// One length, at least 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is clamped, and not negative
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let (length, most) = match *self {
            Self::Exactly(length) => return length.max(1),
            Self::Exponential { mean, most } => (random.exponential(mean), most),
            Self::Lognormal { median, sigma, most } => (median * (sigma * random.normal()).exp(), most),
        };
        (length.ceil() as usize).clamp(1, most.max(1))
    }
}
