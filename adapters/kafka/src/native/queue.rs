//! A partition's own queue: read when there is room, so that back-pressure throws nothing away that was fetched, and the
//! consumer's queue, from which everything else comes, is polled all the same.

use std::{
    ffi::{CString, c_void},
    ops::ControlFlow,
    ptr,
    sync::Arc,
    thread::Thread,
};

use rdkafka::{
    TopicPartitionList, bindings as ffi,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    types::RDKafkaErrorCode,
};

use super::{
    handles::Queue,
    message::{Fetched, Message},
};

/// Wakes the polling thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Thread);

impl Waker {
    /// A waker of this thread.
    pub(crate) fn of(thread: &Thread) -> Self {
        Self(thread.clone())
    }

    pub(crate) fn wake(&self) {
        self.0.unpark();
    }
}

/// The queue of one assigned partition.
pub(crate) struct PartitionQueue<C: ConsumerContext> {
    // Dropped in this order: the queue, then what its callback uses, then the consumer it belongs to.
    queue: Queue,
    _waker: Box<Waker>,
    _consumer: Arc<BaseConsumer<C>>,
}

/// How many messages are taken out before it is another partition's turn.
const TAKEN_AT_ONCE: usize = 256;

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Splits the partition's queue off the consumer's. To be done before the partition is assigned: it stays split over
    /// assignments. `None` where librdkafka has no such partition.
    pub(crate) fn split(consumer: &Arc<BaseConsumer<C>>, topic: &str, partition: i32, waker: Waker) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let waker = Box::new(waker);
        let opaque = ptr::from_ref::<Waker>(&waker).cast_mut().cast::<c_void>();
        // SAFETY: the client lives as long as this value; the callback's waker is boxed, so that it does not move, and
        // outlives the callback, which is taken away on drop.
        let queue = unsafe {
            let rk = consumer.client().native_ptr();
            let queue = Queue::owning(ffi::rd_kafka_queue_get_partition(rk, topic.as_ptr(), partition))?;
            ffi::rd_kafka_queue_forward(queue.ptr(), ptr::null_mut());
            ffi::rd_kafka_queue_cb_event_enable(queue.ptr(), Some(wake), opaque);
            queue
        };
        Some(Self { queue, _waker: waker, _consumer: Arc::clone(consumer) })
    }

    /// Takes out at most `limit` things without waiting, until `each` has had enough. Returns whether there may be more.
    ///
    /// One by one: librdkafka's batch call counts the end of a partition as a record, so that after its next pause it would
    /// go on one offset too far.
    pub(crate) fn drain(&self, limit: usize, mut each: impl FnMut(Fetched) -> ControlFlow<()>) -> bool {
        for _ in 0..limit.min(TAKEN_AT_ONCE) {
            // SAFETY: the queue lives; the message is ours.
            let message = unsafe { Message::owning(ffi::rd_kafka_consume_queue(self.queue.ptr(), 0)) };
            let Some(message) = message else {
                return false;
            };
            if each(message.read()).is_break() {
                break;
            }
        }
        true
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue lives. The callback runs under the queue's lock: none runs after this call.
        unsafe { ffi::rd_kafka_queue_cb_event_enable(self.queue.ptr(), None, ptr::null_mut()) };
    }
}

/// Called by librdkafka when the queue is no longer empty.
unsafe extern "C" fn wake(_: *mut ffi::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the waker that was registered lives until the callback is taken away.
    unsafe { &*opaque.cast::<Waker>() }.wake();
}

/// The consumer's own queue, from which everything comes but records.
pub(crate) struct ConsumerQueue {
    queue: Queue,
}

impl ConsumerQueue {
    /// Of this consumer, which must outlive it.
    pub(crate) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client lives; the reference is ours.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Queue::owning(queue).map(|queue| Self { queue })
    }

    /// How much waits in it: polling says nothing about whether there is more.
    pub(crate) fn waiting(&self) -> usize {
        // SAFETY: the queue lives.
        unsafe { ffi::rd_kafka_queue_length(self.queue.ptr()) }
    }

    /// Commits without waiting; the answer comes as an event of this queue. (The plain asynchronous commit has no answer where
    /// events are used in place of C callbacks.)
    pub(crate) fn commit<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        positions: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        let rk = consumer.client().native_ptr();
        // SAFETY: all live during the call; the list is copied; there is no callback, so no opaque is used.
        let code = unsafe { ffi::rd_kafka_commit_queue(rk, positions.ptr(), self.queue.ptr(), None, ptr::null_mut()) };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(code),
        }
    }
}
