//! What a worker and its process of origin say to each other: JSON, each piece after its length in four bytes.
//!
//! First come the tokens, which are answered with nothing; then schemas, one at a time, each answered with a [`Reply`].

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{compile::Source, schema::Refusal};

/// More than any vocabulary takes.
const MAX_BYTES: u32 = 64 << 20;

/// What a worker says of a schema.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub verdict: Result<Source, Refusal>,
    /// Whether the worker ends with this, since it does not get back the memory that it took.
    pub last: bool,
}

pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn length(bytes: [u8; 4]) -> io::Result<usize> {
    match u32::from_le_bytes(bytes) {
        length if length <= MAX_BYTES => Ok(length as usize),
        length => Err(io::Error::other(format!("a message of {length} bytes"))),
    }
}

/// The next message; `None` at the end.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut bytes = vec![0; length(head)?];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

pub(crate) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)?;
    to.flush()
}

/// Says something that is encoded, and hears what comes back.
pub(crate) async fn ask<T: DeserializeOwned>(
    to: &mut (impl AsyncWriteExt + Unpin),
    from: &mut (impl AsyncReadExt + Unpin),
    message: &[u8],
) -> io::Result<T> {
    to.write_all(message).await?;
    to.flush().await?;
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut bytes = vec![0; length(head)?];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
