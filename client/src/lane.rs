//! Which way a request goes, and the packet lane as the client has it open.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::sync::Arc;

use cepa_wire::answer::Tree;
use cepa_wire::packet::request::AnswerEncoding;
use cepa_wire::request::ClientRequest;
use cepa_wire::{Ed25519PublicKey, ServiceNode, Timestamp};
use serde_json::Value;

use crate::ClientError;
use crate::http::Http;
use crate::onion::OnionAnswer;
use crate::packet_lane::{
    Ask, ExchangeAnswer, ExchangeSettings, LaneDirectory, LaneFailure, LaneHandle, LaneStart,
};
use crate::system::random_below;

/// Which way requests go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Onion requests over HTTPS: every node of the network takes them.
    #[default]
    Request,
    /// The packet lane: what it can't carry fails.
    Packet,
    /// The packet lane where it leads to the node, and else onion requests.
    Auto,
}

/// Nodes whose lists of descriptors are united.
const LIST_COUNT: usize = 2;
/// Nodes that are asked for one before there counts as being no packet lane.
const LIST_TRY_COUNT_MAX: usize = 4;
/// A directory is fetched anew after so long at the latest.
const DIRECTORY_AGE_MAX: Duration = Duration::from_mins(10);
/// After a failure the lane is left alone for so long, if there is another way.
const CLOSED_PAUSE: Duration = Duration::from_mins(1);
/// Where nodes show what descriptors they have.
const LIST_PATH: &str = "/cepa/descriptors/v1";
/// What a retrieve may bring at once, in the node's count, which is that of base64: some 25 packets, since
/// all of an answer must come through for any of it to be read. The rest comes with the next pages; a
/// message of the largest size is brought alone, and fits.
const RETRIEVE_SIZE: i64 = 24_000;

/// The packet lane, once it was needed.
pub(crate) struct PacketWay {
    settings: ExchangeSettings,
    open: Option<OpenLane>,
    closed_until: Option<Timestamp>,
}

struct OpenLane {
    handle: LaneHandle,
    directory: Arc<LaneDirectory>,
    /// When the directory is fetched anew.
    refresh: Timestamp,
}

/// What was answered by packets.
pub(crate) struct PacketAnswered {
    pub(crate) answer: OnionAnswer,
    /// The relays of the first packet, the destination with them.
    pub(crate) path: Vec<Ed25519PublicKey>,
}

/// The network, as the client knows it now.
pub(crate) struct Surroundings<'a> {
    pub(crate) http: &'a mut Http,
    pub(crate) nodes: &'a [ServiceNode],
    /// By the network's clock.
    pub(crate) now: Timestamp,
}

impl PacketWay {
    pub(crate) const fn new(settings: ExchangeSettings) -> Self {
        Self {
            settings,
            open: None,
            closed_until: None,
        }
    }

    /// Another way to use the lane: it is opened again.
    pub(crate) fn set_settings(&mut self, settings: ExchangeSettings) {
        *self = Self::new(settings);
    }

    /// Whether it failed a short while ago.
    pub(crate) fn is_closed(&self, now: Timestamp) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    /// Asks a node.
    pub(crate) async fn ask(
        &mut self,
        around: Surroundings<'_>,
        destination: &ServiceNode,
        request: ClientRequest,
    ) -> Result<PacketAnswered, ClientError> {
        let now = around.now;
        let asked = self.try_ask(around, destination, request).await;
        asked.map_err(|failure| {
            // What is about this one node or request says nothing about the others.
            if !matches!(failure, LaneFailure::Exchange(_)) {
                self.open = None;
                self.closed_until = Some(now.saturating_add(CLOSED_PAUSE));
            }
            ClientError::PacketLane(failure.to_string())
        })
    }

    async fn try_ask(
        &mut self,
        around: Surroundings<'_>,
        destination: &ServiceNode,
        request: ClientRequest,
    ) -> Result<PacketAnswered, LaneFailure> {
        let open = self.opened(around).await?;
        let relay = open.directory.find_node(&destination.pubkey_ed25519);
        let relay = relay.ok_or(LaneFailure::NoDescriptor)?;
        let ask = ask_of(relay.id, request);
        let answered = open.handle.ask(ask).await?;
        let path = answered.path.iter();
        let path = path.filter_map(|id| Some(open.directory.find(*id)?.ed25519));
        Ok(PacketAnswered {
            path: path.collect(),
            answer: read(answered).ok_or(LaneFailure::Malformed)?,
        })
    }

    /// The lane, open, with a directory that is new enough.
    async fn opened(&mut self, around: Surroundings<'_>) -> Result<&OpenLane, LaneFailure> {
        let now = around.now;
        if self.open.as_ref().is_some_and(|open| now < open.refresh) {
            return self.open.as_ref().ok_or(LaneFailure::Closed);
        }
        let fetched = fetch(around).await.map(Arc::new);
        let renewed = match (fetched, self.open.take()) {
            (Ok(directory), Some(open)) => {
                open.handle.set_directory(Arc::clone(&directory)).await?;
                OpenLane {
                    handle: open.handle,
                    refresh: refresh_time(&directory, now),
                    directory,
                }
            }
            (Ok(directory), None) => open(directory, self.settings, now).await?,
            // The old one does until it has no keys.
            (Err(_), Some(open)) if open.directory.usable_count(now) > 0 => OpenLane {
                refresh: now.saturating_add(CLOSED_PAUSE),
                ..open
            },
            (Err(failure), _) => return Err(failure),
        };
        Ok(self.open.insert(renewed))
    }
}

async fn open(
    directory: Arc<LaneDirectory>,
    settings: ExchangeSettings,
    now: Timestamp,
) -> Result<OpenLane, LaneFailure> {
    let start = LaneStart {
        directory: Arc::clone(&directory),
        settings,
        now,
    };
    Ok(OpenLane {
        handle: LaneHandle::open(start).await?,
        refresh: refresh_time(&directory, now),
        directory,
    })
}

/// A quarter of an epoch before keys may be missing, at the latest after [`DIRECTORY_AGE_MAX`].
fn refresh_time(directory: &LaneDirectory, now: Timestamp) -> Timestamp {
    let epoch = directory.shortest_epoch();
    let age = epoch.map_or(DIRECTORY_AGE_MAX, |epoch| epoch / 4);
    now.saturating_add(age.min(DIRECTORY_AGE_MAX))
}

/// Unites the lists of some nodes at random, since each could leave relays out.
async fn fetch(around: Surroundings<'_>) -> Result<LaneDirectory, LaneFailure> {
    let Surroundings { http, nodes, now } = around;
    let mut candidates: Vec<&ServiceNode> = nodes.iter().collect();
    let mut lists = Vec::new();
    for _ in 0..LIST_TRY_COUNT_MAX {
        if candidates.is_empty() || lists.len() >= LIST_COUNT {
            break;
        }
        let index = random_below(candidates.len()).map_err(|_| LaneFailure::Random)?;
        let node = candidates.swap_remove(index);
        let address = SocketAddrV4::new(node.ip, node.port);
        match http.get_node(address, LIST_PATH).await {
            Ok((200, list)) => lists.push(list),
            Ok((status, _)) => tracing::debug!(status, "a node shows no descriptors"),
            Err(fault) => tracing::debug!(fault, "a node shows no descriptors"),
        }
    }
    let directory = LaneDirectory::new(&lists, nodes, now);
    if directory.usable_count(now) == 0 {
        return Err(LaneFailure::NoDirectory);
    }
    Ok(directory)
}

/// How many relays of the packet lane a node knows, of these: it is asked directly, and its answer is
/// verified. Zero when it does not answer.
pub async fn lane_size(node: &ServiceNode, nodes: &[ServiceNode]) -> usize {
    let address = SocketAddrV4::new(node.ip, node.port);
    let now = crate::system::now();
    match Http::new().get_node(address, LIST_PATH).await {
        Ok((200, list)) => LaneDirectory::new(&[list], nodes, now).usable_count(now),
        _ => 0,
    }
}

/// A request with as many reply blocks as its answer usually needs, and some for what gets lost. bt, which
/// carries messages without base64.
fn ask_of(destination: cepa_wire::packet::RelayId, mut request: ClientRequest) -> Ask {
    if let ClientRequest::Retrieve(retrieve) = &mut request {
        // The signature does not cover it.
        retrieve.max_size = Some(RETRIEVE_SIZE);
    }
    let block_count = match &request {
        ClientRequest::Info => 2,
        ClientRequest::GetSwarm(_) => 6,
        _ => 8,
    };
    Ask {
        destination,
        method: request.method(),
        params: request.encode_bt(),
        block_count,
    }
}

/// The answer as an onion's would be read.
fn read(answered: ExchangeAnswer) -> Option<OnionAnswer> {
    let ExchangeAnswer {
        status,
        encoding,
        body,
        ..
    } = answered;
    let body = match encoding {
        AnswerEncoding::Text => Value::String(String::from_utf8(body).ok()?),
        AnswerEncoding::Json => serde_json::from_slice(&body).ok()?,
        AnswerEncoding::Bt => {
            let tree = Tree::from_bt(&body).ok()?;
            serde_json::from_slice(&tree.to_json()).ok()?
        }
        AnswerEncoding::Raw => serde_json::from_slice(&Tree::Bytes(body.into()).to_json()).ok()?,
    };
    Some(OnionAnswer { status, body })
}

#[cfg(test)]
mod tests {
    use cepa_wire::packet::RelayId;
    use serde_json::json;

    use super::*;

    fn answered(encoding: AnswerEncoding, body: &[u8]) -> Option<Value> {
        let answer = ExchangeAnswer {
            status: 200,
            encoding,
            body: body.to_vec(),
            elapsed: Duration::ZERO,
            path: Vec::new(),
        };
        Some(read(answer)?.body)
    }

    #[test]
    fn answers_are_read_as_those_of_onions() {
        let table = [
            (AnswerEncoding::Text, &b"no"[..], Some(json!("no"))),
            (AnswerEncoding::Text, b"\xff", None),
            (AnswerEncoding::Json, b"{\"t\":1}", Some(json!({"t": 1}))),
            (AnswerEncoding::Json, b"{", None),
            (
                AnswerEncoding::Bt,
                b"d4:data2:\x00\xff4:hash1:xe",
                Some(json!({"data": "AP8=", "hash": "x"})),
            ),
            (AnswerEncoding::Bt, b"d", None),
            (AnswerEncoding::Raw, b"\x00\xff", Some(json!("AP8="))),
        ];
        for (encoding, body, expected) in table {
            assert_eq!(answered(encoding, body), expected, "{encoding:?} {body:?}");
        }
    }

    #[test]
    fn requests_are_what_a_node_reads() {
        let ask = ask_of(RelayId([1; 16]), ClientRequest::Info);
        let (read, _) = ClientRequest::parse_params(ask.method, &ask.params).unwrap();
        assert!(matches!(read, ClientRequest::Info));
    }
}
