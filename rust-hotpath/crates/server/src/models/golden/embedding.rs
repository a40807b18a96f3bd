//! Golden vectors.

use hotpath_bundle::{Bundle, GoldenEmbedding, Graph, Refused};
use hotpath_encoding::Work;
use hotpath_fairness::Class;
use hotpath_runtime::Encode;
use hotpath_text::Tokenizer;

use super::{KEY, check_tolerance, refused};
use crate::models::{embedding::Embedder, serving::Serving};

/// Runs all cases as one batch on a session.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub fn check_session(
    bundle: &Bundle,
    cases: &[GoldenEmbedding],
    graph: &Graph,
    session: &mut dyn Encode,
) -> Result<(), Refused> {
    let texts: Vec<&[u32]> = cases.iter().map(|case| &*case.token_ids).collect();
    let vectors = session.encode(&texts).map_err(|error| refused(bundle, "", error.to_string()))?;
    check_vectors(bundle, cases, graph, &vectors)
}

/// Holds the tokenizer against every case: the ids must be equal.
///
/// # Errors
/// [`Refused`] names the case that differs.
pub fn check_tokenizer(bundle: &Bundle, cases: &[GoldenEmbedding], tokenizer: &Tokenizer) -> Result<(), Refused> {
    for (i, case) in cases.iter().enumerate() {
        let field = format!("embeddings[{i}].token_ids");
        let ids = tokenizer.ids(&case.text, usize::MAX);
        let ids = ids.map_err(|error| refused(bundle, &field, error.to_string()))?.tokens;
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
pub async fn check_serving(serving: &Serving, embedder: &Embedder, cases: &[GoldenEmbedding]) -> Result<(), Refused> {
    let mut alone = Vec::with_capacity(cases.len());
    for case in cases {
        alone.extend(run(serving, embedder, std::slice::from_ref(case)).await?);
    }
    check_vectors(&serving.bundle, cases, &serving.graph, &alone)?;
    let together = run(serving, embedder, cases).await?;
    match (0..alone.len()).find(|case| alone[*case] != together[*case]) {
        None => Ok(()),
        Some(case) => {
            let field = format!("embeddings[{case}].vector");
            Err(refused(&serving.bundle, &field, "is another in company than alone".to_owned()))
        }
    }
}

/// Runs the shortest case.
///
/// # Errors
/// [`Refused`] says why it failed.
pub async fn probe(serving: &Serving, embedder: &Embedder, cases: &[GoldenEmbedding]) -> Result<(), Refused> {
    let shortest = cases.iter().min_by_key(|case| case.token_ids.len());
    run(serving, embedder, shortest.map(std::slice::from_ref).unwrap_or_default()).await.map(drop)
}

async fn run(serving: &Serving, embedder: &Embedder, cases: &[GoldenEmbedding]) -> Result<Vec<Vec<f32>>, Refused> {
    let inputs = cases.iter().map(|case| case.token_ids.clone()).collect();
    let work = Work { class: Class::Interactive, key: KEY.clone(), deadline: None, inputs };
    let refuse = |problem: String| refused(&serving.bundle, "", problem);
    let pending = embedder.scheduler.submit(work).map_err(|_| refuse("the queue is full".to_owned()))?;
    Ok(pending.result().await.map_err(|failure| refuse(failure.to_string()))?.vectors)
}

/// Holds vectors, one for each case, against the golden ones.
fn check_vectors(
    bundle: &Bundle,
    cases: &[GoldenEmbedding],
    graph: &Graph,
    vectors: &[Vec<f32>],
) -> Result<(), Refused> {
    if vectors.len() != cases.len() {
        return Err(refused(bundle, "", format!("{} gives {} vectors", graph.file, vectors.len())));
    }
    for (i, (case, vector)) in cases.iter().zip(vectors).enumerate() {
        check_tolerance(bundle, graph, &format!("embeddings[{i}].vector"), &case.vector, vector)?;
    }
    Ok(())
}
