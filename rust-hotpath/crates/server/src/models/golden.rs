//! The golden cases, replayed through the service's own parts.

use hotpath_bundle::{Bundle, Golden, Graph, Refused};
use hotpath_runtime::Encode;
use hotpath_scheduler::{Class, Work};
use hotpath_text::Tokenizer;

use super::serving::Serving;

/// Whose turn the service's own checks use.
const KEY: &str = "";

/// Runs all cases as one batch on a session.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub fn check_session(bundle: &Bundle, graph: &Graph, session: &mut dyn Encode) -> Result<(), Refused> {
    let texts: Vec<&[u32]> = bundle.golden.iter().map(|case| &*case.token_ids).collect();
    let vectors = session.encode(&texts).map_err(|error| refused(bundle, "", error.to_string()))?;
    check_vectors(bundle, graph, &vectors)
}

/// Holds the tokenizer against every case: the ids must be equal.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub fn check_tokenizer(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<(), Refused> {
    for (i, case) in bundle.golden.iter().enumerate() {
        let field = format!("embeddings[{i}].token_ids");
        let ids = tokenizer.ids(&case.text).map_err(|error| refused(bundle, &field, error.0))?;
        if ids != case.token_ids {
            return Err(refused(bundle, &field, format!("the tokenizer gives {ids:?}")));
        }
    }
    Ok(())
}

/// Sends each case alone, and then all of them in one request, through the scheduler. What a case gives in company must be
/// what it gives alone, to the last bit.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub async fn check_serving(serving: &Serving) -> Result<(), Refused> {
    let bundle = &serving.bundle;
    let mut alone = Vec::with_capacity(bundle.golden.len());
    for case in &bundle.golden {
        alone.extend(run(serving, std::slice::from_ref(case)).await?);
    }
    check_vectors(bundle, &serving.graph, &alone)?;
    let together = run(serving, &bundle.golden).await?;
    match (0..alone.len()).find(|case| alone[*case] != together[*case]) {
        None => Ok(()),
        Some(case) => {
            let field = format!("embeddings[{case}].vector");
            Err(refused(bundle, &field, "is another in company than alone".to_owned()))
        }
    }
}

/// Runs the shortest case, as a sign of life.
///
/// # Errors
/// [`Refused`] says why it failed.
pub async fn probe(serving: &Serving) -> Result<(), Refused> {
    let shortest = serving.bundle.golden.iter().min_by_key(|case| case.token_ids.len());
    run(serving, shortest.map(std::slice::from_ref).unwrap_or_default()).await.map(drop)
}

async fn run(serving: &Serving, cases: &[Golden]) -> Result<Vec<Vec<f32>>, Refused> {
    let inputs = cases.iter().map(|case| case.token_ids.clone()).collect();
    let work = Work { class: Class::Interactive, key: KEY.into(), deadline: None, inputs };
    let refuse = |problem: String| refused(&serving.bundle, "", problem);
    let pending = serving.scheduler.submit(work).map_err(|_| refuse("the queue is full".to_owned()))?;
    Ok(pending.result().await.map_err(|failure| refuse(failure.to_string()))?.vectors)
}

/// Holds vectors, one for each case, against the golden ones.
fn check_vectors(bundle: &Bundle, graph: &Graph, vectors: &[Vec<f32>]) -> Result<(), Refused> {
    let bound = graph.tolerance;
    if vectors.len() != bundle.golden.len() {
        return Err(refused(bundle, "", format!("{} gives {} vectors", graph.file, vectors.len())));
    }
    for (i, (case, vector)) in bundle.golden.iter().zip(vectors).enumerate() {
        let (error, cosine) = distance(&case.vector, vector);
        let same_length = vector.len() == case.vector.len();
        let within = error <= bound.max_abs_error && cosine >= bound.min_cosine; // false for what is not a number
        if !same_length || !within {
            let problem = format!(
                "{} is off by {error:e} with cosine {cosine:.6}; allowed are {:e} and {}",
                graph.file, bound.max_abs_error, bound.min_cosine
            );
            return Err(refused(bundle, &format!("embeddings[{i}].vector"), problem));
        }
    }
    Ok(())
}

/// Largest absolute difference of any element, and the cosine, of two vectors.
fn distance(golden: &[f32], vector: &[f32]) -> (f64, f64) {
    let pairs = || golden.iter().zip(vector).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let error = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (dot, a, b) = pairs().fold((0.0, 0.0, 0.0), |(dot, aa, bb), (a, b)| (dot + a * b, aa + a * a, bb + b * b));
    (error, dot / (a.sqrt() * b.sqrt()))
}

fn refused(bundle: &Bundle, field: &str, problem: String) -> Refused {
    Refused { file: bundle.manifest.golden_file.clone(), field: field.to_owned(), problem }
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
