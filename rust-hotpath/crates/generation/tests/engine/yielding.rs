//! Batch work makes way: what waits for cores has not been chosen yet.

use std::sync::{Arc, mpsc};

use hotpath_cores::Cores;
use hotpath_generation::{Class, Engine, Event, Sampling, Settings, Stop, Stream, Work};
use hotpath_runtime::{Decode, Extent, Row, RunError};
use hotpath_testing::tiny_decoder;

use crate::{Silent, solo::Model};

/// The tokens at the beginning of prompts in a run, and how many rows it has.
type Rows = (Vec<u32>, usize);

/// Tells of each run.
struct Told {
    session: Box<dyn Decode>,
    runs: mpsc::Sender<Rows>,
}

impl Decode for Told {
    fn extent(&self) -> Extent {
        self.session.extent()
    }

    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError> {
        let first = rows.iter().filter(|row| row.position == 0).map(|row| row.token).collect();
        let _ = self.runs.send((first, rows.len()));
        self.session.run(rows, logits)
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.session.copy(from, to, tokens);
    }

    fn release(&mut self, slot: usize) {
        self.session.release(slot);
    }
}

fn start() -> (Engine, Arc<Cores>, mpsc::Receiver<Rows>) {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings: Settings = model.settings(16, 4000, 64);
    let (cores, (runs, told)) = (settings.cores.clone(), mpsc::channel());
    let session = Told { session: Box::new(model.session(settings.limits.slots())), runs };
    (Engine::start(Box::new(session), settings, Arc::new(Silent)).unwrap(), cores, told)
}

fn work(class: Class, first: u32, length: usize) -> Work {
    Work {
        class,
        key: "a".into(),
        deadline: None,
        prompt: vec![first; length],
        max_tokens: 4,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        format: None,
    }
}

async fn end(mut stream: Stream) {
    while let Some(event) = stream.next().await {
        assert!(!matches!(event, Event::Failed(_)), "{event:?}");
    }
}

#[tokio::test]
async fn batch_work_that_waits_for_cores_lets_interactive_work_of_its_own_model_go_first() {
    let (engine, cores, told) = start();
    let held = cores.acquire(1, || Class::Interactive);
    let batch = engine.submit(work(Class::Batch, 7, 8)).unwrap();
    while cores.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let interactive = engine.submit(work(Class::Interactive, 8, 8)).unwrap();
    drop(held);
    end(interactive).await;
    end(batch).await;
    let prompts: Vec<u32> = told.try_iter().flat_map(|(first, _)| first).collect();
    assert_eq!(prompts, [8, 7]);
    engine.close();
}

/// What is about may be another model's.
#[tokio::test]
async fn runs_of_batch_work_are_brief_while_interactive_work_is_about() {
    for (is_about, first_run) in [(false, 32), (true, 8)] {
        let (engine, cores, told) = start();
        if is_about {
            cores.interactive_arrived(false);
        }
        end(engine.submit(work(Class::Batch, 7, 200)).unwrap()).await;
        assert_eq!(told.try_iter().next(), Some((vec![7], first_run)));
        engine.close();
    }
}
