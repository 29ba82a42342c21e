//! gRPC calls straight on HTTP/2: with what a call needs and no more, since the load shares its cores with the broker.

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// Room for answers, so that hardly any is spent on saying that there is room.
const WINDOW_BYTES: u32 = 16 << 20;

/// gRPC's codes that mean something here.
pub(crate) const OK: i32 = 0;
pub(crate) const NOT_FOUND: i32 = 5;

/// A connection to a server. A clone shares it.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Bytes>);

/// A call without its message, to be made often.
#[derive(Clone, Debug)]
pub(crate) struct Call(Request<()>);

/// What a call was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    /// Why, where it is no success.
    pub(crate) reason: String,
    /// The message, without its prefix; empty where there is none.
    pub(crate) message: Bytes,
}

impl Call {
    /// Of a service of the protocol: `ConsumerService/GetTask`.
    pub(crate) fn to(address: &str, method: &str) -> Result<Self> {
        let request = Request::post(format!("http://{address}/sentry_protos.taskbroker.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        Ok(Self(request))
    }
}

/// A message with its prefix, ready to be sent.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put(message.encode_to_vec().as_slice());
    frame.freeze()
}

impl Connection {
    /// Connects to `host:port`.
    pub(crate) async fn to(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            // Calls on it fail and say so.
            connection.await.ok();
        });
        Ok(Self(send))
    }

    /// So many connections to the same address.
    pub(crate) async fn several(address: &str, count: usize) -> Result<Vec<Self>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Self::to(address).await?);
        }
        Ok(connections)
    }

    /// Makes a call. An error is one of the connection.
    pub(crate) async fn call(&self, call: &Call, frame: Bytes) -> Result<Answer> {
        let mut send = self.0.clone().ready().await?;
        let (response, mut body) = send.send_request(call.0.clone(), false)?;
        body.send_data(frame, true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.headers.contains_key("grpc-status") {
            return answer(&head.headers, Bytes::new());
        }
        let mut message = Bytes::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            message = if message.is_empty() { data } else { [message, data].concat().into() };
        }
        let trailers = body.trailers().await?.context("an answer without trailers")?;
        answer(&trailers, if message.len() > 5 { message.slice(5..) } else { Bytes::new() })
    }
}

fn answer(trailers: &HeaderMap, message: Bytes) -> Result<Answer> {
    let text = |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let code = text("grpc-status").and_then(|code| code.parse().ok()).context("an answer without a code")?;
    Ok(Answer { code, reason: text("grpc-message").unwrap_or_default(), message })
}

impl Answer {
    /// The message, decoded. A code other than OK is an error.
    pub(crate) fn decoded<M: Message + Default>(self) -> Result<M> {
        if self.code != OK {
            bail!("the broker answered with code {}: {}", self.code, self.reason);
        }
        Ok(M::decode(self.message)?)
    }
}
