//! Asks a serving process whether it is healthy, for containers that hold nothing else that could ask.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Longer than any answer takes, shorter than the time that container engines give a check by default.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether the process that listens at this address serves: a model does, and none is still loading.
///
/// # Errors
/// Says why not.
pub async fn check(listens_at: SocketAddr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", reachable(listens_at)))?;
    let channel = endpoint.connect_timeout(LIMIT).timeout(LIMIT).connect().await?;
    let reply = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    match reply.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(other.as_str_name().into()),
    }
}

/// An address to connect to: one that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => (),
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_asked_on_loopback() {
        let text = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(text("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(text("[::]:1"), "[::1]:1");
        assert_eq!(text("10.0.0.1:1"), "10.0.0.1:1");
    }
}
