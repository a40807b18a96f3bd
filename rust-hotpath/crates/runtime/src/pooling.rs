//! From hidden states to a vector. Sums go in one fixed order, so that a vector does not depend on its batch.

/// Norms below this are taken for it, so that a vector of zeros stays one.
const LEAST_NORM: f32 = 1e-12;

/// Mean over the tokens of one text. `hidden_states` is [tokens, dimensions], row-major.
pub(crate) fn mean(hidden_states: &[f32], dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    let mut tokens = 0.0;
    for token in hidden_states.chunks_exact(dimensions) {
        for (sum, x) in vector.iter_mut().zip(token) {
            *sum += x;
        }
        tokens += 1.0;
    }
    for x in &mut vector {
        *x /= tokens;
    }
    vector
}

/// Scales a vector to length 1.
pub(crate) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(LEAST_NORM);
    for x in vector {
        *x /= norm;
    }
}

/// Keeps the leading `dimensions` of a vector that was trained for it, scaled to length 1 again if it had it before.
pub fn shorten(vector: &mut Vec<f32>, dimensions: usize, normalized: bool) {
    if dimensions < vector.len() {
        vector.truncate(dimensions);
        if normalized {
            normalize(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_tokens() {
        assert_eq!(mean(&[1.0, 2.0, 3.0, 6.0], 2), [2.0, 4.0]);
        assert_eq!(mean(&[1.0, 2.0], 2), [1.0, 2.0]);
    }

    #[test]
    fn a_normalized_vector_has_length_one() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zeros = [0.0, 0.0];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0, 0.0]);
    }

    #[test]
    fn a_shortened_vector_has_length_one_again() {
        let mut vector = vec![0.3, 0.4, 0.5];
        shorten(&mut vector, 2, true);
        assert_eq!(vector, [0.6, 0.8]);
        let mut raw = vec![3.0, 4.0, 5.0];
        shorten(&mut raw, 2, false);
        assert_eq!(raw, [3.0, 4.0]);
        shorten(&mut raw, 2, true);
        assert_eq!(raw, [3.0, 4.0], "the full length is returned as it is");
    }
}
