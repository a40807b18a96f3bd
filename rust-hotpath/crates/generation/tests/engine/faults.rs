//! A loop that dies tells everybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use hotpath_generation::{Class, Engine, Event, Failure, Observer, Ran, Sampling, Stop, Stream, Work};
use hotpath_testing::tiny_decoder;

use crate::solo::Model;

const LIMIT: Duration = Duration::from_secs(60);

/// Panics, once it may go on.
struct Panics {
    may_go_on: std::sync::Mutex<mpsc::Receiver<()>>,
    ran: AtomicBool,
}

impl Observer for Panics {
    fn ran(&self, _: &Ran) {
        self.ran.store(true, Ordering::SeqCst);
        let _ = self.may_go_on.lock().unwrap().recv_timeout(LIMIT);
        panic!("an observer that panics");
    }
}

fn work(first: u32) -> Work {
    Work {
        class: Class::Interactive,
        key: "a".into(),
        deadline: None,
        prompt: vec![first, 3],
        max_tokens: 4,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop::default(),
        format: None,
    }
}

async fn last(mut stream: Stream) -> Event {
    let next = tokio::time::timeout(LIMIT, stream.next()).await;
    next.expect("nobody tells it").unwrap()
}

#[tokio::test]
async fn a_loop_that_dies_ends_what_runs_what_came_meanwhile_and_what_comes_later() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(2, 900, 4);
    let (go_on, may_go_on) = mpsc::channel();
    let observer = Arc::new(Panics { may_go_on: may_go_on.into(), ran: AtomicBool::new(false) });
    let engine = Engine::start(Box::new(model.session(settings.limits.rows())), settings, observer.clone()).unwrap();
    let runs = engine.submit(work(1)).unwrap();
    while !observer.ran.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let meanwhile = engine.submit(work(2)).unwrap();
    go_on.send(()).unwrap();
    assert_eq!(last(runs).await, Event::Failed(Failure::Closed));
    assert_eq!(last(meanwhile).await, Event::Failed(Failure::Closed));
    assert_eq!(last(engine.submit(work(3)).unwrap()).await, Event::Failed(Failure::Closed));
    engine.close();
}
