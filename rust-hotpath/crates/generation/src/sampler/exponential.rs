//! The exponential function in plain float32 operations: fast where there are 50,000 logits a token, because a compiler can do
//! several at once, and the same on every machine, which the mathematics libraries of systems are not.

/// Tokens whose exponentials are summed up side by side.
const LANES: usize = 8;

/// e^x for x ≤ 0, within 3e-7 of its value; e^-87 (1.6e-38) for what is below -87.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding 1.5·2^23 rounds to a whole number, which then stands in the last bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with so few bits that its multiples are exact (Cody and Waite, 1980).
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = x - power * LN_2.0 - power * LN_2.1; // |rest| ≤ ln 2 / 2
    let tail = 0.5 + rest * (0.166_666_66 + rest * (0.041_666_41 + rest * (0.008_333_45 + rest * 0.001_388_9)));
    let mantissa = 1.0 + rest * (1.0 + rest * tail);
    f32::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 23)) // times 2^power
}

/// Sum of a function of at most a few hundred values.
pub(super) fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|value| of(*value)).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(*value);
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential() {
        for step in 0_u16..=8700 {
            for offset in [0.0, 0.001, 0.0034] {
                let x = -f32::from(step) / 100.0 - offset;
                let error = f64::from(exp(x)) / f64::from(x.max(-87.0)).exp() - 1.0;
                assert!(error.abs() < 3e-7, "exp({x}) is off by {error:e}");
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn a_sum_is_over_all() {
        let values: Vec<f32> = (0_u8..43).map(f32::from).collect();
        assert_eq!(sum(&values, |value| value * 2.0), 42.0 * 43.0);
        assert_eq!(sum(&[], |value| value), 0.0);
    }
}
