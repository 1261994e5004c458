//! Waiting within one executor.

use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Poll, Waker};
use core::time::Duration;

use futures_util::future::{Either, select};
use glommio::timer::sleep;

/// Wakes one waiting task; a wake that nobody waits for is kept for the next wait.
#[derive(Default)]
pub(crate) struct Notify {
    woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    pub(crate) fn notify(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            if self.woken.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What `future` gives within `span`.
pub(crate) async fn within<T>(span: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(sleep(span))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}
