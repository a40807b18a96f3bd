//! `InferenceService`: one module for each method.

mod classify;
mod embed;
mod generate;
mod shared;
mod tokenize;

use hotpath_contract::inference::v1::{
    ClassifyRequest, ClassifyResponse, EmbedRequest, EmbedResponse, GenerateRequest, TokenizeRequest, TokenizeResponse,
    inference_service_server::InferenceService,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use generate::Replies;
pub use shared::Inference;

#[tonic::async_trait]
impl InferenceService for Inference {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.embed_inputs(call, request.into_inner()).await?))
    }

    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<TokenizeResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.tokenize_texts(call, request.into_inner()).await?))
    }

    type GenerateStream = Replies;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Replies>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.generate_replies(call, request.into_inner()).await?))
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let call = Call::of(request.extensions());
        Ok(Response::new(self.classify_texts(call, request.into_inner()).await?))
    }
}
