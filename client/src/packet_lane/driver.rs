//! What gives the packet lane a socket, time and randomness: a task of its own, so that cover goes on
//! while nobody asks.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use cepa_wire::Timestamp;
use cepa_wire::packet::RelayId;
use cepa_wire::packet::geometry::DATAGRAM_SIZE;
use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::directory::LaneDirectory;
use super::exchange::{Ask, AskId, ExchangeAnswer, ExchangeError, PacketExchange};
use super::link::{GuardLink, LinkEvent};
use super::{ExchangeSettings, draw};
use crate::system::Stopwatch;

/// Links that are held: the guard, and another one for requests to the guard itself.
const GUARD_COUNT: usize = 2;
/// Requests that may wait for another guard: as many as one client has under way.
const HELD_COUNT_MAX: usize = 64;
/// Guards that are tried before the lane counts as closed.
const GUARD_TRY_COUNT_MAX: usize = 6;
/// How long links have to open. The first that is there is enough then.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// After that, how much longer one may take.
const OPEN_TIMEOUT_LAST: Duration = Duration::from_secs(9);
/// Requests that wait to be taken.
const COMMAND_COUNT_MAX: usize = 16;
/// Datagrams that are taken at once before anything is sent.
const RECEIVE_COUNT_MAX: usize = 64;
/// The longest sleep: whatever is forgotten is found then.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Why the lane is not there, or did not answer.
#[derive(Debug, Error)]
pub(crate) enum LaneFailure {
    /// No guard answered.
    #[error("no guard of the packet lane answers")]
    NoGuard,
    /// There is no socket.
    #[error("cannot open a socket for packets: {0}")]
    Socket(io::Error),
    /// The request failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random,
    /// No node shows descriptors that are of any use.
    #[error("no node knows of a packet lane")]
    NoDirectory,
    /// The node is not in the lane.
    #[error("the node has no packet lane")]
    NoDescriptor,
    /// The body of an answer can't be read.
    #[error("a node's answer is malformed")]
    Malformed,
    /// The task has ended.
    #[error("the packet lane is closed")]
    Closed,
}

/// What the lane begins with.
pub(crate) struct LaneStart {
    pub(crate) directory: Arc<LaneDirectory>,
    pub(crate) settings: ExchangeSettings,
    /// Now, by the network's clock.
    pub(crate) now: Timestamp,
}

type Outcome = Result<ExchangeAnswer, LaneFailure>;

enum Command {
    Ask(Ask, oneshot::Sender<Outcome>),
    Directory(Arc<LaneDirectory>),
}

/// An open lane. Its task ends when this is dropped.
pub(crate) struct LaneHandle {
    commands: mpsc::Sender<Command>,
}

impl LaneHandle {
    /// Opens links to guards.
    pub(crate) async fn open(start: LaneStart) -> Result<Self, LaneFailure> {
        let mut lane = Lane::new(start).await?;
        lane.open_links().await?;
        let (commands, receiver) = mpsc::channel(COMMAND_COUNT_MAX);
        tokio::spawn(lane.run(receiver));
        Ok(Self { commands })
    }

    /// Asks, and waits for the answer as long as the settings say.
    pub(crate) async fn ask(&self, ask: Ask) -> Outcome {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ask(ask, reply)).await?;
        answer.await.unwrap_or(Err(LaneFailure::Closed))
    }

    /// Uses another directory from now on.
    pub(crate) async fn set_directory(
        &self,
        directory: Arc<LaneDirectory>,
    ) -> Result<(), LaneFailure> {
        self.send(Command::Directory(directory)).await
    }

    async fn send(&self, command: Command) -> Result<(), LaneFailure> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| LaneFailure::Closed)
    }
}

/// Draws randomness; a failure is kept, and nothing that was made with it may leave.
#[derive(Default)]
struct SystemRandom {
    has_failed: bool,
}

impl SystemRandom {
    fn source(&mut self) -> impl FnMut(&mut [u8]) {
        |bytes| self.has_failed |= getrandom::fill(bytes).is_err()
    }

    const fn check(&self) -> Result<(), LaneFailure> {
        if self.has_failed {
            Err(LaneFailure::Random)
        } else {
            Ok(())
        }
    }
}

struct Lane {
    socket: UdpSocket,
    directory: Arc<LaneDirectory>,
    exchange: PacketExchange,
    links: Vec<GuardLink>,
    guard_try_count: usize,
    /// Relays that did not answer: as many as are tried.
    avoided: Vec<RelayId>,
    random: SystemRandom,
    begun: Timestamp,
    watch: Stopwatch,
    waiting: BTreeMap<AskId, oneshot::Sender<Outcome>>,
    /// What waits for a guard other than the node that it asks.
    held: Vec<(Ask, oneshot::Sender<Outcome>)>,
}

impl Lane {
    async fn new(start: LaneStart) -> Result<Self, LaneFailure> {
        let is_lab = start.directory.relays().all(|it| it.ip.is_loopback());
        let ip = if is_lab {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        let socket = UdpSocket::bind((ip, 0)).await;
        let mut random = SystemRandom::default();
        let directory = Arc::clone(&start.directory);
        let exchange =
            PacketExchange::new(start.settings, directory, start.now, &mut random.source());
        random.check()?;
        Ok(Self {
            socket: socket.map_err(LaneFailure::Socket)?,
            directory: start.directory,
            exchange,
            links: Vec::new(),
            guard_try_count: 0,
            avoided: Vec::new(),
            random,
            begun: start.now,
            watch: Stopwatch::start(),
            waiting: BTreeMap::new(),
            held: Vec::new(),
        })
    }

    fn now(&self) -> Timestamp {
        self.begun.saturating_add(self.watch.elapsed())
    }

    /// Waits until links are open: all of them, or later one.
    async fn open_links(&mut self) -> Result<(), LaneFailure> {
        let opening = async |lane: &mut Self, count: usize| {
            while lane.open_count() < count {
                lane.step(None).await?;
                if lane.links.is_empty() {
                    return Err(LaneFailure::NoGuard);
                }
            }
            Ok(())
        };
        match timeout(OPEN_TIMEOUT, opening(self, GUARD_COUNT)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if self.open_count() == 0 => return Err(error),
            _ => {}
        }
        timeout(OPEN_TIMEOUT_LAST, opening(self, 1))
            .await
            .unwrap_or(Err(LaneFailure::NoGuard))
    }

    fn open_count(&self) -> usize {
        self.links.iter().filter(|link| link.is_open()).count()
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            match self.step(Some(&mut commands)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => {
                    tracing::debug!(%failure, "the packet lane ends");
                    return;
                }
            }
        }
    }

    /// Sends what is due, then waits for a datagram, a command, or until something is due. False when nobody
    /// is left who could ask.
    async fn step(
        &mut self,
        commands: Option<&mut mpsc::Receiver<Command>>,
    ) -> Result<bool, LaneFailure> {
        self.replace_links();
        self.start_held()?;
        let now = self.now();
        self.exchange.handle_timeout(now, &mut self.random.source());
        self.random.check()?;
        self.send(now).await?;
        self.tell();
        let pause = self.pause();
        let mut datagram = [0; DATAGRAM_SIZE + 1];
        let command = async {
            match commands {
                Some(commands) => commands.recv().await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            received = self.socket.recv_from(&mut datagram) => {
                self.receive(received, &mut datagram)?;
            }
            command = command => match command {
                Some(command) => self.begin(command)?,
                None => return Ok(false),
            },
            () = sleep(pause) => {}
        }
        Ok(true)
    }

    /// Puts other guards in the place of those that do not answer, and of those that are missing.
    fn replace_links(&mut self) {
        while let Some(doubted) = self.exchange.poll_doubt() {
            let mut links = self.links.iter_mut();
            if let Some(link) = links.find(|link| link.relay() == doubted) {
                link.doubt();
            }
        }
        for link in self.links.extract_if(.., |link| link.is_down()) {
            self.exchange.remove_guard(link.relay());
            self.avoided.push(link.relay());
        }
        while self.links.len() < GUARD_COUNT && self.guard_try_count < GUARD_TRY_COUNT_MAX {
            let held: Vec<RelayId> = self.links.iter().map(GuardLink::relay).collect();
            let others = self.directory.relays().filter(|it| !held.contains(&it.id));
            let avoided = &self.avoided;
            let (tried, fresh): (Vec<_>, Vec<_>) = others.partition(|it| avoided.contains(&it.id));
            // Who did not answer is tried again when nobody else is left.
            let others = if fresh.is_empty() { tried } else { fresh };
            let mut random = self.random.source();
            let bound = u64::try_from(others.len().max(1)).unwrap_or(u64::MAX);
            let index = usize::try_from(draw(&mut random) % bound).unwrap_or(0);
            let Some(relay) = others.get(index) else {
                return;
            };
            let mut secret = zeroize::Zeroizing::new([0; 32]);
            random(secret.as_mut_slice());
            self.links.push(GuardLink::new(relay, *secret));
            self.guard_try_count += 1;
        }
    }

    async fn send(&mut self, now: Timestamp) -> Result<(), LaneFailure> {
        for link in &mut self.links {
            let frame = link.poll_transmit(now, &mut self.random.source());
            self.random.check()?;
            if let Some(frame) = frame {
                // What is not sent is lost, as it may be anywhere on its way.
                drop(self.socket.send_to(&frame, link.address()).await);
            }
        }
        loop {
            let transmit = self.exchange.poll_transmit(now, &mut self.random.source());
            self.random.check()?;
            let Some(transmit) = transmit else {
                return Ok(());
            };
            let mut links = self.links.iter_mut();
            let link = links.find(|link| link.relay() == transmit.guard);
            let Some(link) = link else { continue };
            if let Some(datagram) = link.seal(now, &transmit.packet) {
                drop(self.socket.send_to(&datagram, link.address()).await);
            }
        }
    }

    /// Takes what came, and what else has come.
    fn receive(
        &mut self,
        received: io::Result<(usize, SocketAddr)>,
        datagram: &mut [u8],
    ) -> Result<(), LaneFailure> {
        let mut received = received;
        for _ in 0..RECEIVE_COUNT_MAX {
            // An error is about something sent before, if about anything.
            let Ok((size, from)) = received else {
                return Ok(());
            };
            if let Some(bytes) = datagram.get_mut(..size) {
                self.handle_datagram(from, bytes)?;
            }
            received = self.socket.try_recv_from(datagram);
        }
        Ok(())
    }

    fn handle_datagram(&mut self, from: SocketAddr, bytes: &mut [u8]) -> Result<(), LaneFailure> {
        let now = self.now();
        let mut links = self.links.iter_mut();
        let Some(link) = links.find(|link| link.address() == from) else {
            return Ok(());
        };
        match link.handle_datagram(now, bytes) {
            LinkEvent::Nothing => {}
            LinkEvent::Open(guard) => {
                self.exchange.add_guard(guard);
                self.guard_try_count = 0;
            }
            LinkEvent::Packet(packet) => {
                let random = &mut self.random.source();
                self.exchange.handle_packet(now, &packet, random);
            }
        }
        self.random.check()
    }

    fn begin(&mut self, command: Command) -> Result<(), LaneFailure> {
        let now = self.now();
        let (ask, reply) = match command {
            Command::Ask(ask, reply) => (ask, reply),
            Command::Directory(directory) => {
                self.directory = Arc::clone(&directory);
                self.exchange.set_directory(directory);
                return Ok(());
            }
        };
        if self.must_wait(&ask) && self.held.len() < HELD_COUNT_MAX {
            self.held.push((ask, reply));
            return Ok(());
        }
        self.start(now, ask, reply)
    }

    /// Whether the one guard that there is is the node that is asked, which must not know us, and another
    /// link is on its way.
    fn must_wait(&self, ask: &Ask) -> bool {
        !self.exchange.has_guard_for(ask.destination) && self.links.iter().any(|it| !it.is_open())
    }

    /// Begins what waited for a guard, if there is one now, or none will come.
    fn start_held(&mut self) -> Result<(), LaneFailure> {
        let now = self.now();
        for (ask, reply) in core::mem::take(&mut self.held) {
            if reply.is_closed() {
                continue;
            }
            if self.must_wait(&ask) {
                self.held.push((ask, reply));
            } else {
                self.start(now, ask, reply)?;
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        now: Timestamp,
        ask: Ask,
        reply: oneshot::Sender<Outcome>,
    ) -> Result<(), LaneFailure> {
        let begun = self.exchange.ask(now, ask, &mut self.random.source());
        self.random.check()?;
        match begun {
            Ok(id) => {
                self.waiting.insert(id, reply);
            }
            // Whoever asked is gone, or hears it.
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        Ok(())
    }

    /// Hands out what has ended, and forgets what nobody waits for.
    fn tell(&mut self) {
        while let Some((id, outcome)) = self.exchange.poll_event() {
            if let Some(reply) = self.waiting.remove(&id) {
                drop(reply.send(outcome.map_err(LaneFailure::from)));
            }
        }
        let gone = self.waiting.iter().filter(|(_, reply)| reply.is_closed());
        let gone: Vec<AskId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.waiting.remove(&id);
            self.exchange.cancel(id);
        }
    }

    fn pause(&self) -> Duration {
        let now = self.now();
        let links = self.links.iter().filter_map(|link| link.poll_timeout(now));
        let due = links.chain(self.exchange.poll_timeout()).min();
        due.map_or(SLEEP_MAX, |due| due.saturating_since(now))
            .min(SLEEP_MAX)
    }
}
