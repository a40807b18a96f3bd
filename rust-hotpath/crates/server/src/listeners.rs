//! Where a serving process listens.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use crate::config::Config;

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For gRPC from this machine, if so configured.
    pub socket: Option<Socket>,
    /// For metrics.
    pub metrics: TcpListener,
}

/// A Unix socket, whose file is gone with it.
#[derive(Debug)]
pub struct Socket {
    /// Who connects.
    pub listener: UnixListener,
    /// Keeps the file.
    pub file: SocketFile,
}

/// Removes the file when it is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Listeners {
    /// Binds all, and logs where.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn bind(config: &Config) -> io::Result<Self> {
        let grpc = TcpListener::bind(config.grpc_address).await?;
        let metrics = TcpListener::bind(config.metrics_address).await?;
        for (name, listener) in [("grpc", &grpc), ("metrics", &metrics)] {
            tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
        }
        let socket = config.grpc_socket.as_deref().map(Socket::bind).transpose()?;
        Ok(Self { grpc, socket, metrics })
    }
}

impl Socket {
    /// Binds a socket to which only this user can connect. A file that a process left which did not end by itself is
    /// replaced.
    fn bind(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("grpc-socket {}: {error}", path.display()));
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            fs::remove_file(path).map_err(named)?;
        }
        let listener = UnixListener::bind(path).map_err(named)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(named)?;
        tracing::info!(listener = "grpc-socket", address = %path.display(), "listening");
        Ok(Self { listener, file })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // somebody removed it before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_this_users_alone_and_takes_the_place_of_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotpath.sock");
        drop(UnixListener::bind(&path).unwrap()); // leaves its file
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = Socket::bind(&path).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(taken.to_string().contains("hotpath.sock"), "{taken}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(Socket::bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
