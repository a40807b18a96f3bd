//! Sessions that need no graph: golden texts get their golden vectors, and what is to go wrong does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hotpath_bundle::{Bundle, Graph, Refused};
use hotpath_runtime::{Decode, Decoder, Encode, Extent, Head, Row, RunError, Threads};
use hotpath_server::models::sessions::Sessions;
use hotpath_testing::{golden_embeddings, library};

/// A text that is this id alone makes a session panic.
pub const PANICS: u32 = 30_000;

/// A text that is this id alone makes a session panic in a way that no fence around a run holds.
pub const KILLS: u32 = 30_001;

/// A panic's payload that panics itself when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

/// What the test does to its sessions.
#[derive(Default)]
pub struct Control {
    failing: AtomicBool,
    deadly: AtomicBool,
    terminated: AtomicBool,
    /// Whether runs go on though they were to end.
    stubborn: AtomicBool,
    batched: AtomicBool,
    /// Runs that need not wait; `None` while none must.
    free_runs: Mutex<Option<usize>>,
    opened: Condvar,
    runs: Mutex<Vec<Vec<Vec<u32>>>>,
    decoding: AtomicUsize,
    failed: AtomicUsize,
    waits: AtomicBool,
}

impl Control {
    /// From now on every run fails, or none.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Runs that wait do so though they are told to end.
    pub fn be_stubborn(&self) {
        self.stubborn.store(true, Ordering::Relaxed);
    }

    fn result(&self) -> Result<(), RunError> {
        let ends = [(&self.failing, "a session that fails"), (&self.terminated, "a session that was told to end")];
        match ends.into_iter().find(|(ends, _)| ends.load(Ordering::Relaxed)) {
            Some((_, why)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                Err(RunError(why.to_owned()))
            }
            None => Ok(()),
        }
    }

    /// From now on a decoder dies of giving a slot back, or none.
    pub fn kill(&self, deadly: bool) {
        self.deadly.store(deadly, Ordering::Relaxed);
    }

    /// From now on a vector's last bits tell how many were in its batch.
    pub fn depend_on_the_batch(&self) {
        self.batched.store(true, Ordering::Relaxed);
    }

    /// Runs wait until [`Control::open`].
    pub fn close(&self) {
        self.close_after(0);
    }

    /// So many runs go on, and the next ones wait until [`Control::open`].
    pub fn close_after(&self, runs: usize) {
        *self.free_runs.lock().unwrap() = Some(runs);
        self.opened.notify_all();
    }

    pub fn open(&self) {
        *self.free_runs.lock().unwrap() = None;
        self.opened.notify_all();
    }

    /// Waits while it is closed.
    fn wait(&self) {
        let free_runs = self.free_runs.lock().unwrap();
        self.waits.store(*free_runs == Some(0), Ordering::Relaxed);
        let mut free_runs = self.opened.wait_while(free_runs, |free_runs| *free_runs == Some(0)).unwrap();
        *free_runs = free_runs.map(|runs| runs - 1);
    }

    /// Whether a run waits for [`Control::open`].
    pub fn waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// A decoder's runs so far, the one that waits included.
    pub fn steps(&self) -> usize {
        self.decoding.load(Ordering::Relaxed)
    }

    /// Runs so far that failed.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a text was run.
    pub fn ran(&self, text: &[u32]) -> bool {
        self.position(text).is_some()
    }

    /// In which run a text was.
    pub fn position(&self, text: &[u32]) -> Option<usize> {
        self.runs.lock().unwrap().iter().position(|run| run.iter().any(|ran| ran == text))
    }

    pub fn factory(self: &Arc<Self>) -> Arc<dyn Sessions> {
        Arc::new(Controlled(self.clone()))
    }
}

/// Makes sessions that a test controls.
struct Controlled(Arc<Control>);

impl Sessions for Controlled {
    fn encoder(&self, bundle: &Bundle, _: &Graph) -> Result<Box<dyn Encode>, Refused> {
        let golden = golden_embeddings(bundle).iter();
        let golden = golden.map(|case| (case.token_ids.clone(), case.graphs[0].clone())).collect();
        let dimensions = bundle.manifest.embedding()?.dimensions[0] as usize;
        Ok(Box::new(Session { control: self.0.clone(), golden, dimensions }))
    }

    fn decoder(
        &self,
        bundle: &Bundle,
        graph: &Graph,
        threads: Threads,
        slots: usize,
        capacity: usize,
    ) -> Result<Box<dyn Decode>, Refused> {
        let decoder = Decoder::load(&library(), bundle, graph, threads, slots, capacity)?;
        Ok(Box::new(ControlledDecoder { control: self.0.clone(), decoder }))
    }

    fn head(&self, bundle: &Bundle, graph: &Graph) -> Result<Head, Refused> {
        Head::load(&library(), bundle, graph)
    }

    fn terminate(&self) {
        if !self.0.stubborn.load(Ordering::Relaxed) {
            self.0.terminated.store(true, Ordering::Relaxed);
            self.0.open();
        }
    }
}

/// A real decoder whose runs wait while the control is closed, and fail when it says so.
struct ControlledDecoder {
    control: Arc<Control>,
    decoder: Decoder,
}

impl ControlledDecoder {
    fn obey(&self) -> Result<(), RunError> {
        self.control.wait();
        self.control.result()
    }
}

impl Decode for ControlledDecoder {
    fn extent(&self) -> Extent {
        self.decoder.extent()
    }

    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError> {
        // By slot, as a run's prompts are.
        let mut texts: Vec<(usize, Vec<u32>)> = Vec::new();
        for row in rows {
            match texts.last_mut() {
                Some((slot, text)) if *slot == row.slot => text.push(row.token),
                _ => texts.push((row.slot, vec![row.token])),
            }
        }
        self.control.runs.lock().unwrap().push(texts.into_iter().map(|(_, text)| text).collect());
        self.control.decoding.fetch_add(1, Ordering::Relaxed);
        self.obey()?;
        self.decoder.run(rows, logits)
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.decoder.copy(from, to, tokens);
    }

    fn release(&mut self, slot: usize) {
        assert!(!self.control.deadly.load(Ordering::Relaxed), "a slot that stays");
        self.decoder.release(slot);
    }
}

struct Session {
    control: Arc<Control>,
    golden: HashMap<Vec<u32>, Vec<f32>>,
    dimensions: usize,
}

impl Encode for Session {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let batch = texts.iter().map(|text| text.to_vec()).collect();
        self.control.runs.lock().unwrap().push(batch);
        self.control.wait();
        assert!(!texts.iter().any(|text| **text == [PANICS]), "a session that panics");
        if texts.iter().any(|text| **text == [KILLS]) {
            std::panic::panic_any(Bomb);
        }
        self.control.result()?;
        let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| self.vector(text)).collect();
        if self.control.batched.load(Ordering::Relaxed) && texts.len() > 1 {
            for vector in &mut vectors {
                vector[0] = vector[0].next_up();
            }
        }
        Ok(vectors)
    }
}

impl Session {
    fn vector(&self, text: &[u32]) -> Vec<f32> {
        self.golden.get(text).cloned().unwrap_or_else(|| vec![1.0; self.dimensions])
    }
}
