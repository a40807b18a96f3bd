//! Which signals end the process.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Ends with the first SIGTERM, which supervisors of processes send, or SIGINT, which Ctrl-C at a terminal sends. Both are
/// caught from the moment of the call.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}
