//! A message that can be taken back as long as nothing of it has gone.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::frame::Parts;

/// What became of it: what comes first, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The connection has taken something of it, and may have sent that.
    Gone,
    Withdrawn,
}

/// The body of a call.
#[derive(Debug)]
pub(super) struct Withdrawable {
    parts: Parts,
    fate: Arc<OnceLock<Fate>>,
}

/// The caller's end of it.
#[derive(Debug)]
pub(super) struct Withdrawal(Arc<OnceLock<Fate>>);

/// A connection wanted the message too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call was withdrawn before anything of it was sent")]
pub(super) struct Withdrawn;

impl Withdrawable {
    pub(super) fn new(parts: Parts) -> (Self, Withdrawal) {
        let fate = Arc::default();
        (Self { parts, fate: Arc::clone(&fate) }, Withdrawal(fate))
    }
}

impl Withdrawal {
    /// From now on nothing goes, if nothing has. Whether that is so.
    pub(super) fn withdraw(&self) -> bool {
        *self.0.get_or_init(|| Fate::Withdrawn) == Fate::Withdrawn
    }
}

impl Body for Withdrawable {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        match self.fate.get_or_init(|| Fate::Gone) {
            Fate::Withdrawn => Poll::Ready(Some(Err(Withdrawn))),
            Fate::Gone => Pin::new(&mut self.parts).poll_frame(context).map_err(|never: Infallible| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.parts.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    fn message() -> (Withdrawable, Withdrawal) {
        Withdrawable::new(Parts::new([Bytes::from_static(b"head"), Bytes::from_static(b"rest")]))
    }

    async fn next(message: &mut Pin<&mut Withdrawable>) -> Option<Result<Bytes, Withdrawn>> {
        let frame = poll_fn(|context| message.as_mut().poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test]
    async fn what_is_withdrawn_before_it_is_wanted_never_goes() {
        let (message, withdrawal) = message();
        let mut message = pin!(message);
        assert!(withdrawal.withdraw());
        assert!(!message.is_end_stream(), "an end would be an empty message");
        assert_eq!(next(&mut message).await, Some(Err(Withdrawn)));
    }

    #[tokio::test]
    async fn what_has_begun_to_go_goes_whole_and_cannot_be_withdrawn() {
        let (message, withdrawal) = message();
        let mut message = pin!(message);
        assert_eq!(next(&mut message).await, Some(Ok(Bytes::from_static(b"head"))));
        assert!(!withdrawal.withdraw());
        assert_eq!(next(&mut message).await, Some(Ok(Bytes::from_static(b"rest"))));
        assert!(message.is_end_stream());
    }
}
