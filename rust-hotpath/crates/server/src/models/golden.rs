//! The golden cases, replayed through the service's own parts.

pub mod classification;
pub mod embedding;
pub mod generation;

use std::sync::{Arc, LazyLock};

use hotpath_bundle::{Bundle, Golden, Graph, Refused};

use super::serving::{Serving, Worker};
use crate::requests::MAX_FAIRNESS_KEY;

/// Whose turn the service's own checks use: it is longer than a caller's may be, so that it is nobody else's.
static KEY: LazyLock<Arc<str>> = LazyLock::new(|| "-".repeat(MAX_FAIRNESS_KEY + 1).into());

/// Sends each case alone, and then all of them together. What a case gives in company must be what it gives alone.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub async fn check(serving: &Serving) -> Result<(), Refused> {
    match (&serving.worker, &serving.bundle.golden) {
        (Worker::Embedding(embedder), Golden::Embeddings(cases)) => {
            embedding::check_serving(serving, embedder, cases).await
        }
        (Worker::Generation(generator), Golden::Generations(golden)) => {
            generation::check_serving(serving, generator, golden).await
        }
        (Worker::Classification(classifier), Golden::Classifications(cases)) => {
            classification::check_serving(serving, classifier, cases).await
        }
        _ => Err(of_another_task(&serving.bundle)),
    }
}

/// Runs the shortest case, as a sign of life.
///
/// # Errors
/// [`Refused`] says why it failed.
pub async fn probe(serving: &Serving) -> Result<(), Refused> {
    match (&serving.worker, &serving.bundle.golden) {
        (Worker::Embedding(embedder), Golden::Embeddings(cases)) => embedding::probe(serving, embedder, cases).await,
        (Worker::Generation(generator), Golden::Generations(golden)) => {
            generation::probe(serving, generator, golden).await
        }
        (Worker::Classification(classifier), Golden::Classifications(cases)) => {
            classification::probe(serving, classifier, cases).await
        }
        _ => Err(of_another_task(&serving.bundle)),
    }
}

/// Holds a result against its golden one.
fn check_tolerance(bundle: &Bundle, graph: &Graph, field: &str, golden: &[f32], found: &[f32]) -> Result<(), Refused> {
    let bound = graph.tolerance;
    let (error, cosine) = distance(golden, found);
    let within = error <= bound.max_abs_error && cosine >= bound.min_cosine; // false for what is not a number
    if golden.len() == found.len() && within {
        return Ok(());
    }
    let problem = format!(
        "{} is off by {error:e} with cosine {cosine:.6}; allowed are {:e} and {}",
        graph.file, bound.max_abs_error, bound.min_cosine
    );
    Err(refused(bundle, field, problem))
}

/// Largest absolute difference of any element, and the cosine, of two vectors.
fn distance(golden: &[f32], vector: &[f32]) -> (f64, f64) {
    let pairs = || golden.iter().zip(vector).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let error = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (dot, a, b) = pairs().fold((0.0, 0.0, 0.0), |(dot, aa, bb), (a, b)| (dot + a * b, aa + a * a, bb + b * b));
    (error, dot / (a.sqrt() * b.sqrt()))
}

fn refused(bundle: &Bundle, field: &str, problem: String) -> Refused {
    Refused::field(&bundle.manifest.golden_file, field, problem)
}

fn of_another_task(bundle: &Bundle) -> Refused {
    refused(bundle, "", "has cases of another task than the manifest's".to_owned())
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
