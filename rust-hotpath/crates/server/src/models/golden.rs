//! The golden cases, replayed through the service's own parts: what the replays of all tasks share.

use std::sync::LazyLock;

use hotpath_bundle::Refused;
use hotpath_fairness::Key;
use hotpath_text::{Found, TokenizeError};

use super::source::BundleGraph;
use crate::requests::MAX_FAIRNESS_KEY;

/// Whose turn the service's own checks use: it is longer than a caller's may be, so that it is nobody else's.
pub(super) static KEY: LazyLock<Key> = LazyLock::new(|| "-".repeat(MAX_FAIRNESS_KEY + 1).into());

/// Holds a result against its golden one.
pub(super) fn check_tolerance(source: &BundleGraph, field: &str, golden: &[f32], found: &[f32]) -> Result<(), Refused> {
    let bound = source.graph.tolerance;
    let (error, cosine) = distance(golden, found);
    let within = error <= bound.max_abs_error && cosine >= bound.min_cosine; // false for what is not a number
    if golden.len() == found.len() && within {
        return Ok(());
    }
    let problem = format!(
        "{} is off by {error:e} with cosine {cosine:.6}; allowed are {:e} and {}",
        source.graph.file, bound.max_abs_error, bound.min_cosine
    );
    Err(refused(source, field, problem))
}

/// Largest absolute difference of any element, and the cosine, of two vectors.
fn distance(golden: &[f32], vector: &[f32]) -> (f64, f64) {
    let pairs = || golden.iter().zip(vector).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let error = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (dot, a, b) = pairs().fold((0.0, 0.0, 0.0), |(dot, aa, bb), (a, b)| (dot + a * b, aa + a * a, bb + b * b));
    (error, dot / (a.sqrt() * b.sqrt()))
}

/// Holds the ids of a text against its golden ones: they must be equal.
pub(super) fn check_ids(
    source: &BundleGraph,
    field: &str,
    golden: &[u32],
    found: Result<Found<Vec<u32>>, TokenizeError>,
) -> Result<(), Refused> {
    match found {
        Ok(found) if found.tokens == golden => Ok(()),
        Ok(found) => Err(refused(source, field, format!("the tokenizer gives {:?}", found.tokens))),
        Err(error) => Err(refused(source, field, error.to_string())),
    }
}

/// The error of a field of the golden cases.
pub(super) fn refused(source: &BundleGraph, field: &str, problem: String) -> Refused {
    Refused::field(&source.bundle.manifest.golden_file, field, problem)
}

pub(super) fn of_another_task(source: &BundleGraph) -> Refused {
    refused(source, "", "has cases of another task than the manifest's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_the_worst_element_and_the_cosine() {
        let (error, cosine) = distance(&[1.0, 0.0], &[0.0, 2.0]);
        assert_eq!((error, cosine), (2.0, 0.0));
        assert_eq!(distance(&[0.6, 0.8], &[0.6, 0.8]).0, 0.0);
    }
}
