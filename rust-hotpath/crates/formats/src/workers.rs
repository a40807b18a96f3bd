//! The processes in which schemas are tried out: as many as there may be, kept warm, and killed when they are left.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    compile::Source,
    protocol::{self, Reply},
    schema::Refusal,
    worker::{CPU_SECONDS, MEMORY_BYTES},
};

/// The subcommand that runs [`crate::worker::run`].
pub const SUBCOMMAND: &str = "format-worker";

/// Longest wait for a worker to read its vocabulary: it takes a fifth of a second alone.
const STARTING: Duration = Duration::from_secs(30);

/// Longest wait for a verdict, on a machine that gives the worker a fifth of a processor.
const TRYING: Duration = Duration::from_secs(10);

/// `SIGXCPU`, `SIGABRT` and `SIGSEGV`, which have the same numbers wherever this runs.
const OUT_OF_TIME: i32 = 24;
const OUT_OF_MEMORY: [i32; 2] = [6, 11];

/// The processes of one serving process.
#[derive(Debug)]
pub(crate) struct Workers {
    program: PathBuf,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    busy: usize,
    idle: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// The encoded tokens that it has read.
    tokens: Arc<[u8]>,
}

/// A worker at work, or one that starts: counted as long as this is there.
struct Busy<'a>(&'a Workers);

/// Why there is no verdict.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The machine was too busy.
    TooSlow,
    /// What is no fault of the schema.
    Broken(String),
}

/// What became of a schema, and whether it cost its worker.
pub(crate) type Tried = (Result<Source, Refusal>, bool);

impl Workers {
    pub(crate) fn new(program: PathBuf, most: usize) -> Self {
        Self { program, most, state: Mutex::default() }
    }

    /// Tries a schema out. Its caller sees to it that no more than `most` are tried at a time. Dropping this kills the worker.
    pub(crate) async fn try_out(&self, tokens: &Arc<[u8]>, schema: &str) -> Result<Tried, Trouble> {
        let message = protocol::encode(&schema).map_err(broken)?;
        let mut broke = Trouble::Broken(String::new());
        for _ in 0..2 {
            let _busy = self.begin();
            let mut worker = match self.idle(tokens) {
                Some(worker) => worker,
                None => self.start(tokens).await?,
            };
            let asking = protocol::ask::<Reply>(&mut worker.input, &mut worker.output, &message);
            match timeout(TRYING, asking).await {
                Err(_) => return Err(Trouble::TooSlow),
                Ok(Ok(Reply { verdict, last })) => {
                    if !last {
                        self.lock().idle.push(worker);
                    }
                    return Ok((verdict, false));
                }
                // It is gone, or says what it should not.
                Ok(Err(error)) => match worker.end().await {
                    Ok(status) => match cost(status) {
                        Some(refusal) => return Ok((Err(refusal), true)),
                        None => broke = Trouble::Broken(format!("a worker for schemas ended: {status}, {error}")),
                    },
                    Err(other) => broke = broken(other),
                },
            }
        }
        Err(broke)
    }

    /// Ends the workers of a vocabulary that nobody has any more.
    pub(crate) fn forget(&self, tokens: &Arc<[u8]>) {
        self.lock().idle.retain(|worker| !Arc::ptr_eq(&worker.tokens, tokens));
    }

    fn begin(&self) -> Busy<'_> {
        self.lock().busy += 1;
        Busy(self)
    }

    fn idle(&self, tokens: &Arc<[u8]>) -> Option<Worker> {
        let mut state = self.lock();
        if let Some(place) = state.idle.iter().position(|worker| Arc::ptr_eq(&worker.tokens, tokens)) {
            return Some(state.idle.remove(place));
        }
        while state.busy + state.idle.len() > self.most && !state.idle.is_empty() {
            state.idle.remove(0); // of another vocabulary
        }
        None
    }

    async fn start(&self, tokens: &Arc<[u8]>) -> Result<Worker, Trouble> {
        let mut command = Command::new(&self.program);
        // Of a group of its own: what stops this process from a terminal would stop it in the middle of its work.
        command.arg(SUBCOMMAND).env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |error: io::Error| Trouble::Broken(format!("no worker for schemas: {error}"));
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (mut input, mut output) = pipes.ok_or_else(|| failed(io::Error::other("no pipes")))?;
        match timeout(STARTING, protocol::ask::<()>(&mut input, &mut output, tokens)).await {
            Err(_) => Err(Trouble::TooSlow),
            Ok(Err(error)) => Err(failed(error)),
            Ok(Ok(())) => Ok(Worker { child, input, output, tokens: tokens.clone() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// How it ended; ends it, if it has not.
    async fn end(self) -> io::Result<ExitStatus> {
        let Self { mut child, input, output, .. } = self;
        drop((input, output));
        match timeout(Duration::from_secs(1), child.wait()).await {
            Ok(status) => status,
            Err(_) => child.kill().await.and(child.wait().await),
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
    }
}

/// What of a schema ended its worker; `None` where something else did.
fn cost(status: ExitStatus) -> Option<Refusal> {
    let problem = match status.signal()? {
        OUT_OF_TIME => format!("costs too much to compile: more than {CPU_SECONDS} s"),
        signal if OUT_OF_MEMORY.contains(&signal) => {
            format!("costs too much to compile: more than {} MiB of memory", MEMORY_BYTES >> 20)
        }
        _ => return None,
    };
    Some(Refusal { path: String::new(), problem })
}

#[allow(clippy::needless_pass_by_value)]
fn broken(error: io::Error) -> Trouble {
    Trouble::Broken(error.to_string())
}
