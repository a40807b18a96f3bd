//! Golden scores.

use hotpath_bundle::{GoldenClassification, Refused};
use hotpath_encoding::Work;
use hotpath_fairness::Class;

use super::{KEY, check_tolerance, refused};
use crate::models::{classification::Classifier, serving::Serving};

/// Replays each case alone, and then all of them in one request, through the encoder that is served. What a case gives in
/// company must be what it gives alone, to the last bit.
///
/// # Errors
/// [`Refused`] names the case that differs, or says why the encoder cannot be used.
pub async fn check_serving(
    serving: &Serving,
    classifier: &Classifier,
    cases: &[GoldenClassification],
) -> Result<(), Refused> {
    let together = run(serving, classifier, cases).await?;
    for (i, (case, together)) in cases.iter().zip(together).enumerate() {
        let field = format!("classifications[{i}].scores");
        let alone = run(serving, classifier, std::slice::from_ref(case)).await?.concat();
        check_tolerance(&serving.bundle, &serving.graph, &field, &case.scores, &alone)?;
        if alone != together {
            return Err(refused(&serving.bundle, &field, "are others in company than alone".to_owned()));
        }
    }
    serving.pulse.beat();
    Ok(())
}

/// Replays the shortest case.
///
/// # Errors
/// As [`check_serving`].
pub async fn probe(serving: &Serving, classifier: &Classifier, cases: &[GoldenClassification]) -> Result<(), Refused> {
    match cases.iter().min_by_key(|case| case.text.len()) {
        Some(case) => check_serving(serving, classifier, std::slice::from_ref(case)).await,
        None => Err(refused(&serving.bundle, "classifications", "there is none".to_owned())),
    }
}

async fn run(
    serving: &Serving,
    classifier: &Classifier,
    cases: &[GoldenClassification],
) -> Result<Vec<Vec<f32>>, Refused> {
    let refuse = |problem: String| refused(&serving.bundle, "", problem);
    let encoder = classifier.encoder().map_err(refuse)?;
    let embedder = encoder.embedder().map_err(|error| refuse(error.to_string()))?;
    let (mut windows, mut inputs) = (Vec::with_capacity(cases.len()), Vec::new());
    for case in cases {
        let of_text = embedder.texts.windows(&case.text, usize::MAX).map_err(|error| refuse(error.to_string()))?;
        let of_text = of_text.unwrap_or_default();
        windows.push(of_text.len());
        inputs.extend(of_text);
    }
    let work = Work { class: Class::Interactive, key: KEY.clone(), deadline: None, inputs };
    let pending = embedder.scheduler.submit(work).map_err(|_| refuse("the queue is full".to_owned()))?;
    let vectors = pending.result().await.map_err(|failure| refuse(failure.to_string()))?.vectors;
    classifier.scores(&windows, &vectors).map_err(|error| refuse(error.0))
}
