//! Promotion and roll-back under load: no request is lost, and a bad revision changes nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use hotpath_bundle::Revision;
use hotpath_contract::inference::v1::ModelState;
use hotpath_cores::Cores;
use hotpath_generation::{Class, Engine, Sampling, Stop, Work};
use hotpath_server::{
    metrics::Metrics,
    models::{
        Models,
        health::Health,
        load::Loader,
        serving::{Serving, Worker},
        sessions::Compute,
        supervise::Supervisor,
    },
};
use hotpath_testing::library;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::{
    generation::support::{TINY, prompt, tiny_folder},
    support::{OwnModels, TestServer, config, embed, eventually, texts},
};

/// Clients that ask until they are stopped; any error fails the test.
struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Load {
    fn start(server: &TestServer) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            let (client, stop, served) = (server.client(), stop.clone(), served.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    embed(&client, texts(&["a short text", "another one of a few more words"])).await.unwrap();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { clients, stop, served }
    }

    async fn serves_on(&self) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("requests being served", || async {
            (self.served.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promotion_and_roll_back_lose_no_request() {
    let models = OwnModels::link();
    let first = Revision::current(&models.model()).unwrap();
    let second = models.add_of_owner("somebody else");
    let mut config = config();
    config.models = models.path();
    let server = TestServer::ready(config).await;
    let load = Load::start(&server);
    load.serves_on().await;
    for (revision, owner) in [(&second, "somebody else"), (&first, "sentence-transformers")] {
        models.promote(revision);
        let model = server.wait_for(|model| model.revision == revision.as_str()).await;
        assert_eq!((model.owner.as_str(), model.state()), (owner, ModelState::Ready));
        load.serves_on().await;
    }
    load.stop().await;
    let reply = embed(&server.client(), texts(&["a"])).await.unwrap();
    assert_eq!(reply.revision, first.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_revision_leaves_the_old_one_serving() {
    let models = OwnModels::link();
    let first = Revision::current(&models.model()).unwrap();
    let bad = models.add_of_owner("somebody else");
    models.replace(&models.model().join(bad.as_str()).join("golden.json"), b"{}");
    let mut config = config();
    config.models = models.path();
    let server = TestServer::ready(config).await;
    let load = Load::start(&server);
    models.promote(&bad);
    let model = server.wait_for(|model| !model.status_message.is_empty()).await;
    assert!(model.status_message.contains(bad.as_str()) && model.status_message.contains("golden.json"), "{model:?}");
    assert_eq!((model.revision.as_str(), model.state()), (first.as_str(), ModelState::Ready));
    load.serves_on().await;
    models.promote(&first);
    server.wait_for(|model| model.status_message.is_empty()).await;
    load.stop().await;
}

fn engine(serving: &Serving) -> &Engine {
    match &serving.worker {
        Worker::Generation(generator) => &generator.engine,
        _ => panic!("it is a decoder"),
    }
}

/// Who still listens to the old one holds its weights, but not the beginnings of prompts that it kept for others.
#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_is_followed_keeps_nothing_for_requests_to_come() {
    let (models, config, metrics) = (OwnModels::of(TINY, &tiny_folder()), config(), Arc::new(Metrics::new("test")));
    let served = Models::new(&[TINY.to_owned()]);
    let loader = Loader {
        models: models.path(),
        kernels: hotpath_runtime::Kernels::best(),
        limits: config.limits,
        generation: config.generation,
        formats: hotpath_formats::Service::new(&config.formats, metrics.clone()),
        compute: Compute { sessions: Arc::new(library()), cores: Arc::new(Cores::new(1)), alive: TaskTracker::new() },
        metrics,
        served: served.clone(),
    };
    let model = served.iter().next().unwrap();
    let health = Health::new(tonic_health::server::health_reporter().0, served.clone()).await;
    let supervisor = tokio::spawn(Supervisor::new(model.clone(), Arc::new(loader), health, config.timing).run());
    let old = eventually("its being loaded", || async { model.now().serving }).await;
    let work = Work {
        class: Class::Interactive,
        key: "a".into(),
        deadline: None,
        prompt: prompt(1, 40),
        max_tokens: 1,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop::default(),
        format: None,
    };
    let mut stream = engine(&old).submit(work).unwrap();
    while stream.next().await.is_some() {}
    eventually("a beginning being kept", || async { (engine(&old).load().cached_tokens > 0).then_some(()) }).await;

    let second = models.add_of_owner("somebody else");
    models.promote(&second);
    let is_second = || async { model.now().serving.filter(|serving| *serving.revision() == second) };
    eventually("the second one's turn", is_second).await;
    assert_eq!(engine(&old).load().cached_tokens, 0);
    supervisor.abort();
}
