//! Who sends requests, and how something is told to it later.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cepa_wire::Ed25519PublicKey;
use cepa_wire::bt_stream::Message;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::Counters;
use crate::ledger::{Charge, Ledger};

/// What waits to be written to a stream, and its charge.
pub(super) type Outgoing = (Bytes, Charge);

/// Why something was not told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// It reads too slowly: too much waits already. What was to be told is dropped.
    #[error("too much waits for this peer")]
    Full,
    /// Its connection, or the first stream of it, has ended.
    #[error("the connection has ended")]
    Ended,
}

/// One connection, for those who answer its requests. Cheap to clone; may be kept after its end.
/// Without a `Debug` that shows its address: no log line may carry it.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    address: SocketAddr,
    key: Option<Ed25519PublicKey>,
    /// The queue of the first stream, once there is one. Weak: it closes with the stream.
    first: OnceLock<mpsc::WeakSender<Outgoing>>,
    next_id: AtomicI64,
    held: Arc<Ledger>,
    ended: watch::Sender<bool>,
    counters: Arc<Counters>,
    dropped_count: AtomicU64,
}

impl Peer {
    pub(super) fn new(
        id: u64,
        address: SocketAddr,
        key: Option<Ed25519PublicKey>,
        held: Arc<Ledger>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                address,
                key,
                first: OnceLock::new(),
                next_id: AtomicI64::new(0),
                held,
                ended: watch::Sender::new(false),
                counters,
                dropped_count: AtomicU64::new(0),
            }),
        }
    }

    /// A number that no other connection of this listener has had.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Where it came from, when it did. IPv4 comes as IPv4, on a dual-stack socket too.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The key that it has proven to have, if it showed one.
    pub fn key(&self) -> Option<Ed25519PublicKey> {
        self.inner.key
    }

    /// Tells it something, as a command on its first stream that wants no reply (the reference's
    /// `notify`). From any thread; never waits.
    pub fn push(&self, endpoint: &str, body: &[u8]) -> Result<(), PushError> {
        let first = self.inner.first.get().and_then(mpsc::WeakSender::upgrade);
        let first = first.filter(|_| !self.is_ended()).ok_or(PushError::Ended)?;
        let message = Message::Command {
            id: self.inner.next_id.fetch_add(1, Ordering::Relaxed),
            endpoint: Bytes::copy_from_slice(endpoint.as_bytes()),
            body: Bytes::copy_from_slice(body),
        };
        let charge = self.inner.held.charge(body.len() + OVERHEAD_SIZE);
        let Some(charge) = charge.filter(|_| message.fits()) else {
            return Err(self.drop_push());
        };
        match first.try_send((message.encode().into(), charge)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(self.drop_push()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PushError::Ended),
        }
    }

    fn drop_push(&self) -> PushError {
        self.inner.dropped_count.fetch_add(1, Ordering::Relaxed);
        self.inner
            .counters
            .push_dropped
            .fetch_add(1, Ordering::Relaxed);
        PushError::Full
    }

    /// How many pushes were dropped because too much waited.
    pub fn dropped_count(&self) -> u64 {
        self.inner.dropped_count.load(Ordering::Relaxed)
    }

    /// Whether its connection has ended.
    pub fn is_ended(&self) -> bool {
        *self.inner.ended.borrow()
    }

    /// Waits until its connection has ended. On any executor.
    pub async fn ended(&self) {
        let mut ended = self.inner.ended.subscribe();
        // The sender lives in here: waiting fails never.
        drop(ended.wait_for(|ended| *ended).await);
    }

    pub(super) fn set_first_stream(&self, queue: &mpsc::Sender<Outgoing>) {
        // A connection has one stream with the first number.
        drop(self.inner.first.set(queue.downgrade()));
    }

    pub(super) fn end(&self) {
        self.inner.ended.send_replace(true);
    }
}

/// What a queued message costs beside its body.
pub(super) const OVERHEAD_SIZE: usize = 256;
