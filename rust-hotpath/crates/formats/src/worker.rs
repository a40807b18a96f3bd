//! The process in which schemas are tried out. Whatever one does to it, it does to nothing else.
//!
//! The operating system holds it to its limits: a schema that takes more time or memory than it may ends the process, and
//! whoever started it sees by what. It ends by itself when its input does, so it outlives nobody.

use std::{
    fs, io, process,
    sync::mpsc::{self, Receiver},
    thread,
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

use crate::{
    compile::{Compiler, Tokens},
    protocol::{self, Reply},
    schema::{self, Refusal},
    walk,
};

/// Most time of one schema, in seconds of a processor. Told apart by the second, so two more at most.
pub(crate) const CPU_SECONDS: u64 = 2;

/// Most memory of one schema, beside what the worker holds in any case.
pub(crate) const MEMORY_BYTES: u64 = 256 << 20;

/// Stack on which a schema is tried out. Half of what it is compiled and followed on.
const STACK_BYTES: usize = 64 << 20;

/// A worker that keeps so much more than at its start gives way to another.
const KEPT_BYTES: u64 = 64 << 20;

/// And so does one that has used a processor for so many seconds. The limit is the system's, which samples at its ticks, and is
/// set by a clock that is exact: on a busy machine the two were seen 1.7 % apart. In a life as long as that of the server, the
/// difference would come to the time of a costly schema.
const LIFE_SECONDS: i64 = 10;

/// Works until standard input ends.
///
/// # Errors
/// When what comes is no message of ours.
pub fn run() -> io::Result<()> {
    limit(Resource::Core, 0)?;
    let mut messages = messages().into_iter();
    let mut output = io::stdout().lock();
    let Some(tokens) = messages.next() else { return Ok(()) };
    let tokens: Tokens = serde_json::from_slice(&tokens)?;
    let compiler = Compiler::new(&tokens).map_err(io::Error::other)?;
    protocol::write(&mut output, &())?;
    let base = data_bytes();
    for message in messages {
        let schema: String = serde_json::from_slice(&message)?;
        if let Some(now) = data_bytes() {
            limit(Resource::Data, now + STACK_BYTES as u64 + MEMORY_BYTES)?;
        }
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let apart = 1; // second, by which the system may be ahead
        limit(Resource::Cpu, used.tv_sec.unsigned_abs() + u64::from(used.tv_nsec > 0) + CPU_SECONDS + apart)?;
        let verdict = thread::scope(|scope| {
            let trying = thread::Builder::new().stack_size(STACK_BYTES);
            let trying = trying.spawn_scoped(scope, || {
                schema::check(&schema).and_then(|checked| walk::prove(&compiler, &tokens, checked))
            })?;
            let panicked = |_| Err(Refusal { path: String::new(), problem: "cannot be compiled".to_owned() });
            Ok::<_, io::Error>(trying.join().unwrap_or_else(panicked))
        })?;
        let keeps_much = data_bytes().zip(base).is_some_and(|(now, base)| now > base + KEPT_BYTES);
        let last = keeps_much || clock_gettime(ClockId::ProcessCPUTime).tv_sec >= LIFE_SECONDS;
        protocol::write(&mut output, &Reply { verdict, last })?;
        if last {
            return Ok(());
        }
    }
    Ok(())
}

/// What comes in. Once nothing more will, nobody waits for what is being done: the process ends at once.
fn messages() -> Receiver<Vec<u8>> {
    let (sends, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(message)) = protocol::read(&mut input) {
            if sends.send(message).is_err() {
                return;
            }
        }
        process::exit(0);
    });
    messages
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

/// Memory that this process may write to; `None` where the system does not say, and limits only time.
fn data_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
