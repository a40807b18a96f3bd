//! Logs: one JSON object a line, to stderr. Texts never go in.

use std::{io, panic};

use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How the names of this workspace's crates begin.
const OURS: &str = "hotpath";

/// Sends the events of this workspace's crates, from `level` on, and the warnings of all others to stderr.
pub fn start(level: Level) {
    let targets = Targets::new().with_default(Level::WARN.min(level)).with_target(OURS, level);
    let format = fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(io::stderr);
    tracing_subscriber::registry().with(format).with(targets).init();
    // A panic's message may quote what it failed on, so only its place is told.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}
