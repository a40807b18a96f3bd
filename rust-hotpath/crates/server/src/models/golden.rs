//! The golden cases, replayed through the service's own parts: what the replays of all tasks share.

use std::sync::LazyLock;

use hotpath_bundle::{Refused, Tolerance};
use hotpath_fairness::Key;
use hotpath_text::{Found, TokenizeError};

use super::source::BundleGraph;
use crate::requests::MAX_FAIRNESS_KEY;

/// Whose turn the service's own checks use: it is longer than a caller's may be, so that it is nobody else's.
pub(super) static KEY: LazyLock<Key> = LazyLock::new(|| "-".repeat(MAX_FAIRNESS_KEY + 1).into());

/// Holds a result against its golden one. The largest absolute error is counted in `unit`.
pub(super) fn check_tolerance(
    source: &BundleGraph,
    field: &str,
    golden: &[f32],
    found: &[f32],
    unit: f64,
) -> Result<(), Refused> {
    let problem = |excess| refused(source, field, format!("{} is {excess}", source.graph.file));
    within(source.graph.tolerance, golden, found, unit).map_err(problem)
}

/// Says by how much a result is not within a bound.
fn within(bound: Tolerance, golden: &[f32], found: &[f32], unit: f64) -> Result<(), String> {
    let (error, cosine) = distance(golden, found);
    let error = error / unit;
    let within = error <= bound.max_abs_error && cosine >= bound.min_cosine; // false for what is not a number
    if golden.len() == found.len() && within {
        return Ok(());
    }
    let allowed = format!("allowed are {:e} and {}", bound.max_abs_error, bound.min_cosine);
    Err(format!("off by {error:e} with cosine {cosine:.6}; {allowed}"))
}

/// Length (L2) of a vector.
pub(super) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
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
    fn a_tolerance_is_counted_in_its_unit() {
        let bound = Tolerance { max_abs_error: 0.01, min_cosine: 0.9 };
        for scale in [0.01, 1.0, 100.0] {
            let golden = [0.6 * scale, 0.8 * scale];
            let off_by = |error: f32| [golden[0] + error * scale, golden[1]];
            within(bound, &golden, &off_by(0.009), length(&golden)).unwrap();
            let problem = within(bound, &golden, &off_by(0.011), length(&golden)).unwrap_err();
            assert!(problem.contains("allowed are 1e-2 and 0.9"), "{problem}");
        }
        assert!(within(bound, &[60.0, 80.0], &[60.9, 80.0], 1.0).is_err());
        assert!(within(bound, &[0.0, 0.0], &[0.0, 0.0], 0.0).is_err(), "no length, no cosine");
    }

    #[test]
    fn distance_is_the_worst_element_and_the_cosine() {
        let (error, cosine) = distance(&[1.0, 0.0], &[0.0, 2.0]);
        assert_eq!((error, cosine), (2.0, 0.0));
        assert_eq!(distance(&[0.6, 0.8], &[0.6, 0.8]).0, 0.0);
    }
}
