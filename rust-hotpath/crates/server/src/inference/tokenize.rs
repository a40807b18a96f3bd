//! `Tokenize`: texts to ids, with their places.

use hotpath_contract::inference::v1::{TokenizeRequest, TokenizeResponse};

use super::shared::Inference;
use crate::{call::Call, error::Error, requests, tokenization};

impl Inference {
    pub(super) async fn tokenize_texts(&self, call: Call, request: TokenizeRequest) -> Result<TokenizeResponse, Error> {
        let model = self.models.find(&request.model)?;
        let (turn, _) = requests::scheduling(request.scheduling)?;
        requests::texts(&request.texts, self.max_inputs)?;
        let serving = model.ready()?;
        let bytes = request.texts.iter().map(String::len).sum();
        let texts = serving.texts()?;
        let tokenize = if request.counts_only { tokenization::counts } else { tokenization::tokens };
        let tokenizing = move |caller: &_| tokenize(&texts, &request.texts, caller);
        let texts = call.in_span("tokenize", self.tokenization.run(&turn, bytes, tokenizing)).await?;
        Ok(TokenizeResponse { texts })
    }
}
