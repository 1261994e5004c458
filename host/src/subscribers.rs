//! Connections that are told of new messages.

use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::Poll;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cepa_meter::count;
use cepa_storage::{Command, Outcome};
use cepa_swarm::monitor::{self, Authorised, Subscriber};
use cepa_wire::Mailbox;
use cepa_wire::answer::Tree;
use cepa_wire::monitor::{ErrorCode, Refusal, Request, Subscription};
use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use glommio::spawn_local;

use crate::link::Link;
use crate::tile::Tile;

/// Notifications that wait for one link until its shard sends them: some milliseconds' worth. The queue
/// takes 14 KiB, of links that subscribe only.
const QUEUE_DEPTH: usize = 256;
/// And their bytes.
const QUEUE_SIZE_MAX: usize = 4 << 20;
/// Who asks for many mailboxes of other swarms is shown the way for so many: a swarm takes some KiB.
const SHOWN_COUNT_MAX: usize = 16;
/// Subscriptions of one request that are checked before others have their turn: at some 50 us each a
/// millisecond.
const SLICE: usize = 16;

/// An OMQ link as it is told of messages by any shard.
pub(crate) struct LinkSubscriber {
    queue: ArrayQueue<(&'static str, Bytes)>,
    size: AtomicUsize,
    wake: AtomicWaker,
    is_gone: AtomicBool,
}

impl LinkSubscriber {
    /// The subscriber of a link; a task of the link's shard sends what is told.
    fn new(tile: &Rc<Tile>, link: &Rc<Link>) -> Arc<Self> {
        let subscriber = Arc::new(Self {
            queue: ArrayQueue::new(QUEUE_DEPTH),
            size: AtomicUsize::new(0),
            wake: AtomicWaker::new(),
            is_gone: AtomicBool::new(false),
        });
        let (tile, link) = (Rc::clone(tile), Rc::clone(link));
        let told = Arc::clone(&subscriber);
        spawn_local(async move { told.send_on(&tile, &link).await }).detach();
        subscriber
    }

    async fn send_on(&self, tile: &Tile, link: &Link) {
        loop {
            let next = poll_fn(|cx| {
                self.wake.register(cx.waker());
                match self.queue.pop() {
                    Some(next) => Poll::Ready(Some(next)),
                    None if self.is_gone() || link.is_closed() => Poll::Ready(None),
                    None => Poll::Pending,
                }
            });
            let Some((command, body)) = next.await else {
                return;
            };
            self.size.fetch_sub(body.len(), Ordering::Relaxed);
            let parts = vec![Bytes::from_static(command.as_bytes()), body];
            if !link.send(parts) {
                count(&tile.counters.monitor_dropped);
                if link.is_closed() {
                    self.close();
                    return;
                }
            }
        }
    }

    /// The link has ended.
    pub(crate) fn close(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.wake.wake();
    }

    fn push(&self, command: &'static str, body: Bytes) -> bool {
        let size = body.len();
        let held = self.size.fetch_add(size, Ordering::Relaxed);
        if held + size > QUEUE_SIZE_MAX || self.queue.push((command, body)).is_err() {
            self.size.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        self.wake.wake();
        true
    }
}

impl Subscriber for LinkSubscriber {
    fn notify(&self, notification: Bytes) -> bool {
        self.push("notify.message", notification)
    }

    fn end(&self, mailbox: Bytes) {
        // A client that misses it learns so when it renews.
        let _is_room = self.push("notify.monitor_ended", mailbox);
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

/// `monitor.messages` of a link.
pub(crate) async fn subscribe_link(tile: &Rc<Tile>, link: &Rc<Link>, body: &[u8]) -> Bytes {
    if link.is_closed() {
        // Nobody would close what is made for it now.
        return Bytes::new();
    }
    let subscriber = Arc::clone(
        link.subscriber
            .borrow_mut()
            .get_or_insert_with(|| LinkSubscriber::new(tile, link)),
    );
    let subscriber: Arc<dyn Subscriber> = subscriber;
    subscribe(tile, body, link.number, &subscriber).await
}

/// Takes a request for subscriptions; gives the reply.
pub(crate) async fn subscribe(
    tile: &Rc<Tile>,
    body: &[u8],
    connection: u64,
    subscriber: &Arc<dyn Subscriber>,
) -> Bytes {
    let Some(_running) = tile.begin_request() else {
        count(&tile.counters.refused_busy);
        let text = "Server busy, try again later";
        let refusal = Refusal::new(ErrorCode::TooMany, text);
        return reply(tile, &Err(refusal), None).to_bt().into();
    };
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(refusal) => {
            count(&tile.counters.monitor_refused);
            return reply(tile, &Err(refusal), None).to_bt().into();
        }
    };
    let mut replies = Vec::new();
    for (at, item) in request.items.into_iter().enumerate() {
        if at % SLICE == SLICE - 1 {
            glommio::executor().yield_task_queue_now().await;
        }
        replies.push(match item {
            Ok(subscription) => {
                let result = subscribe_one(tile, &subscription, connection, subscriber).await;
                count(match result {
                    Ok(_) => &tile.counters.monitor_subscribed,
                    Err(_) => &tile.counters.monitor_refused,
                });
                let is_shown = at < SHOWN_COUNT_MAX;
                reply(tile, &result, is_shown.then_some(&subscription))
            }
            Err(refusal) => {
                count(&tile.counters.monitor_refused);
                reply(tile, &Err(refusal), None)
            }
        });
    }
    if request.is_list {
        return Tree::List(replies).to_bt().into();
    }
    let reply = replies.pop().unwrap_or(Tree::Null);
    reply.to_bt().into()
}

fn reply(
    tile: &Tile,
    result: &Result<Mailbox, Refusal>,
    subscription: Option<&Subscription>,
) -> Tree {
    let network = tile.network.load_full();
    tile.with_local(&network, |local| {
        monitor::reply_tree(result, subscription, local)
    })
}

async fn subscribe_one(
    tile: &Rc<Tile>,
    subscription: &Subscription,
    connection: u64,
    subscriber: &Arc<dyn Subscriber>,
) -> Result<Mailbox, Refusal> {
    let network = tile.network.load_full();
    let authorised = tile.with_local(&network, |local| monitor::authorise(subscription, local))?;
    let mailbox = authorised.mailbox;
    if let Some(token) = authorised.token {
        let revoked = tile.stores.execute(Command::Revocations { mailbox }).await;
        let is_good = matches!(revoked, Outcome::Revocations(tokens) if !tokens.contains(&token));
        if !is_good {
            let text = "Subaccount verification failed: subaccount is revoked";
            return Err(Refusal::new(ErrorCode::Signature, text));
        }
    }
    let added = Added {
        authorised,
        connection,
        subscriber: Arc::clone(subscriber),
    };
    if tile.stores.add_subscription(added) {
        Ok(mailbox)
    } else {
        let text = "This node has as many subscriptions as it may";
        Err(Refusal::new(ErrorCode::TooMany, text))
    }
}

/// A subscription on its way to the shard that has the mailbox.
pub(crate) struct Added {
    pub(crate) authorised: Authorised,
    pub(crate) connection: u64,
    pub(crate) subscriber: Arc<dyn Subscriber>,
}

/// The bound of a node's subscriptions, shared by its shards.
#[derive(Clone)]
pub(crate) struct MonitorBound {
    count: Arc<AtomicUsize>,
    count_max: Arc<AtomicUsize>,
}

impl MonitorBound {
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            count: Arc::default(),
            count_max: Arc::new(AtomicUsize::new(count_max)),
        }
    }

    /// Changes the bound. Subscriptions that there are stay.
    pub(crate) fn set_count_max(&self, count_max: usize) {
        self.count_max.store(count_max, Ordering::Relaxed);
    }

    /// Whether there is room for one more. A renewal needs none, but whoever renews at the bound may be
    /// refused: its subscription then ends in its time.
    pub(crate) fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < self.count_max.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: usize) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }
}
