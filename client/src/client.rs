//! The client itself: it carries bytes between the parts that decide and the network.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use cepa_crypto::Account;
use cepa_crypto::message::{self, Received};
use cepa_crypto::request_signature::{delete_text, retrieve_text};
use cepa_crypto::swarm_space::message_hash;
use cepa_wire::onion::EncType;
use cepa_wire::request::{ClientRequest, Delete, OxendRequest, Proof, Retrieve, Store};
use cepa_wire::{Ed25519PublicKey, Mailbox, Namespace, ServiceNode, Signature, Timestamp};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::answer::{Retrieved, read_deleted, read_retrieved, read_stored, read_swarm};
use crate::bootstrap::{node_fields, read_states};
use crate::failure::{PathFailure, Remedy, read_path_failure, read_status};
use crate::http::Http;
use crate::lane::{Lane, PacketWay, Surroundings};
use crate::onion::{OnionAnswer, wrap_request};
use crate::path::Pool;
use crate::system::{Stopwatch, now, random, random_below};
use crate::{Bootstrap, ClientError, Cursors, ExchangeSettings};

/// How long a message is kept for its recipient, as other clients ask for it.
const MESSAGE_TTL: Duration = Duration::from_hours(14 * 24);
/// Tries of one request: three strikes against two guards.
const ATTEMPT_COUNT_MAX: usize = 6;
/// The pause after a failed try, times the number of the try.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);
/// Members that one poll reads: a member that missed a message is covered by the other.
const POLLED_MEMBER_COUNT: usize = 2;
/// Nodes that are asked for the list of nodes, or for the time.
const WITNESS_COUNT: usize = 3;
/// Nodes of the list that so many witnesses name are believed.
const WITNESS_QUORUM: usize = 2;
/// Pages of one mailbox that one poll reads: some hundred MB.
const PAGE_COUNT_MAX: usize = 64;
/// A poll of a mailbox asks for half a node's largest answer, as other clients do.
const POLL_SIZE: i64 = -2;

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub struct ClientSettings {
    /// The cipher of onion layers.
    pub enc_type: EncType,
    /// Which way requests go.
    pub lane: Lane,
    /// How the packet lane is used.
    pub exchange: ExchangeSettings,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            enc_type: EncType::XChaCha20,
            lane: Lane::default(),
            exchange: ExchangeSettings::default(),
        }
    }
}

/// A stored message, and what proves that it is.
#[derive(Clone, Debug)]
pub struct StoreReport {
    /// The message's hash.
    pub hash: String,
    /// The relays it went through, guard first.
    pub path: Vec<ServiceNode>,
    /// Members of the recipient's swarm.
    pub member_count: usize,
    /// Members whose signature over the hash verifies.
    pub signed_count: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// What a poll brought.
#[derive(Clone, Debug, Default)]
pub struct ReceiveReport {
    /// New messages, oldest first.
    pub messages: Vec<Received>,
    /// Messages that could not be decrypted or hold no text.
    pub unreadable_count: usize,
    /// The relays that the last request went through.
    pub path: Vec<ServiceNode>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Deleted messages, and what proves that they are.
#[derive(Clone, Debug)]
pub struct DeleteReport {
    /// Members of the swarm.
    pub member_count: usize,
    /// Members whose signature verifies.
    pub signed_count: usize,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its clock.
    pub time: Timestamp,
    /// Its version.
    pub version: Vec<u64>,
}

/// A client of one network.
pub struct Client {
    settings: ClientSettings,
    http: Http,
    pool: Pool,
    swarms: BTreeMap<Mailbox, Vec<ServiceNode>>,
    guard: Option<Ed25519PublicKey>,
    /// What the network's clock is ahead of ours, in milliseconds.
    clock_offset: i64,
    last_path: Vec<ServiceNode>,
    packets: PacketWay,
}

impl Client {
    /// Learns of the network.
    pub async fn connect(
        bootstrap: Bootstrap,
        settings: ClientSettings,
    ) -> Result<Self, ClientError> {
        let http = Http::new();
        let pool = Pool::new(bootstrap.nodes(&http).await?);
        Ok(Self {
            settings,
            http,
            pool,
            swarms: BTreeMap::new(),
            guard: None,
            clock_offset: 0,
            last_path: Vec::new(),
            packets: PacketWay::new(settings.exchange),
        })
    }

    /// The nodes that this client knows.
    pub fn nodes(&self) -> &[ServiceNode] {
        self.pool.nodes()
    }

    /// Uses another cipher from now on.
    pub const fn set_enc_type(&mut self, enc_type: EncType) {
        self.settings.enc_type = enc_type;
    }

    /// Which way requests go.
    pub const fn lane(&self) -> Lane {
        self.settings.lane
    }

    /// Goes another way from now on.
    pub fn set_lane(&mut self, lane: Lane, exchange: ExchangeSettings) {
        (self.settings.lane, self.settings.exchange) = (lane, exchange);
        self.packets.set_settings(exchange);
    }

    /// Writes a text to an account: encrypted end to end, through an onion, kept by its whole swarm.
    pub async fn send_text(
        &mut self,
        sender: &Account,
        recipient: &Mailbox,
        text: &str,
    ) -> Result<StoreReport, ClientError> {
        let watch = Stopwatch::start();
        let sent = self.now();
        let data = message::encrypt(sender, recipient, text, sent, random()?)
            .map_err(ClientError::Message)?;
        let hash = message_hash(recipient, Namespace::INBOX, &data);
        let data = Bytes::from(data);
        let request = |now: Timestamp| {
            ClientRequest::Store(Store {
                mailbox: *recipient,
                namespace: Namespace::INBOX,
                timestamp: now,
                expiry: now.saturating_add(MESSAGE_TTL),
                data: data.clone(),
                sig_timestamp: None,
                proof: None,
            })
        };
        let body = self.ask_swarm(recipient, request).await?;
        let members = self.swarm(recipient).await?;
        let tally = read_stored(&body, &members, &hash)?;
        let (signed_count, member_count) = (tally.signed.len(), members.len());
        if signed_count * 2 < member_count || signed_count == 0 {
            return Err(ClientError::Unproven {
                signed: signed_count,
                members: member_count,
            });
        }
        Ok(StoreReport {
            hash: hash.to_text(),
            path: self.last_path.clone(),
            member_count,
            signed_count,
            elapsed: watch.elapsed(),
        })
    }

    /// Polls two members of the account's swarm for what came since the cursors, and moves them.
    pub async fn receive(
        &mut self,
        account: &Account,
        cursors: &mut Cursors,
    ) -> Result<ReceiveReport, ClientError> {
        let watch = Stopwatch::start();
        let mut members = self.swarm(&account.id()).await?;
        let mut report = ReceiveReport::default();
        let mut last_error = None;
        let mut polled_count = 0;
        while polled_count < POLLED_MEMBER_COUNT && !members.is_empty() {
            let member = members.swap_remove(random_below(members.len())?);
            match self.read_new(account, &member, cursors).await {
                Ok(messages) => {
                    polled_count += 1;
                    for message in messages {
                        if !cursors.is_first_sight(&message.hash) {
                            continue;
                        }
                        match message::decrypt(account, &message.data) {
                            Ok(received) => report.messages.push(received),
                            Err(_) => report.unreadable_count += 1,
                        }
                    }
                }
                Err(error) => last_error = Some(error),
            }
        }
        if let (0, Some(error)) = (polled_count, last_error) {
            return Err(error);
        }
        report.messages.sort_by_key(|message| message.sent);
        report.path = self.last_path.clone();
        report.elapsed = watch.elapsed();
        Ok(report)
    }

    /// What one member holds of an account's inbox after its cursor; moves the cursor.
    pub async fn read_new(
        &mut self,
        account: &Account,
        member: &ServiceNode,
        cursors: &mut Cursors,
    ) -> Result<Vec<Retrieved>, ClientError> {
        let (node, mailbox) = (member.pubkey_ed25519, account.id());
        let mut all = Vec::new();
        for _ in 0..PAGE_COUNT_MAX {
            let after = cursors
                .after(&node, &mailbox, Namespace::INBOX)
                .map(str::to_owned);
            let request =
                |now| ClientRequest::Retrieve(signed_retrieve(account, after.clone(), now));
            let answer = self.ask(member, request).await?;
            let (messages, more) = read_retrieved(&check(answer)?)?;
            if let Some(last) = messages.last() {
                cursors.advance(&node, &mailbox, Namespace::INBOX, last.hash.clone());
            }
            let is_done = !more || messages.is_empty();
            all.extend(messages);
            if is_done {
                break;
            }
        }
        Ok(all)
    }

    /// Deletes messages of an account's mailbox from its whole swarm.
    pub async fn delete(
        &mut self,
        account: &Account,
        hashes: &[String],
    ) -> Result<DeleteReport, ClientError> {
        let mut delete = Delete {
            mailbox: account.id(),
            messages: hashes.to_vec(),
            required: false,
            proof: Proof::owner(None, Signature([0; 64])),
        };
        delete.proof = proof(account, &delete_text(&delete));
        let request = |_| ClientRequest::Delete(delete.clone());
        let body = self.ask_swarm(&account.id(), request).await?;
        let members = self.swarm(&account.id()).await?;
        let tally = read_deleted(&body, &members, &delete)?;
        let report = DeleteReport {
            member_count: members.len(),
            signed_count: tally.signed.len(),
        };
        if report.signed_count * 2 < report.member_count || report.signed_count == 0 {
            let (signed, members) = (report.signed_count, report.member_count);
            return Err(ClientError::Unproven { signed, members });
        }
        Ok(report)
    }

    /// The members of a mailbox's swarm, as a node of the network names them.
    pub async fn swarm(&mut self, mailbox: &Mailbox) -> Result<Vec<ServiceNode>, ClientError> {
        if let Some(members) = self.swarms.get(mailbox) {
            return Ok(members.clone());
        }
        let mut answer = Err(ClientError::TooFewNodes(0));
        // Not every node has a packet lane.
        for _ in 0..ATTEMPT_COUNT_MAX {
            let node = self.any_node()?;
            answer = self.ask(&node, |_| ClientRequest::GetSwarm(*mailbox)).await;
            if !matches!(answer, Err(ClientError::PacketLane(_))) {
                break;
            }
        }
        let members = read_swarm(&check(answer?)?)?;
        if members.is_empty() {
            return Err(ClientError::Malformed("the swarm has no members"));
        }
        self.swarms.insert(*mailbox, members.clone());
        Ok(members)
    }

    /// What a node says of itself.
    pub async fn info(&mut self, node: &ServiceNode) -> Result<NodeInfo, ClientError> {
        let body = check(
            self.ask_once_per_path(node, |_| ClientRequest::Info)
                .await?,
        )?;
        read_info(&body)
    }

    /// The relays that the last request went through, guard first.
    pub fn last_path(&self) -> &[ServiceNode] {
        &self.last_path
    }

    /// Asks a node for what is made and signed already, the way that the settings say, until it answers. The
    /// answer is given as it is, whatever its status.
    pub async fn ask_once(
        &mut self,
        node: &ServiceNode,
        request: &ClientRequest,
    ) -> Result<OnionAnswer, ClientError> {
        self.ask_once_per_path(node, |_| request.clone()).await
    }

    /// Whether a node that is asked directly, as clients test a guard, answers `info` with 200.
    pub async fn is_ready(&mut self, node: &ServiceNode) -> bool {
        let address = SocketAddrV4::new(node.ip, node.port);
        let body = ClientRequest::Info.encode_json().into();
        let answer = self.http.post_node(address, "/storage_rpc/v1", body);
        matches!(answer.await, Ok((200, _)))
    }

    /// Asks three nodes for the list of nodes, and keeps what two of them agree on.
    pub async fn refresh_nodes(&mut self) -> Result<(), ClientError> {
        let params = json!({ "active_only": true, "fields": node_fields() });
        let mut votes: BTreeMap<Ed25519PublicKey, Vec<ServiceNode>> = BTreeMap::new();
        for _ in 0..WITNESS_COUNT {
            let node = self.any_node()?;
            let oxend = OxendRequest {
                endpoint: "get_service_nodes".into(),
                params: params.clone(),
            };
            let answer = self
                .ask(&node, |_| ClientRequest::Oxend(oxend.clone()))
                .await?;
            let body = check(answer)?;
            for node in body.get("result").map(read_states).unwrap_or_default() {
                votes.entry(node.pubkey_ed25519).or_default().push(node);
            }
        }
        let agreed = votes.into_values().filter_map(|mut votes| {
            let first = votes.pop()?;
            let agreeing = votes.iter().filter(|vote| **vote == first).count() + 1;
            (agreeing >= WITNESS_QUORUM).then_some(first)
        });
        let pool = Pool::new(agreed.collect());
        if pool.nodes().is_empty() {
            return Err(ClientError::Malformed(
                "the nodes do not agree on a list of nodes",
            ));
        }
        self.pool = pool;
        self.swarms.clear();
        Ok(())
    }

    /// Asks one member of a mailbox's swarm after the other until one does what is asked.
    async fn ask_swarm(
        &mut self,
        mailbox: &Mailbox,
        request: impl Fn(Timestamp) -> ClientRequest,
    ) -> Result<Value, ClientError> {
        let mut reason = "no member of the swarm was asked".to_owned();
        for attempt in 1..=ATTEMPT_COUNT_MAX {
            let members = self.swarm(mailbox).await?;
            let member = members.get(random_below(members.len().max(1))?);
            let member = member.ok_or(ClientError::Malformed("the swarm has no members"))?;
            let answer = match self.ask(member, &request).await {
                Ok(answer) => answer,
                Err(error @ (ClientError::NoAnswer { .. } | ClientError::PacketLane(_))) => {
                    reason = error.to_string();
                    self.swarms.remove(mailbox);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match read_status(answer.status) {
                Remedy::AdoptSwarm => match read_swarm(&answer.body) {
                    Ok(members) if !members.is_empty() => {
                        self.swarms.insert(*mailbox, members);
                    }
                    _ => {
                        self.swarms.remove(mailbox);
                    }
                },
                Remedy::OtherMember => {
                    self.pool.strike(&member.pubkey_ed25519);
                    sleep(ATTEMPT_PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
                }
                _ => return check(answer),
            }
            reason = format!("{}: {}", answer.status, answer.text());
        }
        Err(ClientError::NoAnswer {
            attempts: ATTEMPT_COUNT_MAX,
            reason,
        })
    }

    /// Asks a node; when it says that the clocks differ, asks the network for the time and again.
    async fn ask(
        &mut self,
        destination: &ServiceNode,
        request: impl Fn(Timestamp) -> ClientRequest,
    ) -> Result<OnionAnswer, ClientError> {
        let answer = self.ask_once_per_path(destination, &request).await?;
        if read_status(answer.status) != Remedy::SetClock {
            return Ok(answer);
        }
        self.set_clock().await?;
        let answer = self.ask_once_per_path(destination, &request).await?;
        if read_status(answer.status) == Remedy::SetClock {
            return Err(ClientError::Clock);
        }
        Ok(answer)
    }

    /// The median of what three nodes' clocks are ahead of ours.
    async fn set_clock(&mut self) -> Result<(), ClientError> {
        let mut offsets = Vec::with_capacity(WITNESS_COUNT);
        for _ in 0..WITNESS_COUNT {
            let node = self.any_node()?;
            let info = self.info(&node).await?;
            let theirs = i64::try_from(info.time.as_millis()).unwrap_or(i64::MAX);
            let ours = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
            offsets.push(theirs.saturating_sub(ours));
        }
        offsets.sort_unstable();
        self.clock_offset = offsets.get(WITNESS_COUNT / 2).copied().unwrap_or(0);
        Ok(())
    }

    /// Sends a request the way that the settings say, until the destination answers.
    async fn ask_once_per_path(
        &mut self,
        destination: &ServiceNode,
        request: impl Fn(Timestamp) -> ClientRequest,
    ) -> Result<OnionAnswer, ClientError> {
        let lane = self.settings.lane;
        let now = self.now();
        if lane == Lane::Request || (lane == Lane::Auto && self.packets.is_closed(now)) {
            return self.ask_by_onions(destination, request).await;
        }
        let around = Surroundings {
            http: &mut self.http,
            nodes: self.pool.nodes(),
            now,
        };
        let asked = self.packets.ask(around, destination, request(now)).await;
        match asked {
            Ok(answered) => {
                let found = answered.path.iter().filter_map(|key| self.pool.find(key));
                self.last_path = found.cloned().collect();
                Ok(answered.answer)
            }
            Err(failure) if lane == Lane::Auto => {
                tracing::debug!(%failure, "an onion request goes instead");
                self.ask_by_onions(destination, request).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sends a request through one path after the other until the destination answers.
    async fn ask_by_onions(
        &mut self,
        destination: &ServiceNode,
        request: impl Fn(Timestamp) -> ClientRequest,
    ) -> Result<OnionAnswer, ClientError> {
        let mut reason = String::new();
        for attempt in 1..=ATTEMPT_COUNT_MAX {
            let guard = self.guard;
            let path =
                self.pool
                    .choose_path(guard.as_ref(), &destination.pubkey_ed25519, random_below)?;
            let path = path.ok_or_else(|| ClientError::TooFewNodes(self.pool.nodes().len()))?;
            let payload = request(self.now()).encode_json();
            match self.send_onion(&path, destination, &payload).await? {
                Ok(answer) => {
                    for relay in &path {
                        self.pool.forgive(&relay.pubkey_ed25519);
                    }
                    self.guard = path.first().map(|guard| guard.pubkey_ed25519);
                    self.last_path = path;
                    return Ok(answer);
                }
                Err((failure, why)) => {
                    self.note_failure(&failure, &path);
                    reason = why;
                }
            }
            sleep(ATTEMPT_PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
        }
        Err(ClientError::NoAnswer {
            attempts: ATTEMPT_COUNT_MAX,
            reason,
        })
    }

    async fn send_onion(
        &mut self,
        path: &[ServiceNode],
        destination: &ServiceNode,
        payload: &[u8],
    ) -> Result<Result<OnionAnswer, (PathFailure, String)>, ClientError> {
        let enc_type = self.settings.enc_type;
        let onion = wrap_request(path, destination, payload, enc_type, || {
            Ok((random()?, random()?))
        })?;
        let guard = path.first().ok_or(ClientError::TooFewNodes(0))?;
        let address = SocketAddrV4::new(guard.ip, guard.port);
        let answer = self
            .http
            .post_node(
                address,
                "/onion_req/v2",
                Bytes::copy_from_slice(onion.body()),
            )
            .await;
        Ok(match answer {
            Err(why) => Err((PathFailure::StrikeGuard, format!("the guard: {why}"))),
            Ok((200, body)) => onion
                .open_answer(&body)
                .map_err(|error| (PathFailure::StrikePath, error.to_string())),
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                Err((read_path_failure(status, &text), format!("{status} {text}")))
            }
        })
    }

    fn note_failure(&mut self, failure: &PathFailure, path: &[ServiceNode]) {
        let guard = path.first().map(|guard| guard.pubkey_ed25519);
        match failure {
            PathFailure::DropNode(key) => self.pool.drop_node(key),
            PathFailure::StrikeNode(key) => self.pool.strike(key),
            PathFailure::StrikeGuard => {
                if let Some(guard) = guard {
                    self.pool.strike(&guard);
                }
                self.guard = None;
            }
            PathFailure::StrikePath => {
                for relay in path {
                    self.pool.strike(&relay.pubkey_ed25519);
                }
                self.guard = None;
            }
        }
    }

    fn any_node(&self) -> Result<ServiceNode, ClientError> {
        let nodes = self.pool.nodes();
        if nodes.is_empty() {
            return Err(ClientError::TooFewNodes(0));
        }
        let index = random_below(nodes.len())?;
        nodes.get(index).cloned().ok_or(ClientError::TooFewNodes(0))
    }

    /// Now, by the network's clock.
    fn now(&self) -> Timestamp {
        let ours = i64::try_from(now().as_millis()).unwrap_or(i64::MAX);
        let theirs = ours.saturating_add(self.clock_offset).max(0);
        Timestamp::from_millis(theirs.unsigned_abs())
    }
}

/// Asks a node directly, without an onion, what it says of itself.
pub async fn direct_info(node: &ServiceNode) -> Result<NodeInfo, ClientError> {
    let address = SocketAddrV4::new(node.ip, node.port);
    let body = Bytes::from(ClientRequest::Info.encode_json());
    let mut http = Http::new();
    let answer = http.post_node(address, "/storage_rpc/v1", body).await;
    let (status, body) = answer.map_err(|reason| ClientError::NoAnswer {
        attempts: 1,
        reason,
    })?;
    if status != 200 {
        let text = String::from_utf8_lossy(&body).into_owned();
        return Err(ClientError::Refused { status, text });
    }
    let body: Value = serde_json::from_slice(&body)
        .map_err(|_| ClientError::Malformed("an answer to `info` is no JSON"))?;
    read_info(&body)
}

fn read_info(body: &Value) -> Result<NodeInfo, ClientError> {
    let time = body.get("timestamp").and_then(Value::as_u64);
    let version = body.get("version").and_then(Value::as_array);
    match (time, version) {
        (Some(time), Some(version)) => Ok(NodeInfo {
            time: Timestamp::from_millis(time),
            version: version.iter().filter_map(Value::as_u64).collect(),
        }),
        _ => Err(ClientError::Malformed(
            "an answer to `info` lacks time or version",
        )),
    }
}

/// Asks a node directly, without an onion, whether it serves clients.
pub async fn is_ready(node: &ServiceNode) -> bool {
    let address = SocketAddrV4::new(node.ip, node.port);
    let body = Bytes::from(ClientRequest::Info.encode_json());
    let answer = Http::new()
        .post_node(address, "/storage_rpc/v1", body)
        .await;
    matches!(answer, Ok((200, _)))
}

fn check(answer: OnionAnswer) -> Result<Value, ClientError> {
    match answer.status {
        200..300 => Ok(answer.body),
        status => Err(ClientError::Refused {
            status,
            text: answer.text(),
        }),
    }
}

fn proof(account: &Account, text: &str) -> Proof {
    Proof::owner(
        Some(account.ed25519().public_key()),
        account.ed25519().sign(text.as_bytes()),
    )
}

fn signed_retrieve(account: &Account, last_hash: Option<String>, now: Timestamp) -> Retrieve {
    let mut retrieve = Retrieve {
        mailbox: account.id(),
        namespace: Namespace::INBOX,
        last_hash,
        max_count: None,
        max_size: Some(POLL_SIZE),
        timestamp: Some(now),
        proof: None,
    };
    retrieve.proof = Some(proof(account, &retrieve_text(&retrieve)));
    retrieve
}
