//! Formats for requests: from the cache, or tried out in a worker and compiled here.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use hotpath_fairness::{
    Admission, Bounds, Turn,
    turnstile::{self, Pass, Refused, Turnstile},
};
use hotpath_generation::Format;
use hotpath_text::Vocabulary;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::{
    cache::{Cache, Key, Known},
    compile::{Compiler, MOST_STATES, Source, Tokens},
    protocol,
    schema::{self, Refusal},
    workers::{Trouble, Workers},
};

/// Stack on which schemas are compiled: twice that on which they are tried out.
const STACK_BYTES: usize = 128 << 20;

/// When another try is worth it: workers are done with a schema in less than three seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Schemas of each class that may wait for a worker, and how many more of keys that have none here.
const WAITING: usize = 256;

/// What one costs: the time that it takes is known afterwards, and bounded.
const COST: usize = 1;

/// How schemas are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The program whose subcommand [`SUBCOMMAND`](crate::SUBCOMMAND) is a worker.
    pub program: PathBuf,
    /// Most workers.
    pub workers: usize,
    /// Most bytes of compiled formats that are kept.
    pub cache_bytes: usize,
    /// Most bytes that texts which follow a format may take.
    pub text_bytes: usize,
    /// Longest wait for a worker.
    pub max_wait: Duration,
}

/// Sees what becomes of schemas.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn noted(&self, what: Noted);
}

/// What becomes of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It was known.
    Hit,
    /// It was compiled.
    Compiled,
    /// It was refused.
    Refused,
    /// It was refused, and its worker with it.
    Killed,
}

/// What all vocabularies of a process share.
pub struct Service {
    workers: Workers,
    /// To the workers.
    turnstile: Arc<Turnstile>,
    cache: Arc<Cache<Compiled>>,
    texts: Arc<Mutex<Admission>>,
    observer: Arc<dyn Observer>,
    vocabularies: AtomicU64,
}

/// Formats of one vocabulary.
pub struct Formats {
    service: Arc<Service>,
    compiler: Arc<Compiler>,
    /// As workers are told of them.
    tokens: Arc<[u8]>,
    number: u64,
    json_object: Compiled,
}

#[derive(Debug, Clone)]
struct Compiled {
    format: Format,
    /// Most memory of each of its texts.
    text_bytes: usize,
}

/// Room for texts, which is given back with this.
struct Reservation {
    texts: Arc<Mutex<Admission>>,
    key: hotpath_fairness::Key,
    bytes: usize,
}

/// Why there is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The schema cannot be kept to.
    #[error("{0}")]
    Refused(Refusal),
    /// Too many wait, or too many texts follow a format.
    #[error("too much is asked for at once")]
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// Its turn did not come in time.
    #[error("waited for too long")]
    WaitedTooLong {
        /// When to try again.
        retry_after: Duration,
    },
    /// A fault of ours.
    #[error("{0}")]
    Broken(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { retry_after } => Self::Full { retry_after },
            Refused::TooLate { retry_after } => Self::WaitedTooLong { retry_after },
        }
    }
}

impl Service {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(settings: &Settings, observer: Arc<dyn Observer>) -> Arc<Self> {
        let largest = Source { schema: json!(true), states: MOST_STATES }.text_bytes();
        let bounds = Bounds { shared: settings.text_bytes, reserve: settings.text_bytes / 4, small: largest };
        Arc::new(Self {
            workers: Workers::new(settings.program.clone(), settings.workers),
            turnstile: Turnstile::new(&turnstile::Settings {
                permits: settings.workers,
                // Beside those that have a worker.
                bounds: Bounds { shared: WAITING + settings.workers, reserve: WAITING, small: 1 },
                least_cost: COST,
                max_wait: settings.max_wait,
            }),
            cache: Cache::new(settings.cache_bytes),
            texts: Arc::new(Mutex::new(Admission::new(bounds))),
            observer,
            vocabularies: AtomicU64::new(0),
        })
    }

    /// Bytes of the compiled formats that are kept.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Bytes that running texts with a format may take.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).held()
    }

    /// Makes a format one request's.
    fn reserve(&self, compiled: &Compiled, key: &hotpath_fairness::Key, choices: usize) -> Result<Format, Failure> {
        let bytes = compiled.text_bytes.saturating_mul(choices.max(1));
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.excess(key, bytes) > 0 {
            return Err(Failure::Full { retry_after: LOOK_AGAIN });
        }
        texts.take(key, bytes);
        Ok(compiled.format.reserved(Reservation { texts: self.texts.clone(), key: key.clone(), bytes }))
    }
}

impl Formats {
    /// Reads a vocabulary, which takes a tenth of a second. Where a text is complete, `stop_ids` may come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(service: &Arc<Service>, vocabulary: &Vocabulary, stop_ids: &[u32]) -> Result<Self, String> {
        let bytes = vocabulary.ids().map(|id| vocabulary.bytes(id).to_vec()).collect();
        let tokens = Tokens { bytes, stop_ids: stop_ids.to_vec() };
        let compiler = Arc::new(Compiler::new(&tokens)?);
        let source = Source { schema: json!({"type": "object"}), states: 4000 };
        let json_object = Compiled { format: compiler.format(&source)?.0, text_bytes: source.text_bytes() };
        let tokens = protocol::encode(&tokens).map_err(|error| error.to_string())?.into();
        let number = service.vocabularies.fetch_add(1, Ordering::Relaxed);
        Ok(Self { service: service.clone(), compiler, tokens, number, json_object })
    }

    /// What all vocabularies share.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Any JSON object, for so many texts.
    ///
    /// # Errors
    /// [`Failure::Full`].
    pub fn json_object(&self, turn: &Turn, choices: usize) -> Result<Format, Failure> {
        self.service.reserve(&self.json_object, &turn.key, choices)
    }

    /// What a JSON Schema allows, for so many texts.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn json_schema(&self, turn: &Turn, schema: &str, choices: usize) -> Result<Format, Failure> {
        if schema.len() > schema::MAX_BYTES {
            let problem = format!("has {} bytes, it may have at most {}", schema.len(), schema::MAX_BYTES);
            return Err(Failure::Refused(Refusal { path: String::new(), problem }));
        }
        let key = (self.number, Sha256::digest(schema).into());
        let compiled = self.compiled(turn, key, schema).await?.map_err(Failure::Refused)?;
        self.service.reserve(&compiled, &turn.key, choices)
    }

    async fn compiled(&self, turn: &Turn, key: Key, schema: &str) -> Result<Result<Compiled, Refusal>, Failure> {
        let service = &self.service;
        let mut known = service.cache.look(&key);
        loop {
            match known {
                Known::Outcome(outcome) => {
                    service.observer.noted(Noted::Hit);
                    return Ok(outcome);
                }
                Known::Running(mut ends) => {
                    let _ = ends.changed().await; // which ends it is, is looked at next
                    known = service.cache.look(&key);
                }
                Known::Nothing => {
                    let pass = service.turnstile.enter(turn, COST).await?;
                    match service.cache.begin(key) {
                        Err(other) => known = other,
                        Ok(running) => {
                            let (outcome, bytes) = self.compile(pass, schema).await?;
                            running.end(&outcome, bytes);
                            return Ok(outcome);
                        }
                    }
                }
            }
        }
    }

    /// Tries a schema out, and compiles it if that ends well; gives the bytes that the result takes.
    async fn compile(&self, pass: Pass, schema: &str) -> Result<(Result<Compiled, Refusal>, usize), Failure> {
        let (tried, killed) = self.service.workers.try_out(&self.tokens, schema).await.map_err(|why| match why {
            Trouble::TooSlow => Failure::WaitedTooLong { retry_after: LOOK_AGAIN },
            Trouble::Broken(cause) => Failure::Broken(cause),
        })?;
        let source = match tried {
            Ok(source) => source,
            Err(refusal) => {
                self.service.observer.noted(if killed { Noted::Killed } else { Noted::Refused });
                pass.done();
                let bytes = refusal.path.len() + refusal.problem.len();
                return Ok((Err(refusal), bytes));
            }
        };
        let (compiler, text_bytes) = (self.compiler.clone(), source.text_bytes());
        let (gives, given) = oneshot::channel();
        let compiling = thread::Builder::new().name("schema".to_owned()).stack_size(STACK_BYTES);
        let compiling = compiling.spawn(move || {
            let _ = gives.send(compiler.format(&source));
            pass.done(); // until now it is held, whether or not somebody waits
        });
        compiling.map_err(|error| Failure::Broken(error.to_string()))?;
        let broken = |why: String| Failure::Broken(format!("a schema that was tried out does not compile: {why}"));
        let (format, bytes) = given.await.map_err(|_| broken("it panicked".to_owned()))?.map_err(broken)?;
        self.service.observer.noted(Noted::Compiled);
        Ok((Ok(Compiled { format, text_bytes }), bytes))
    }
}

impl Drop for Formats {
    fn drop(&mut self) {
        self.service.workers.forget(&self.tokens);
        self.service.cache.forget(self.number);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).give_back(&self.key, self.bytes);
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Service").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl fmt::Debug for Formats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Formats").field("number", &self.number).finish_non_exhaustive()
    }
}
