//! How a node ends: the first signal lets it finish what it has begun, the second does not.

use core::future::poll_fn;
use core::task::Poll;
use std::thread;

use cepa_host::RunningNode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::supervisor::Supervisor;
use crate::failure::Failure;

/// SIGINT and SIGTERM, from when they are listened for.
pub(in super::super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens; they do not end the process any more. On a runtime.
    pub(in super::super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|fault| Failure::new(format!("cannot listen for signals: {fault}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for either.
    pub(in super::super) async fn wait(&mut self) {
        poll_fn(|context| {
            let interrupted = self.interrupt.poll_recv(context).is_ready();
            let terminated = self.terminate.poll_recv(context).is_ready();
            if interrupted || terminated {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Stops the node and waits for what it has begun, or for one more signal: then the process is to end
/// at once.
pub(super) async fn stop(
    running: RunningNode,
    signals: &mut Signals,
    supervisor: &Supervisor,
) -> Result<(), Failure> {
    supervisor.stopping();
    running.stop();
    // Joining blocks. A thread of its own ends with the process; tokio would wait for one of its.
    let (ended, end) = oneshot::channel();
    thread::spawn(move || drop(ended.send(running.join())));
    tokio::select! {
        joined = end => match joined {
            Ok(joined) => joined.map_err(Failure::new),
            Err(_) => Err(Failure::new("the shards ended without a word")),
        },
        () = signals.wait() => Err(Failure::new(
            "a second signal ended the node at once; what was acknowledged is on the disk",
        )),
    }
}
