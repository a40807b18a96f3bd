//! The Unix socket serves as the port does, and its file is gone with the process' service.

use hotpath_contract::inference::v1::inference_service_client::InferenceServiceClient;
use hotpath_server::config::Config;
use tonic::transport::Endpoint;

use crate::support::{TestServer, config, embed, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_is_the_same_by_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotpath.sock");
    let mut server = TestServer::ready(Config { grpc_socket: Some(path.clone()), ..config() }).await;
    let channel = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap().connect().await.unwrap();
    let by_socket = embed(&InferenceServiceClient::new(channel), texts(&["a text"])).await.unwrap();
    let by_port = embed(&server.client(), texts(&["a text"])).await.unwrap();
    assert_eq!(by_socket.embeddings, by_port.embeddings);
    server.stop();
    server.task.await.unwrap();
    assert!(!path.exists());
}
