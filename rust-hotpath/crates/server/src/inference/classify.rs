//! `Classify`: a request's way from its message to its reply, through the encoder's scheduler.

use hotpath_contract::inference::v1::{Classification, ClassifyRequest, ClassifyResponse, Label, Timings};
use hotpath_encoding::Work;

use super::shared::{Inference, count, duration};
use crate::{
    call::Call,
    error::Error,
    models::texts::Texts,
    requests,
    tokenization::{self, Caller, cannot},
};

impl Inference {
    pub(super) async fn classify_texts(&self, call: Call, request: ClassifyRequest) -> Result<ClassifyResponse, Error> {
        let model = self.models.find(&request.model)?;
        let (turn, max_charge) = requests::scheduling(request.scheduling)?;
        requests::texts(&request.texts, self.max_inputs)?;
        let serving = model.ready()?;
        let classifier = serving.classifier()?;
        let encoder = classifier.encoder().map_err(|_| Error::ModelNotReady { model: model.name().to_owned() })?;

        let at_least = |(i, text): (usize, &String)| tokenization::text_at_least(&encoder.texts, i, text);
        let at_least = request.texts.iter().enumerate().map(at_least).sum();
        self.check_room(&turn, model.name(), &encoder, request.texts.len(), at_least)?;
        let (texts, owner) = (request.texts, encoder.texts.clone());
        let bytes = texts.iter().map(String::len).sum();
        let max_windows = self.max_inputs;
        let tokenizing = move |caller: &_| windows(&owner, &texts, max_windows, caller);
        let windows = call.in_span("tokenize", self.tokenization.run(&turn, bytes, tokenizing)).await?;
        max_charge.allows(windows.iter().flatten().map(Vec::len).sum())?;
        let token_counts = windows.iter().map(|of_text| count(of_text.iter().map(Vec::len).sum()));
        let token_counts = token_counts.collect::<Result<_, _>>()?;
        let counts: Vec<usize> = windows.iter().map(Vec::len).collect();
        let tokenize = call.started.elapsed();

        let inputs = windows.into_iter().flatten().collect();
        let work = Work { class: turn.class, key: turn.key, deadline: call.deadline, inputs };
        let done = self.run(&call, "Classify", model.name(), &encoder, work).await?;
        let scores = classifier.scores(&counts, &done.vectors).map_err(|error| Error::Internal { cause: error.0 })?;
        serving.pulse.beat();
        Ok(ClassifyResponse {
            revision: serving.revision().to_string(),
            labels: classifier.task.labels.iter().map(label).collect(),
            classifications: scores.into_iter().map(|scores| Classification { scores }).collect(),
            token_counts,
            timings: Some(Timings {
                tokenize: duration(tokenize),
                queue: duration(done.queue),
                inference: duration(done.inference),
            }),
        })
    }
}

/// The windows of each text, all together at most so many.
fn windows(of: &Texts, texts: &[String], limit: usize, caller: &Caller) -> Result<Vec<Vec<Vec<u32>>>, Error> {
    let mut left = limit;
    let one = |(i, text): (usize, &String)| {
        caller.check()?;
        let field = || format!("texts[{i}]");
        let windows = of.windows(text, left).map_err(|error| cannot(field(), error))?;
        let windows = windows.ok_or_else(|| Error::BeyondRequest { field: field(), unit: "windows", limit })?;
        left -= windows.len();
        if windows.iter().any(Vec::is_empty) { Err(Error::EmptyInput { field: field() }) } else { Ok(windows) }
    };
    texts.iter().enumerate().map(one).collect()
}

#[allow(clippy::cast_possible_truncation)] // as exact as scores are
fn label(label: &hotpath_bundle::ClassLabel) -> Label {
    Label { name: label.name.clone(), threshold: label.threshold as f32, advisory: label.advisory }
}
