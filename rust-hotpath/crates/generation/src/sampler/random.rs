//! Random numbers by counting: each is a function of seed, stream and place alone, so no generator is carried from step to
//! step, and nothing that happens to other rows can disturb it.

/// Odd, and with no pattern in its bits: the golden ratio's fraction in 64 bits.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number in [0, 1) with 53 random bits.
pub(super) fn uniform(seed: u64, stream: u64, place: u64) -> f64 {
    let bits = mix(mix(mix(seed).wrapping_add(stream)).wrapping_add(place));
    #[allow(clippy::cast_precision_loss)] // 53 bits fit
    let numerator = (bits >> 11) as f64;
    numerator * 2.0_f64.powi(-53)
}

/// One step of `SplitMix64` (Steele, Lea and Flood, 2014): a bijection whose output passes for random.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(STEP);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The generator's first outputs for the seed 1234567.
        let outputs: Vec<u64> = (0..3_u64).map(|i| mix(1_234_567_u64.wrapping_add(i.wrapping_mul(STEP)))).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_are_spread_evenly_along_every_argument() {
        type Numbers = fn(u64) -> f64;
        let along: [Numbers; 3] = [|i| uniform(i, 0, 0), |i| uniform(7, i, 3), |i| uniform(7, 3, i)];
        for numbers in along {
            let mut buckets = [0_u32; 16];
            for i in 0..16_000 {
                let number = numbers(i);
                assert!((0.0..1.0).contains(&number));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let bucket = (number * 16.0) as usize;
                buckets[bucket] += 1;
            }
            // 1000 each, with a standard deviation of 31.
            assert!(buckets.iter().all(|count| (850..1150).contains(count)), "{buckets:?}");
        }
    }
}
