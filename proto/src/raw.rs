//! The broker's side of `ConsumerService`. Its answers carry the stored activation as bytes: an embedded message and a
//! `bytes` field share one wire form, so the client sees the true [`crate::pb`] messages and nothing is decoded and
//! encoded again.
//!
//! The answer holds the [`Offer`] until its bytes are asked for by the connection. An answer that nobody takes any more
//! (the call was cancelled, the connection broke) is dropped unencoded, which puts the task back.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use taskbroker_domain::ports::service::Offer;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::pb;

mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

    include!(concat!(env!("OUT_DIR"), "/raw/sentry_protos.taskbroker.v1.rs"));
}

pub use generated::consumer_service_server::{ConsumerService, ConsumerServiceServer};

/// The answer to `GetTask`.
#[derive(Debug, Default)]
pub struct GetTaskResponse {
    /// The task on its way.
    pub task: Option<Offer>,
}

/// The answer to `SetTaskStatus`.
#[derive(Debug, Default)]
pub struct SetTaskStatusResponse {
    /// The next task on its way, if one was asked for.
    pub task: Option<Offer>,
}

/// A message that is used up by being written.
pub trait Outgoing: Send + 'static {
    /// Writes its protobuf form.
    fn write(self, buf: &mut EncodeBuf<'_>);
}

impl Outgoing for GetTaskResponse {
    fn write(self, buf: &mut EncodeBuf<'_>) {
        write_task(self.task, buf);
    }
}

impl Outgoing for SetTaskStatusResponse {
    fn write(self, buf: &mut EncodeBuf<'_>) {
        write_task(self.task, buf);
    }
}

impl Outgoing for pb::SetBatchActivationStatusResponse {
    fn write(self, _: &mut EncodeBuf<'_>) {
        let Self {} = self;
    }
}

/// The key of field 1, length-delimited: `task` in both answers.
const TASK_KEY: u8 = 1 << 3 | 2;

/// A key, and a length that may take ten bytes.
const TASK_OVERHEAD_BYTES: usize = 11;

fn write_task(task: Option<Offer>, buf: &mut EncodeBuf<'_>) {
    let Some(offer) = task else { return };
    let activation: Bytes = offer.sent();
    buf.reserve(activation.len() + TASK_OVERHEAD_BYTES);
    buf.put_u8(TASK_KEY);
    prost::encode_length_delimiter(activation.len(), buf).expect("an encode buffer grows");
    buf.put(activation);
}

/// The codec of the service: reads requests with prost, writes [`Outgoing`] answers.
#[derive(Debug)]
pub struct RawCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for RawCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Outgoing, U: Message + Default + 'static> Codec for RawCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T: Outgoing, U> Encoder for RawCodec<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(buf);
        Ok(())
    }
}

impl<T, U: Message + Default + 'static> Decoder for RawCodec<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf)
            .map(Some)
            .map_err(|e| Status::invalid_argument(format!("the request is not valid protobuf: {e}")))
    }
}
