//! The frame around each message of a call: one byte that says whether it is compressed, and four for its length.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::room::Granted;

/// How long the frame's head is.
pub(crate) const HEAD_BYTES: usize = 5;

/// The head of a message of this length, uncompressed. `None`: no frame can hold it.
pub(crate) fn head(length: usize) -> Option<[u8; HEAD_BYTES]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    Some([0, a, b, c, d])
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) compressed: bool,
    pub(crate) length: usize,
}

impl Head {
    /// The head at the beginning of a body, once it is all there.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (&[flag, a, b, c, d], _) = body.split_first_chunk::<HEAD_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        Some(Self { compressed: flag != 0, length })
    }
}

/// A body that is whole in memory, in parts that are not copied together.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    parts: VecDeque<Bytes>,
    /// The memory it has been granted.
    _room: Granted,
}

impl Parts {
    pub(crate) fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self { parts: parts.into_iter().filter(|part| !part.is_empty()).collect(), _room: Granted::default() }
    }

    /// A body that gives its room back when it is dropped.
    pub(crate) fn within(part: Bytes, room: Granted) -> Self {
        Self { _room: room, ..Self::new([part]) }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_was_written() {
        assert_eq!(head(258).map(|head| head.to_vec()), Some(vec![0, 0, 0, 1, 2]));
        assert_eq!(Head::read(&[0, 0, 0, 1, 2, 99]), Some(Head { compressed: false, length: 258 }));
        assert_eq!(Head::read(&[1, 0xff, 0xff, 0xff, 0xff]), Some(Head { compressed: true, length: 0xffff_ffff }));
        assert_eq!(Head::read(&[0, 0, 0, 0]), None);
        assert_eq!(head(usize::MAX), None);
    }
}
