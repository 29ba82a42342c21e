//! The way to the agent. Nothing here fails: what cannot be sent is dropped, as is the nature of UDP.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::{Instant, timeout},
};
use tracing::{debug, info, warn};

/// How long a name's address is used before it is asked for again: agents move, and a datagram to where one was is lost unnoticed.
const ADDRESS_KEEP: Duration = Duration::from_secs(30);
/// How long the resolver may take. It must not hold back the next interval for long.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// A socket that finds its agent again.
pub(super) struct Socket {
    address: String,
    open: Option<Open>,
    /// Which of the name's addresses is tried: the next one after a refusal.
    turn: usize,
    unresolved: bool,
}

struct Open {
    socket: UdpSocket,
    since: Instant,
}

impl Socket {
    pub(super) fn new(address: String) -> Self {
        Self { address, open: None, turn: 0, unresolved: false }
    }

    /// Sends what can be sent.
    pub(super) async fn send(&mut self, datagrams: Vec<String>) {
        for datagram in datagrams {
            let Some(socket) = self.socket().await else { return };
            if let Err(error) = socket.send(datagram.as_bytes()).await {
                debug!(address = %self.address, %error, "metrics were not sent");
                self.open = None;
                self.turn += 1;
                return;
            }
        }
    }

    async fn socket(&mut self) -> Option<&UdpSocket> {
        let fresh = self.open.as_ref().is_some_and(|open| open.since.elapsed() < ADDRESS_KEEP);
        if !fresh {
            match self.open().await {
                Ok(socket) => self.found(socket),
                Err(error) => self.not_found(&error),
            }
        }
        self.open.as_ref().map(|open| &open.socket)
    }

    async fn open(&self) -> io::Result<UdpSocket> {
        let found = timeout(RESOLVE_WITHIN, lookup_host(&self.address)).await.map_err(io::Error::other)??;
        let found: Vec<SocketAddr> = found.collect();
        let count = found.len().max(1);
        let agent = found.get(self.turn % count).ok_or_else(|| io::Error::other("the name has no address"))?;
        let any: SocketAddr = if agent.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(agent).await?;
        Ok(socket)
    }

    #[expect(clippy::disallowed_methods, reason = "an age in real time; nothing is decided by it but when to resolve")]
    fn found(&mut self, socket: UdpSocket) {
        if std::mem::take(&mut self.unresolved) {
            info!(address = %self.address, "statsd_addr is found again");
        }
        self.open = Some(Open { socket, since: Instant::now() });
    }

    /// What is open stays in use: a resolver that is away does not move the agent.
    fn not_found(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.unresolved, true) {
            warn!(address = %self.address, %error, "statsd_addr cannot be resolved; metrics are not sent until it can");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_without_an_agent_hurts_nobody_and_an_agent_that_comes_is_found() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let mut socket = Socket::new(address.to_string());
        for _ in 0..5 {
            socket.send(vec!["a:1|c".to_owned(), "b:1|c".to_owned()]).await;
        }
        let agent = UdpSocket::bind(address).await.unwrap();
        let mut buffer = [0; 16];
        // The first may meet the refusal of the last one before.
        socket.send(vec!["first".to_owned()]).await;
        socket.send(vec!["second".to_owned()]).await;
        let length = agent.recv(&mut buffer).await.unwrap();
        assert!([&b"first"[..], b"second"].contains(&&buffer[..length]));
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_hurts_nobody() {
        let mut socket = Socket::new("no-such-host.invalid:8126".to_owned());
        socket.send(vec!["a:1|c".to_owned()]).await;
        assert!(socket.open.is_none() && socket.unresolved);
    }

    #[tokio::test]
    async fn a_name_is_resolved_again_when_its_address_is_old() {
        let agent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut socket = Socket::new(agent.local_addr().unwrap().to_string());
        let mut buffer = [0; 16];
        let mut from = Vec::new();
        for is_old in [false, false, true] {
            if let Some(open) = socket.open.as_mut().filter(|_| is_old) {
                open.since = open.since.checked_sub(ADDRESS_KEEP).unwrap();
            }
            socket.send(vec!["a:1|c".to_owned()]).await;
            from.push(agent.recv_from(&mut buffer).await.unwrap().1);
        }
        assert!(from[0] == from[1] && from[1] != from[2], "{from:?}");
    }

    #[tokio::test]
    async fn a_name_with_addresses_of_both_kinds_finds_the_agent_on_either() {
        let agent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut socket = Socket::new(format!("localhost:{}", agent.local_addr().unwrap().port()));
        let mut buffer = [0; 16];
        let mut received = false;
        for _ in 0..20 {
            socket.send(vec!["a:1|c".to_owned()]).await;
            received |= timeout(Duration::from_millis(200), agent.recv(&mut buffer)).await.is_ok();
        }
        assert!(received);
    }
}
