//! Sessions that need no graph: golden texts get their golden vectors, and what is to go wrong does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hotpath_runtime::{Encode, RunError};
use hotpath_server::models::load::SessionFactory;

/// A text that is this id alone makes a session panic.
pub const PANICS: u32 = 30_000;

/// What the test does to its sessions.
#[derive(Default)]
pub struct Control {
    failing: AtomicBool,
    company: AtomicBool,
    closed: Mutex<bool>,
    opened: Condvar,
    runs: Mutex<Vec<Vec<Vec<u32>>>>,
}

impl Control {
    /// From now on every run fails, or none.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// From now on a vector's last bits tell how many were in its batch.
    pub fn depend_on_company(&self) {
        self.company.store(true, Ordering::Relaxed);
    }

    /// Runs wait until [`Control::open`].
    pub fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Whether a text was run.
    pub fn ran(&self, text: &[u32]) -> bool {
        self.position(text).is_some()
    }

    /// In which run a text was.
    pub fn position(&self, text: &[u32]) -> Option<usize> {
        self.runs.lock().unwrap().iter().position(|run| run.iter().any(|ran| ran == text))
    }

    pub fn factory(self: &Arc<Self>) -> SessionFactory {
        let control = self.clone();
        Arc::new(move |bundle, _| {
            let golden = bundle.golden.iter().map(|case| (case.token_ids.clone(), case.vector.clone())).collect();
            let dimensions = bundle.manifest.embedding.dimensions[0] as usize;
            Ok(Box::new(Session { control: control.clone(), golden, dimensions }))
        })
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
        let closed = self.control.closed.lock().unwrap();
        drop(self.control.opened.wait_while(closed, |closed| *closed).unwrap());
        assert!(!texts.iter().any(|text| **text == [PANICS]), "a session that panics");
        if self.control.failing.load(Ordering::Relaxed) {
            return Err(RunError("a session that fails".to_owned()));
        }
        let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| self.vector(text)).collect();
        if self.control.company.load(Ordering::Relaxed) && texts.len() > 1 {
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
