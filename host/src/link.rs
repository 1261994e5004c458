//! OMQ links to peers and clients: one task reads, one writes, and the sans-IO [`Connection`] between
//! them does the rest. A link is symmetric: whoever opened it, both sides ask and answer.

mod seat;

use core::cell::{Cell, OnceCell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cepa_crypto::curve::Connection;
use cepa_wire::X25519PublicKey;
use cepa_wire::omq::{self, Message};
use futures_channel::oneshot;
use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use glommio::net::TcpStream;
use glommio::spawn_local;

use crate::clock;
use crate::omq::handle_command;
use crate::subscribers::LinkSubscriber;
use crate::tile::Tile;
use crate::wait::{Notify, within};
use seat::LinkSeat;

/// A silent link is pinged after this, and dead after twice this: the reference's heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A handshake takes at most this long, as in the reference.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A link that we opened and do not use is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// Requests that may wait for their replies on one link: beyond, a peer is slower than we ask.
const WAITING_COUNT_MAX: usize = 4096;
/// Bytes that may wait for a peer to read them: three of the largest messages.
const OUTPUT_SIZE_MAX: usize = 32 << 20;
/// Messages that may wait for a handshake: those of one round trip at full rate.
const QUEUED_COUNT_MAX: usize = 1024;
/// One read of a socket: an onion of some KiB comes in one.
const READ_SIZE: usize = 32 << 10;

/// One link.
pub(crate) struct Link {
    connection: RefCell<Connection>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Vec<Bytes>>>>,
    /// Messages that wait for the handshake.
    queued: RefCell<Vec<Vec<Bytes>>>,
    /// Encrypted bytes that wait for the socket.
    output: RefCell<Vec<u8>>,
    /// Size of those that the socket is taking.
    writing_size: Cell<usize>,
    next_tag: Cell<u64>,
    wake_writer: Notify,
    closed: Cell<bool>,
    /// Names the link among all of the node.
    pub(crate) number: u64,
    /// What it is told of new messages, if it asked for that.
    pub(crate) subscriber: RefCell<Option<Arc<LinkSubscriber>>>,
    /// Requests of the peer that are being served.
    pub(crate) serving: Cell<usize>,
    /// Of a link that the far end opened.
    seat: OnceCell<LinkSeat>,
}

impl Link {
    pub(crate) fn new(connection: Connection, number: u64) -> Rc<Self> {
        Rc::new(Self {
            connection: RefCell::new(connection),
            waiting: RefCell::default(),
            queued: RefCell::default(),
            output: RefCell::default(),
            writing_size: Cell::new(0),
            next_tag: Cell::new(0),
            wake_writer: Notify::default(),
            closed: Cell::new(false),
            number,
            subscriber: RefCell::default(),
            serving: Cell::new(0),
            seat: OnceCell::new(),
        })
    }

    /// The peer's key, once it is proven.
    pub(crate) fn peer_key(&self) -> Option<X25519PublicKey> {
        let connection = self.connection.borrow();
        if connection.is_ready() {
            connection.peer_key()
        } else {
            None
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Asks the peer; `None` when the link ends first, or too much is waiting already.
    pub(crate) async fn request(
        &self,
        command: &'static str,
        parts: Vec<Bytes>,
    ) -> Option<Vec<Bytes>> {
        if self.closed.get() || self.waiting.borrow().len() >= WAITING_COUNT_MAX {
            return None;
        }
        let tag = self.next_tag.get();
        self.next_tag.set(tag + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(tag, sender);
        let awaited = Awaited { link: self, tag };
        let tag = Bytes::copy_from_slice(&tag.to_be_bytes());
        if !self.send(omq::request(command, tag, parts)) {
            return None;
        }
        let reply = receiver.await.ok();
        drop(awaited);
        reply
    }

    /// Sends a message, now or after the handshake; false when it can't be.
    pub(crate) fn send(&self, parts: Vec<Bytes>) -> bool {
        if self.closed.get() {
            return false;
        }
        let mut connection = self.connection.borrow_mut();
        if connection.is_ready() {
            if self.output.borrow().len() > OUTPUT_SIZE_MAX {
                return false;
            }
            connection.send(&parts);
            drop(connection);
            self.collect_output();
            return true;
        }
        let mut queued = self.queued.borrow_mut();
        if queued.len() >= QUEUED_COUNT_MAX {
            return false;
        }
        queued.push(parts);
        true
    }

    /// Ends the link: both tasks stop, and whoever waits for a reply is told.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        if let Some(subscriber) = self.subscriber.borrow_mut().take() {
            subscriber.close();
        }
        self.waiting.borrow_mut().clear();
        self.queued.borrow_mut().clear();
        self.wake_writer.notify();
    }

    fn handle_reply(&self, tag: &[u8], parts: Option<Vec<Bytes>>) -> bool {
        let Ok(tag) = tag.try_into().map(u64::from_be_bytes) else {
            return false;
        };
        let Some(sender) = self.waiting.borrow_mut().remove(&tag) else {
            return false;
        };
        if let Some(parts) = parts {
            // Whoever asked may have given up.
            drop(sender.send(parts));
        }
        true
    }

    fn collect_output(&self) {
        let output = self.connection.borrow_mut().take_output();
        if !output.is_empty() {
            self.output.borrow_mut().extend_from_slice(&output);
            self.check_output();
            self.wake_writer.notify();
        }
    }

    fn flush_queued(&self) {
        let queued = core::mem::take(&mut *self.queued.borrow_mut());
        let mut connection = self.connection.borrow_mut();
        for parts in queued {
            connection.send(&parts);
        }
    }
}

/// Removes a request from the table when its asker stops waiting (a timeout drops the future).
struct Awaited<'a> {
    link: &'a Link,
    tag: u64,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().remove(&self.tag);
    }
}

/// Whether we opened a link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialled,
    Accepted,
}

/// Runs a link until it ends.
pub(crate) async fn run(tile: Rc<Tile>, link: Rc<Link>, stream: TcpStream, side: Side) {
    // Requests are small and wait for their answers: Nagle would hold them back.
    drop(stream.set_nodelay(true));
    let (reader, writer) = stream.split();
    link.collect_output();
    let take_timeout = tile.door.limits.response_timeout;
    let writing = spawn_local(write(Rc::clone(&link), writer, take_timeout));
    let result = read(&tile, &link, reader, side).await;
    link.close();
    tile.links.forget(&link);
    if result.is_err() {
        cepa_meter::count(&tile.counters.omq_failed);
    }
    // Lets an ERROR command or a last reply out, but waits for no peer that does not read.
    within(Duration::from_secs(1), writing).await;
}

async fn read(
    tile: &Rc<Tile>,
    link: &Rc<Link>,
    mut reader: ReadHalf<TcpStream>,
    side: Side,
) -> Result<(), ()> {
    let mut buffer = vec![0; READ_SIZE];
    let mut silent = false;
    let begun = clock::now();
    let mut last_used = begun;
    loop {
        let ready = link.peer_key().is_some();
        let limit = if ready { HEARTBEAT } else { HANDSHAKE_TIMEOUT };
        let read = within(limit, reader.read(&mut buffer)).await;
        if link.is_closed() {
            return Ok(());
        }
        let now = clock::now();
        if !ready && now.saturating_since(begun) >= HANDSHAKE_TIMEOUT {
            return Err(());
        }
        match read {
            Some(Ok(0)) => return if ready { Ok(()) } else { Err(()) },
            Some(Ok(size)) => {
                silent = false;
                if handle_input(tile, link, buffer.get(..size).unwrap_or_default())? {
                    last_used = now;
                }
            }
            Some(Err(_)) => return Err(()),
            None if silent => return Err(()),
            None => {
                let idle = now.saturating_since(last_used) >= IDLE_TIMEOUT;
                if side == Side::Dialled && idle && link.waiting.borrow().is_empty() {
                    return Ok(());
                }
                silent = true;
                link.connection.borrow_mut().send_ping();
                link.collect_output();
            }
        }
    }
}

/// Feeds bytes to the connection and takes its messages; tells whether there was one.
fn handle_input(tile: &Rc<Tile>, link: &Rc<Link>, input: &[u8]) -> Result<bool, ()> {
    let was_ready = link.peer_key().is_some();
    let result = link.connection.borrow_mut().handle_bytes(input);
    if result.is_ok() && !was_ready && link.peer_key().is_some() {
        link.flush_queued();
        tile.handle_link_ready(link);
    }
    let mut used = false;
    loop {
        let message = link.connection.borrow_mut().poll_message();
        let Some(parts) = message else { break };
        used = true;
        if !handle_message(tile, link, parts) {
            link.collect_output();
            return Err(());
        }
    }
    link.collect_output();
    link.check_input(tile, used)?;
    result.map(|()| used).map_err(|_| ())
}

/// Takes a message; false ends the link.
fn handle_message(tile: &Rc<Tile>, link: &Rc<Link>, parts: Vec<Bytes>) -> bool {
    let dropped = match Message::parse(parts) {
        Some(Message::Hi) => !link.send(vec![Bytes::from_static(b"HELLO")]),
        Some(Message::Hello) => false,
        Some(Message::Bye) => return false,
        Some(Message::Reply { tag, parts }) => !link.handle_reply(&tag, Some(parts)),
        Some(Message::Refused { tag, .. }) => !tag.is_some_and(|tag| link.handle_reply(&tag, None)),
        Some(Message::Command { name, parts }) => {
            handle_command(tile, link, &name, parts);
            false
        }
        None => true,
    };
    if dropped {
        cepa_meter::count(&tile.counters.omq_dropped);
    }
    true
}

async fn write(link: Rc<Link>, mut writer: WriteHalf<TcpStream>, take_timeout: Duration) {
    loop {
        let output = core::mem::take(&mut *link.output.borrow_mut());
        if output.is_empty() {
            if link.is_closed() {
                break;
            }
            link.wake_writer.wait().await;
            continue;
        }
        link.writing_size.set(output.len());
        let taken = within(take_timeout, writer.write_all(&output)).await;
        match taken {
            Some(Ok(())) => {}
            Some(Err(_)) => break link.close(),
            None => break link.cut_off(),
        }
        link.writing_size.set(0);
        link.check_output();
    }
    drop(writer.close().await);
}
