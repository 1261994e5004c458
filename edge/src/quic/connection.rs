//! One connection from its first datagram to its end.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use cepa_wire::Ed25519PublicKey;
use cepa_wire::bt_stream::{Decoder, Message};
use quinn::{
    Connection, ConnectionError, Incoming, RecvStream, SendStream, VarInt, ZeroRttAccepted,
};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use cepa_swarm::rate::Prefix;

use super::peer::{OVERHEAD_SIZE, Outgoing, Peer};
use super::{CODE_GREEDY, CODE_MALFORMED, Endpoints, Reply, Seats, Shared, identity, reply};
use crate::ledger::{Charge, Ledger};

/// What is read at once.
const READ_SIZE_MAX: usize = 64 << 10;
/// Messages that wait to be written to one stream: all replies that may be under way, and as many
/// small pushes as fit their bytes with some overhead. Then replies wait, and pushes are dropped.
const QUEUE_COUNT: usize = 256;

/// What a connection is told that is closed for the bytes it costs.
const TOO_MUCH: &[u8] = b"more bytes under way than there is room for";

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection's place among all, until this is dropped.
struct Seat<E> {
    shared: Arc<Shared<E>>,
    prefix: Prefix,
    /// What its prefix holds.
    held: Arc<Ledger>,
}

impl<E> Seat<E> {
    fn take(shared: &Arc<Shared<E>>, prefix: Prefix) -> Option<Self> {
        let limits = shared.limits;
        let mut seats = shared.seats();
        let count = seats.get(&prefix).map_or(0, |taken| taken.count);
        let total = shared.seat_count.load(Ordering::Relaxed);
        if total >= limits.connection_count_max || count >= limits.connection_per_prefix_count_max {
            return None;
        }
        let taken = seats.entry(prefix).or_insert_with(|| Seats {
            count: 0,
            held: Ledger::below(&shared.held, limits.held_per_prefix_size_max),
        });
        taken.count += 1;
        let held = Arc::clone(&taken.held);
        shared.seat_count.fetch_add(1, Ordering::Relaxed);
        drop(seats);
        Some(Self {
            shared: Arc::clone(shared),
            prefix,
            held,
        })
    }
}

impl<E> Drop for Seat<E> {
    fn drop(&mut self) {
        let mut seats = self.shared.seats();
        self.shared.seat_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(taken) = seats.get_mut(&self.prefix) {
            taken.count -= 1;
            if taken.count == 0 {
                seats.remove(&self.prefix);
            }
        }
    }
}

/// A handshake under way, until this is dropped.
struct Handshake<E>(Arc<Shared<E>>);

impl<E> Handshake<E> {
    fn begin(shared: &Arc<Shared<E>>) -> Self {
        shared.handshake_count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl<E> Drop for Handshake<E> {
    fn drop(&mut self) {
        self.0.handshake_count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a connection, refuses it, or asks it to show that its address is its own.
pub(super) fn admit<E: Endpoints>(shared: &Arc<Shared<E>>, incoming: Incoming) {
    let limits = shared.limits;
    let handshake_count = shared.handshake_count.load(Ordering::Relaxed);
    if handshake_count >= limits.handshake_count_max {
        count(&shared.counters.refused);
        incoming.refuse();
        return;
    }
    let is_crowded = handshake_count >= limits.handshake_count_max / 4;
    if is_crowded && !incoming.remote_address_validated() && incoming.may_retry() {
        // It could not be asked only if it had been before.
        drop(incoming.retry());
        return;
    }
    let prefix = Prefix::of(incoming.remote_address().ip());
    let Some(seat) = Seat::take(shared, prefix) else {
        count(&shared.counters.refused);
        incoming.refuse();
        return;
    };
    let handshake = Handshake::begin(shared);
    tokio::spawn(serve(seat, handshake, incoming));
}

async fn serve<E: Endpoints>(seat: Seat<E>, handshake: Handshake<E>, incoming: Incoming) {
    let shared = &seat.shared;
    let Ok(connecting) = incoming.accept() else {
        count(&shared.counters.handshake_failed);
        return;
    };
    // A server is always given its connection at once; streams of early data say so themselves.
    let Ok((connection, accepted)) = connecting.into_0rtt() else {
        count(&shared.counters.handshake_failed);
        return;
    };
    let confirmed = watch::Sender::new(false);
    let shake = finish_handshake(handshake, &connection, accepted, &confirmed);
    let streams = serve_streams(&seat, &connection, &confirmed);
    // Streams end when the connection does, and so does the handshake.
    tokio::join!(shake, streams);
}

async fn finish_handshake<E>(
    handshake: Handshake<E>,
    connection: &Connection,
    accepted: ZeroRttAccepted,
    confirmed: &watch::Sender<bool>,
) {
    let Handshake(shared) = &handshake;
    let finished = timeout(shared.limits.handshake_timeout, accepted).await;
    if finished.is_err() {
        connection.close(VarInt::from_u32(0), b"handshake took too long");
    }
    // A peer's own close comes only after its handshake: it asked, and went.
    let is_over = match connection.close_reason() {
        None | Some(ConnectionError::ApplicationClosed(_)) => false,
        Some(_) => true,
    };
    if is_over {
        count(&shared.counters.handshake_failed);
        return;
    }
    count(&shared.counters.accepted);
    confirmed.send_replace(true);
}

/// What the streams of a connection share.
struct Context<E> {
    shared: Arc<Shared<E>>,
    connection: Connection,
    peer: Peer,
    confirmed: watch::Receiver<bool>,
    requests: Arc<Semaphore>,
    held: Arc<Ledger>,
}

async fn serve_streams<E: Endpoints>(
    seat: &Seat<E>,
    connection: &Connection,
    confirmed: &watch::Sender<bool>,
) {
    let mut context = None;
    // Dropped at the end: whatever is under way for this connection ends with it.
    let mut streams = JoinSet::new();
    while let Ok((send, receive)) = connection.accept_bi().await {
        // Its key is known now: from the handshake, or from the ticket that early data came with.
        let context =
            context.get_or_insert_with(|| Arc::new(new_context(seat, connection, confirmed)));
        let (queue, outgoing) = mpsc::channel(QUEUE_COUNT);
        if send.id().index() == 0 {
            context.peer.set_first_stream(&queue);
        }
        streams.spawn(write_all(Arc::clone(context), send, outgoing));
        streams.spawn(read_all(Arc::clone(context), receive, queue));
        while streams.try_join_next().is_some() {}
    }
    if let Some(context) = context {
        context.peer.end();
    }
}

fn new_context<E: Endpoints>(
    seat: &Seat<E>,
    connection: &Connection,
    confirmed: &watch::Sender<bool>,
) -> Context<E> {
    let shared = &seat.shared;
    let limits = shared.limits;
    let mut address = connection.remote_address();
    address.set_ip(address.ip().to_canonical());
    let peer = Peer::new(
        shared.next_id.fetch_add(1, Ordering::Relaxed),
        address,
        peer_key(connection),
        Ledger::below(&seat.held, limits.push_size_max),
        Arc::clone(&shared.counters),
    );
    Context {
        shared: Arc::clone(shared),
        connection: connection.clone(),
        peer,
        confirmed: confirmed.subscribe(),
        requests: Arc::new(Semaphore::new(limits.request_count_max)),
        held: Ledger::below(&seat.held, limits.held_per_connection_size_max),
    }
}

fn peer_key(connection: &Connection) -> Option<Ed25519PublicKey> {
    let shown = connection.peer_identity()?;
    let shown = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    identity::read_key(shown.first()?)
}

/// Writes what is queued until nobody can queue more, then ends the stream.
async fn write_all<E: Endpoints>(
    context: Arc<Context<E>>,
    mut stream: SendStream,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let time_max = context.shared.limits.message_timeout;
    while let Some((bytes, charge)) = outgoing.recv().await {
        match timeout(time_max, stream.write_chunk(bytes)).await {
            // QUIC has it now, within its window.
            Ok(Ok(())) => drop(charge),
            Ok(Err(_)) => return,
            Err(_) => {
                context.close_greedy(b"replies are not taken");
                return;
            }
        }
    }
    // It may have ended from the other side.
    drop(stream.finish());
}

/// How the reading of a stream ended.
enum End {
    /// As it should, or with the connection.
    Over,
    /// What came is no message, or was too slow.
    Malformed,
    /// It costs more than it may.
    Greedy,
}

async fn read_all<E: Endpoints>(
    context: Arc<Context<E>>,
    mut stream: RecvStream,
    queue: mpsc::Sender<Outgoing>,
) {
    let mut calls = JoinSet::new();
    match read_messages(&context, &mut stream, &queue, &mut calls).await {
        // What was asked is answered although nothing more will be.
        End::Over => while calls.join_next().await.is_some() {},
        End::Malformed => {
            count(&context.shared.counters.closed_for_cause);
            drop(stream.stop(CODE_MALFORMED));
        }
        End::Greedy => context.close_greedy(TOO_MUCH),
    }
}

async fn read_messages<E: Endpoints>(
    context: &Arc<Context<E>>,
    stream: &mut RecvStream,
    queue: &mpsc::Sender<Outgoing>,
    calls: &mut JoinSet<()>,
) -> End {
    let mut decoder = Decoder::new();
    let Some(mut charge) = context.held.charge(0) else {
        return End::Greedy;
    };
    let mut deadline = None;
    loop {
        let piece = match read_piece(stream, deadline).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return End::Over,
            Err(end) => return end,
        };
        if !charge.grow(piece.len()) {
            return End::Greedy;
        }
        decoder.handle_bytes(&piece);
        drop(piece);
        loop {
            let held_size = decoder.held_size();
            let message = match decoder.poll_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return End::Malformed,
            };
            let mut charge = charge.split(held_size - decoder.held_size());
            // A reply to a push: nobody waits for it.
            let Message::Command { id, endpoint, body } = message else {
                continue;
            };
            if !charge.grow(OVERHEAD_SIZE) {
                return End::Greedy;
            }
            let Ok(permit) = Arc::clone(&context.requests).acquire_owned().await else {
                return End::Over;
            };
            let call = Call {
                id,
                is_early: stream.is_0rtt(),
                charge,
            };
            let (context, queue) = (Arc::clone(context), queue.clone());
            calls.spawn(async move {
                answer(&context, call, (endpoint, body), &queue).await;
                drop(permit);
            });
        }
        while calls.try_join_next().is_some() {}
        deadline = match (decoder.is_within_message(), deadline) {
            (true, None) => Some(deadline_after(context.shared.limits.message_timeout)),
            (true, deadline) => deadline,
            (false, _) => None,
        };
    }
}

fn deadline_after(duration: Duration) -> Instant {
    Instant::now() + duration
}

async fn read_piece(
    stream: &mut RecvStream,
    deadline: Option<Instant>,
) -> Result<Option<Bytes>, End> {
    let read = stream.read_chunk(READ_SIZE_MAX, true);
    let read = match deadline {
        None => read.await,
        Some(deadline) => timeout_at(deadline, read)
            .await
            .map_err(|_| End::Malformed)?,
    };
    match read {
        Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
        // Reset, or the connection's end.
        Err(_) => Ok(None),
    }
}

/// A command under way.
struct Call {
    id: i64,
    is_early: bool,
    charge: Charge,
}

async fn answer<E: Endpoints>(
    context: &Context<E>,
    call: Call,
    (endpoint, body): (Bytes, Bytes),
    queue: &mpsc::Sender<Outgoing>,
) {
    let Call {
        id,
        is_early,
        charge,
    } = call;
    let shared = &context.shared;
    let reply = match core::str::from_utf8(&endpoint) {
        Ok(name) => {
            if is_early && !shared.endpoints.is_idempotent(name, &body) {
                context.handshake_is_over().await;
            }
            count(&shared.counters.commands);
            let called = (context.peer.clone(), name.to_owned(), body);
            let (peer, name, body) = called;
            shared.endpoints.call(peer, name, body).await
        }
        Err(_) => reply::no_such_endpoint(&String::from_utf8_lossy(&endpoint)),
    };
    drop((endpoint, charge));
    let mut message = match reply {
        Reply::Ok(body) => Message::Reply { id, body },
        Reply::Error(body) => Message::Error { id, body },
        Reply::None => return,
    };
    if !message.fits() {
        let body = "500 Internal Server Error\n\nreply is too large".into();
        message = Message::Error { id, body };
    }
    let encoded = Bytes::from(message.encode());
    drop(message);
    let Some(charge) = context.held.charge(encoded.len() + OVERHEAD_SIZE) else {
        context.close_greedy(TOO_MUCH);
        return;
    };
    // The stream may have ended: then nobody wants it.
    drop(queue.send((encoded, charge)).await);
}

impl<E> Context<E> {
    /// Waits for it; for ever when it fails, since the connection ends then, and this with it.
    async fn handshake_is_over(&self) {
        let mut confirmed = self.confirmed.clone();
        if !*confirmed.borrow() {
            count(&self.shared.counters.early_waited);
        }
        if confirmed.wait_for(|confirmed| *confirmed).await.is_err() {
            core::future::pending::<()>().await;
        }
    }

    fn close_greedy(&self, reason: &[u8]) {
        count(&self.shared.counters.closed_for_cause);
        self.connection.close(CODE_GREEDY, reason);
    }
}
