//! A server in this process, and clients for it.

use std::{
    fs,
    future::Future,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hotpath_bundle::{Bundle, Revision};
use hotpath_contract::inference::v1::{
    EmbedInput, EmbedRequest, EmbedResponse, ListModelsRequest, Model, ModelState, Priority, Scheduling, TokenIds,
    WatchLoadRequest, WatchLoadResponse, embed_input::Input, inference_service_client::InferenceServiceClient,
    model_service_client::ModelServiceClient,
};
use hotpath_encoding::Limits;
use hotpath_runtime::{Kernels, Threads};
use hotpath_server::{
    config::Config,
    listeners::Listeners,
    metrics::Metrics,
    models::{sessions::Sessions, supervise::Timing, tasks::generation::GenerationSettings},
    serve::{Ended, serve},
    tokenization,
};
use hotpath_testing::{MODEL, library, library_path, models_dir};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::{ErrorDetails, StatusExt};

/// Longer than anything here takes on a busy machine, or on an emulated one.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Settings for a test: free ports, the real bundle, and supervisors that look often.
pub fn config() -> Config {
    let loopback = "127.0.0.1:0".parse().unwrap();
    Config {
        grpc_address: loopback,
        grpc_socket: None,
        metrics_address: loopback,
        models: models_dir(),
        model_names: vec![MODEL.to_owned()],
        onnxruntime_library: library_path(),
        onnxruntime_sha256: None,
        limits: Limits { workers: 2, batch_tokens: 112, max_queued_tokens: 65_536, max_wait: Duration::from_secs(600) },
        tokenization: tokenization::Settings { threads: 2, max_bytes: 64 << 20, max_wait: Duration::from_secs(600) },
        compute_threads: 4,
        kernels: Kernels::best(),
        generation: GenerationSettings {
            threads: Threads::CALLER,
            max_wait: Duration::from_secs(600),
            cache_bytes: 64 << 20,
            max_rows: 8,
            chunk_tokens: 32,
            draft_tokens: 8,
            max_choices: 4,
            default_max_tokens: 24,
            slow_reader: Duration::from_secs(600),
            share_prefixes: false,
        },
        formats: hotpath_formats::Settings {
            program: env!("CARGO_BIN_EXE_hotpath").into(),
            workers: 2,
            cache_bytes: 64 << 20,
            text_bytes: 512 << 20,
            max_wait: Duration::from_secs(600),
        },
        async_threads: 2,
        max_inputs: 2048,
        max_message_bytes: 16 << 20,
        max_connection_age: None,
        max_streams: 1024,
        timing: Timing {
            watch: Duration::from_millis(20),
            probe: Duration::from_secs(5),
            ready: Duration::from_secs(15),
            retry: Duration::from_millis(20),
        },
        drain: LIMIT,
        traces: None,
        log_level: tracing::Level::INFO,
    }
}

/// A server that ends with the test.
pub struct TestServer {
    pub address: String,
    pub metrics_url: String,
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<Ended>,
}

impl TestServer {
    /// Starts with sessions of ONNX Runtime.
    pub async fn start(config: Config) -> Self {
        Self::start_with(config, Arc::new(library())).await
    }

    pub async fn start_with(config: Config, sessions: Arc<dyn Sessions>) -> Self {
        let listeners = Listeners::bind(&config).await.unwrap();
        let address = listeners.grpc.local_addr().unwrap().to_string();
        let metrics_url = listeners.metrics.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await; // a test that ends without a word stops its server too
        };
        let serving = async move { serve(&config, sessions, Metrics::new("test"), listeners, shutdown).await };
        Self { address, metrics_url, stop: Some(stop), task: tokio::spawn(serving) }
    }

    /// Starts, and waits until the model is ready.
    pub async fn ready(config: Config) -> Self {
        let server = Self::start(config).await;
        server.wait_for(|model| model.state() == ModelState::Ready).await;
        server
    }

    pub fn channel(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    pub fn client(&self) -> InferenceServiceClient<Channel> {
        InferenceServiceClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    pub async fn models(&self) -> Vec<Model> {
        let mut client = ModelServiceClient::new(self.channel());
        client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models
    }

    pub async fn watch_load(&self) -> Streaming<WatchLoadResponse> {
        let mut client = ModelServiceClient::new(self.channel());
        client.watch_load(WatchLoadRequest {}).await.unwrap().into_inner()
    }

    pub async fn model(&self) -> Model {
        self.models().await.remove(0)
    }

    pub async fn wait_for(&self, holds: impl Fn(&Model) -> bool) -> Model {
        eventually("the model being as expected", || async {
            let model = self.model().await;
            holds(&model).then_some(model)
        })
        .await
    }

    /// Waits until the health service says so of a service name. It does a moment after the list of models.
    pub async fn wait_for_health(&self, service: &str, wanted: ServingStatus) {
        let channel = self.channel();
        eventually(&format!("\"{service}\" being {wanted:?}"), || async {
            let request = HealthCheckRequest { service: service.to_owned() };
            let reply = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
            (reply.status() == wanted).then_some(())
        })
        .await;
    }

    /// What a metric says, summed over labels that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = http_get(&self.metrics_url, "/metrics").await.1;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(labels);
        text.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// All metrics, in a form.
    pub async fn metrics_as(&self, accept: &str) -> String {
        http_get_as(&self.metrics_url, "/metrics", accept).await.1
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

/// Looks until there is something to see.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let looking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A GET without a client library: status and body.
pub async fn http_get(address: &str, path: &str) -> (u16, String) {
    http_get_as(address, path, "*/*").await
}

/// The same, of a form that is asked for.
async fn http_get_as(address: &str, path: &str, accept: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: test\r\naccept: {accept}\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn text(text: &str) -> EmbedInput {
    EmbedInput { input: Some(Input::Text(text.to_owned())) }
}

pub fn ids(ids: &[u32]) -> EmbedInput {
    EmbedInput { input: Some(Input::TokenIds(TokenIds { ids: ids.to_vec() })) }
}

pub fn scheduling() -> Scheduling {
    Scheduling { fairness_key: "test".to_owned(), priority: Priority::Interactive.into(), ..Scheduling::default() }
}

pub fn request(inputs: Vec<EmbedInput>) -> EmbedRequest {
    EmbedRequest { model: MODEL.to_owned(), inputs, scheduling: Some(scheduling()), ..EmbedRequest::default() }
}

pub fn texts(texts: &[&str]) -> EmbedRequest {
    request(texts.iter().map(|one| text(one)).collect())
}

pub async fn embed(client: &InferenceServiceClient<Channel>, request: EmbedRequest) -> Result<EmbedResponse, Status> {
    client.clone().embed(request).await.map(tonic::Response::into_inner)
}

/// The vectors of a reply.
pub fn vectors(reply: &EmbedResponse) -> Vec<Vec<f32>> {
    let floats = reply.embeddings.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    floats.collect::<Vec<_>>().chunks_exact(reply.dimensions as usize).map(<[f32]>::to_vec).collect()
}

/// An error's reason, and its details.
pub fn reason(status: &Status) -> (String, ErrorDetails) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason in {status:?}"));
    assert_eq!(info.domain, "triptych.dev");
    (info.reason.clone(), details)
}

/// A models folder of one's own with one model, whose files are links to the real ones.
pub struct OwnModels {
    folder: TempDir,
    name: &'static str,
    /// The real model's folder.
    real: PathBuf,
}

impl OwnModels {
    /// The default embedding model.
    pub fn link() -> Self {
        Self::of(MODEL, &models_dir().join(MODEL))
    }

    pub fn of(name: &'static str, real: &Path) -> Self {
        let own = Self { folder: tempfile::tempdir().unwrap(), name, real: real.to_owned() };
        fs::create_dir(own.model()).unwrap();
        let revision = Revision::current(real).unwrap();
        let manifest = fs::read(real.join(revision.as_str()).join("bundle.json")).unwrap();
        own.add(&manifest);
        own.promote(&revision);
        own
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn model(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// Adds a revision that differs in its manifest alone.
    pub fn add(&self, manifest: &[u8]) -> Revision {
        let revision = Revision::of(manifest);
        let folder = self.model().join(revision.as_str());
        fs::create_dir(&folder).unwrap();
        let real = self.real.join(Revision::current(&self.real).unwrap().as_str());
        for file in fs::read_dir(real).unwrap() {
            let file = file.unwrap().path();
            symlink(fs::canonicalize(&file).unwrap(), folder.join(file.file_name().unwrap())).unwrap();
        }
        self.replace(&folder.join("bundle.json"), manifest);
        revision
    }

    /// Adds a revision by another owner.
    pub fn add_of_owner(&self, owner: &str) -> Revision {
        let bundle = Bundle::open(&self.model(), &Revision::current(&self.model()).unwrap()).unwrap();
        let manifest = fs::read_to_string(bundle.path("bundle.json")).unwrap();
        let before = format!("\"owner\": \"{}\"", bundle.manifest.source.owner);
        assert!(manifest.contains(&before));
        self.add(manifest.replace(&before, &format!("\"owner\": \"{owner}\"")).as_bytes())
    }

    /// Replaces a file as a careful writer does: by a rename.
    pub fn replace(&self, path: &Path, content: &[u8]) {
        let beside = self.folder.path().join(".beside");
        fs::write(&beside, content).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub fn promote(&self, revision: &Revision) {
        let current = format!("{{\"revision\": \"{revision}\", \"history\": []}}");
        self.replace(&self.model().join("current"), current.as_bytes());
    }
}

/// Some real texts of different lengths: the golden ones.
pub fn golden() -> Arc<Bundle> {
    Arc::new(hotpath_testing::bundle())
}
