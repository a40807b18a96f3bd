//! A server of a tiny decoder and of the default encoder, and clients for it.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use hotpath_contract::inference::v1::{
    GenerateDelta, GenerateDone, GenerateRequest, GenerateResponse, GenerateStarted, Model, ModelState, Sampling, Stop,
    TokenIds, generate_request::Prompt, generate_response::Event, inference_service_client::InferenceServiceClient,
};
use hotpath_server::{config::Config, models::sessions::Sessions};
use hotpath_testing::{MODEL, library, models_dir, tiny_decoder};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    sessions::Control,
    support::{TestServer, eventually, scheduling},
};

/// The decoder's name.
pub const TINY: &str = "tiny-decoder";

/// A server, and the folder of its models.
pub struct Generating {
    pub server: TestServer,
    _models: TempDir,
}

/// What a stream told.
#[derive(Debug, Default)]
pub struct Told {
    pub started: Option<GenerateStarted>,
    pub deltas: Vec<GenerateDelta>,
    pub done: Option<GenerateDone>,
}

impl Told {
    pub fn tokens(&self, choice: u32) -> Vec<u32> {
        let of_choice = self.deltas.iter().filter(|delta| delta.choice == choice);
        of_choice.flat_map(|delta| delta.tokens.iter().map(|token| token.id)).collect()
    }

    pub fn text(&self, choice: u32) -> String {
        self.deltas.iter().filter(|delta| delta.choice == choice).map(|delta| delta.text.as_str()).collect()
    }
}

/// Settings for a test: those of the encoder's tests, and no encoder.
pub fn config() -> Config {
    Config { model_names: vec![TINY.to_owned()], ..crate::support::config() }
}

/// The same, for one continuation at a time: others wait.
pub fn one_row() -> Config {
    let mut config = config();
    config.generation.max_rows = 1;
    config.generation.max_choices = 1;
    config
}

impl Generating {
    pub async fn ready(config: Config) -> Self {
        Self::ready_with(config, Arc::new(library())).await
    }

    /// A server whose decoder does as it is told.
    pub async fn controlled(config: Config) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        (Self::ready_with(config, control.factory()).await, control)
    }

    /// Opens a stream in the background and reads it.
    pub fn spawn(&self, prompt: Vec<u32>, max_tokens: u32) -> JoinHandle<Result<(), Status>> {
        let client = self.client();
        tokio::spawn(async move { generate(&client, request(prompt, max_tokens)).await.map(drop) })
    }

    /// Two streams of a server with [`one_row`]: the first is in the session, which stands still, and the second waits.
    pub async fn spawn_two(&self, control: &Control) -> [JoinHandle<Result<(), Status>>; 2] {
        control.close();
        let first = self.spawn(prompt(1, 4), 4);
        self.wait_for("hotpath_prefilling_generations", 1.0).await;
        let second = self.spawn(prompt(2, 4), 4);
        self.wait_for("hotpath_queued_generations", 1.0).await;
        [first, second]
    }

    async fn ready_with(config: Config, sessions: Arc<dyn Sessions>) -> Self {
        let generating = Self::start(config, sessions).await;
        // With nothing to say of itself: what is left of the golden cases has been replayed.
        let ready = |model: &Model| model.state() == ModelState::Ready && model.status_message.is_empty();
        eventually("all models being ready", || async {
            generating.server.models().await.iter().all(ready).then_some(())
        })
        .await;
        generating
    }

    async fn start(mut config: Config, sessions: Arc<dyn Sessions>) -> Self {
        let models = tempfile::tempdir().unwrap();
        link(&tiny_folder(), &models.path().join(TINY));
        link(&models_dir().join(MODEL), &models.path().join(MODEL));
        config.models = models.path().to_owned();
        Self { server: TestServer::start_with(config, sessions).await, _models: models }
    }

    pub fn client(&self) -> InferenceServiceClient<Channel> {
        self.server.client()
    }

    /// Waits until a gauge has a value.
    pub async fn wait_for(&self, gauge: &str, value: f64) {
        eventually(gauge, || async { (self.server.metric(gauge, TINY).await == value).then_some(()) }).await;
    }

    /// Waits until no request holds anything.
    pub async fn wait_until_free(&self) {
        for gauge in ["queued_generations", "prefilling_generations", "decoding_rows", "parked_rows", "reserved_tokens"]
        {
            self.wait_for(&format!("hotpath_{gauge}"), 0.0).await;
        }
    }

    /// How many requests came to an end.
    pub async fn ended(&self, outcome: &str) -> f64 {
        self.server.metric("hotpath_generations_total", &format!("outcome=\"{outcome}\"")).await
    }
}

/// The folder of the decoder's revisions.
pub fn tiny_folder() -> std::path::PathBuf {
    let manifest = tiny_decoder().path("bundle.json");
    manifest.parent().unwrap().parent().unwrap().to_owned()
}

fn link(folder: &Path, place: &Path) {
    symlink(fs::canonicalize(folder).unwrap(), place).unwrap();
}

/// A greedy request of so many tokens that none but their number ends.
pub fn request(prompt: Vec<u32>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: TINY.to_owned(),
        prompt: Some(Prompt::TokenIds(TokenIds { ids: prompt })),
        max_tokens,
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        stop: Some(Stop { ignore_eos: true, ..Stop::default() }),
        scheduling: Some(scheduling()),
        ..GenerateRequest::default()
    }
}

/// A prompt of some ids that depends on a number.
pub fn prompt(number: usize, length: usize) -> Vec<u32> {
    (0..length).map(|place| 2 + u32::try_from((number * 7919 + place * 31) % 200).unwrap()).collect()
}

pub async fn open(
    client: &InferenceServiceClient<Channel>,
    request: impl tonic::IntoRequest<GenerateRequest>,
) -> Result<Streaming<GenerateResponse>, Status> {
    client.clone().generate(request).await.map(tonic::Response::into_inner)
}

/// Reads a stream to its end.
pub async fn listen(mut stream: Streaming<GenerateResponse>) -> Result<Told, Status> {
    let mut told = Told::default();
    while let Some(reply) = stream.message().await? {
        assert!(told.done.is_none(), "`done` is the last message");
        match reply.event.expect("a message has an event") {
            Event::Started(started) => {
                assert!(told.deltas.is_empty(), "`started` is the first message");
                told.started = Some(started);
            }
            Event::Delta(delta) => told.deltas.push(delta),
            Event::Done(done) => told.done = Some(done),
        }
    }
    assert!(told.done.is_some(), "a stream without an error ends with `done`");
    Ok(told)
}

pub async fn generate(
    client: &InferenceServiceClient<Channel>,
    request: impl tonic::IntoRequest<GenerateRequest>,
) -> Result<Told, Status> {
    let told = listen(open(client, request).await?).await?;
    let GenerateDone { revision, prompt_tokens, cached_tokens, .. } = told.done.clone().unwrap();
    assert_eq!(told.started, Some(GenerateStarted { revision, prompt_tokens, cached_tokens }));
    Ok(told)
}
