//! The Diffie-Hellmans of one executor, computed many at once: eight cost about as much as one.
//!
//! Nobody waits for a batch to fill: whoever asks wakes the batcher, and whoever else is ready to run has
//! its turn before it. So a batch is as large as what arrived together, and one alone is computed alone.

use core::cell::RefCell;
use std::rc::Rc;

use cepa_crypto::x25519::{BATCH_MAX, SharedSecret, diffie_hellman_many};
use cepa_wire::X25519PublicKey;
use futures_channel::oneshot;

use crate::tile::Tile;
use crate::wait::Notify;

type Asked = (X25519PublicKey, oneshot::Sender<SharedSecret>);

/// What waits for the next batch: at most one of each running request, whose number is bounded.
#[derive(Default)]
pub(crate) struct Batcher {
    waiting: RefCell<Vec<Asked>>,
    wake: Notify,
}

impl Batcher {
    /// The secret of the node's key with a peer's. All zero, which nothing opens, when the executor ends.
    pub(crate) async fn diffie_hellman(&self, peer: X25519PublicKey) -> SharedSecret {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push((peer, sender));
        self.wake.notify();
        receiver.await.unwrap_or_default()
    }

    /// How many wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }

    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(BATCH_MAX);
        waiting.drain(..count).collect()
    }
}

/// Computes what is asked for, for ever.
pub(crate) async fn run(tile: Rc<Tile>) -> ! {
    loop {
        tile.batcher.wake.wait().await;
        loop {
            let asked = tile.batcher.take();
            if asked.is_empty() {
                break;
            }
            compute(&tile, asked);
            // A batch takes a quarter of a millisecond at most; others have their turn before the next.
            glommio::executor().yield_now().await;
        }
    }
}

fn compute(tile: &Tile, asked: Vec<Asked>) {
    let batch_size = u64::try_from(asked.len()).unwrap_or(u64::MAX);
    tile.counters.onion_batch_size.record(batch_size);
    let (peers, senders): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let mut secrets = vec![SharedSecret::default(); peers.len()];
    diffie_hellman_many(tile.keys.x25519(), &peers, &mut secrets);
    for (sender, secret) in senders.into_iter().zip(secrets) {
        // Whoever asked may have hung up.
        drop(sender.send(secret));
    }
}
