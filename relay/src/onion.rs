//! One onion at one hop: peel a layer, read what it says, decide
//! (`../shared/protocol/session-client.md`, section 4; `session-node.md`, 5.2 and 5.3).

use core::sync::atomic::AtomicU64;
use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_crypto::onion_v2::{InvalidCiphertext, LayerKey};
use cepa_crypto::x25519::{SharedSecret, diffie_hellman_many};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::onion::{
    Control, EncType, Frame, HOP_COUNT_MAX, LayerAddress, OnionError, Proxy, RelayedOnion,
};
use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

use crate::{Counters, PeerIndex, PeerTable};

/// What this hop opens layers with.
#[derive(Clone, Copy)]
pub struct Hop<'a> {
    /// The keys that layers are addressed to.
    pub keys: &'a NodeKeys,
    /// The relays that a layer may name.
    pub peers: &'a PeerTable,
    /// Accept `aes-cbc`, which does not authenticate.
    pub allow_aes_cbc: bool,
}

/// What is to be done with an onion. Each onion ends in exactly one step.
pub enum Step {
    /// Pass `message` (the bt dict of `sn.onion_request`) to a peer; its answer goes back unchanged.
    Forward {
        /// The next relay.
        peer: PeerIndex,
        /// Its key, for the texts of failures.
        destination: Ed25519PublicKey,
        /// What it gets.
        message: Vec<u8>,
    },
    /// The payload is a client request for this node.
    Deliver {
        /// `{"method","params"}`.
        payload: Bytes,
        /// How the answer goes back.
        return_layer: ReturnLayer,
    },
    /// Pass `body` to a server, by POST. What it answers goes back as it is, in clear: the server has
    /// sealed it. A failure goes back in clear too.
    Proxy {
        /// Whom it asks for; the target is one that onions may reach, the host is not looked at yet.
        server: Proxy,
        /// The whole opened layer, its control included: that is what servers read.
        body: Bytes,
    },
    /// The client is told so in an encrypted answer.
    RefuseSealed {
        /// Why.
        refusal: Refusal,
        /// How the answer goes back.
        return_layer: ReturnLayer,
    },
    /// The previous hop is told so in clear.
    Refuse(Refusal),
}

/// Why an onion ends here without having been served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request body is malformed.
    Malformed(OnionError),
    /// The peer's bt dict is malformed; the text says how.
    MalformedRelayed(String),
    /// The layer does not open.
    Undecryptable,
    /// The opened layer is unreadable.
    BadPayload,
    /// Too many hops.
    HopLimit,
    /// The next relay is not in the view.
    NextUnknown(Ed25519PublicKey),
    /// The next relay is known to be unreachable.
    NextUnreachable(Ed25519PublicKey),
    /// The next relay did not answer in time.
    NextTimeout,
    /// The next relay answered something unreadable.
    NextInvalid,
    /// A server's path that onions may not reach.
    BadTarget,
    /// This node does not pass requests to servers.
    NoProxy,
    /// This node is not ready.
    NotReady(Ed25519PublicKey),
}

impl Refusal {
    /// The status and text on the wire: clients match on both (section 6 of the client page).
    pub fn answer(&self) -> Answer {
        let (status, text): (u16, Cow<'static, str>) = match self {
            Self::Malformed(error) => (400, format!("Error parsing onion request: {error}").into()),
            Self::MalformedRelayed(text) => (400, text.clone().into()),
            Self::Undecryptable => (400, "Invalid ciphertext".into()),
            Self::BadPayload => (400, "Invalid json".into()),
            Self::HopLimit => (400, "onion request max path length exceeded".into()),
            Self::NextUnknown(key) => (502, format!("Next node not found: {key}").into()),
            Self::NextUnreachable(key) => (
                502,
                format!("Next node is currently unreachable: {key}").into(),
            ),
            Self::NextTimeout => (504, "Request time out".into()),
            Self::NextInvalid => (500, "Invalid response from snode".into()),
            Self::BadTarget => (400, "Invalid url".into()),
            Self::NoProxy => (502, "This node does not proxy to servers".into()),
            Self::NotReady(key) => (503, format!("Snode not ready: {key}").into()),
        };
        Answer::text(status, text)
    }

    /// The counter of this end.
    pub const fn counter<'a>(&self, counters: &'a Counters) -> &'a AtomicU64 {
        match self {
            Self::Malformed(_) | Self::MalformedRelayed(_) => &counters.onion_malformed,
            Self::Undecryptable => &counters.onion_undecryptable,
            Self::BadPayload => &counters.onion_bad_payload,
            Self::HopLimit => &counters.onion_hop_limit,
            Self::NextUnknown(_) => &counters.onion_next_unknown,
            Self::NextUnreachable(_) => &counters.onion_next_unreachable,
            Self::NextTimeout => &counters.onion_next_timeout,
            Self::NextInvalid => &counters.onion_next_invalid,
            Self::BadTarget | Self::NoProxy => &counters.onion_proxy_refused,
            Self::NotReady(_) => &counters.refused_not_ready,
        }
    }
}

/// How the passing of an onion to a server ended. The status and text are the server's, or those of
/// whoever asked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyEnd {
    /// The server answered, whatever its status.
    Answered,
    /// It was not asked: its address is not public, or too many requests are under way.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// It could not be reached, or what it answered could not be read.
    Failed,
}

impl ProxyEnd {
    /// The counter of this end.
    pub const fn counter(self, counters: &Counters) -> &AtomicU64 {
        match self {
            Self::Answered => &counters.onion_proxied,
            Self::Refused => &counters.onion_proxy_refused,
            Self::TimedOut => &counters.onion_proxy_timeout,
            Self::Failed => &counters.onion_proxy_failed,
        }
    }
}

/// How an answer goes back to the client: sealed once, with the key of the layer that asked.
pub struct ReturnLayer {
    key: LayerKey,
    json: bool,
    base64: bool,
}

impl ReturnLayer {
    const fn plain(key: LayerKey) -> Self {
        Self {
            key,
            json: false,
            base64: true,
        }
    }

    /// The HTTP body that carries `answer` back. `nonce` must be random.
    pub fn seal(&self, answer: Answer, nonce: [u8; 24]) -> Vec<u8> {
        let body = match answer.body {
            Body::Tree(tree) if self.json => tree,
            // A JSON body travels as a string that holds JSON: clients decode it twice.
            Body::Tree(tree) => Tree::text(String::from_utf8_lossy(&tree.to_json()).into_owned()),
            Body::Text(text) => Tree::Text(text),
            Body::Bytes(bytes) => Tree::Bytes(bytes),
        };
        let plaintext = Tree::dict([
            ("body", body),
            ("status", Tree::Integer(i64::from(answer.status))),
        ])
        .to_json();
        let sealed = self.key.seal(&plaintext, nonce);
        if self.base64 {
            STANDARD.encode(sealed).into_bytes()
        } else {
            sealed
        }
    }
}

/// An onion that could be read as far as its layer is closed. One X25519 opens it, which costs more than
/// all the rest: whoever has many computes their secrets at once ([`diffie_hellman_many`]).
#[derive(Clone, Copy)]
pub struct Sealed<'a> {
    ciphertext: &'a [u8],
    address: LayerAddress,
}

impl<'a> Sealed<'a> {
    /// What can be refused before it costs a Diffie-Hellman.
    fn check(hop: Hop<'_>, ciphertext: &'a [u8], address: LayerAddress) -> Result<Self, Refusal> {
        if address.hop_no > HOP_COUNT_MAX {
            return Err(Refusal::HopLimit);
        }
        if address.enc_type == EncType::AesCbc && !hop.allow_aes_cbc {
            return Err(Refusal::Undecryptable);
        }
        Ok(Self {
            ciphertext,
            address,
        })
    }

    /// The key whose secret with ours opens the layer.
    pub const fn ephemeral_key(&self) -> X25519PublicKey {
        self.address.ephemeral_key
    }

    /// Opens the layer with the secret of [`Self::ephemeral_key`], and decides.
    pub fn open(&self, hop: Hop<'_>, shared: &SharedSecret) -> Step {
        let node_public = hop.keys.x25519_public();
        let key = LayerKey::from_shared(
            self.address.enc_type,
            shared,
            &self.address.ephemeral_key,
            &node_public,
        );
        let opened = key.and_then(|key| Ok((key.open(self.ciphertext)?, key)));
        match opened {
            Ok((plaintext, key)) => decide(hop, plaintext, key, self.address.hop_no),
            Err(InvalidCiphertext) => Step::Refuse(Refusal::Undecryptable),
        }
    }

    fn open_alone(&self, hop: Hop<'_>) -> Step {
        let mut shared = [SharedSecret::default()];
        diffie_hellman_many(hop.keys.x25519(), &[self.ephemeral_key()], &mut shared);
        let [shared] = &shared;
        self.open(hop, shared)
    }
}

/// Reads the body of `POST /onion_req/v2`: we are the guard.
pub fn read_entry<'a>(hop: Hop<'_>, body: &'a [u8]) -> Result<Sealed<'a>, Refusal> {
    Frame::parse(body)
        .and_then(|frame| Ok((frame.blob, LayerAddress::parse(frame.control)?)))
        .map_err(Refusal::Malformed)
        .and_then(|(ciphertext, address)| Sealed::check(hop, ciphertext, address))
}

/// Reads the part of `sn.onion_request`: a peer is the hop before us.
pub fn read_relayed<'a>(hop: Hop<'_>, part: &'a [u8]) -> Result<Sealed<'a>, Refusal> {
    RelayedOnion::parse(part)
        .map_err(Refusal::MalformedRelayed)
        .and_then(|onion| Sealed::check(hop, onion.data, onion.address))
}

/// [`read_entry`] and [`Sealed::open`] of one onion.
pub fn handle_entry(hop: Hop<'_>, body: &[u8]) -> Step {
    read_entry(hop, body).map_or_else(Step::Refuse, |sealed| sealed.open_alone(hop))
}

/// [`read_relayed`] and [`Sealed::open`] of one onion.
pub fn handle_relayed(hop: Hop<'_>, part: &[u8]) -> Step {
    read_relayed(hop, part).map_or_else(Step::Refuse, |sealed| sealed.open_alone(hop))
}

/// Reads what an opened layer says.
fn decide(hop: Hop<'_>, plaintext: Vec<u8>, key: LayerKey, hop_no: u32) -> Step {
    let plaintext = Bytes::from(plaintext);
    let control =
        Frame::parse(&plaintext).and_then(|frame| Ok((frame.blob, Control::parse(frame.control)?)));
    match control {
        Ok((blob, Control::Final { json, base64 })) => Step::Deliver {
            payload: plaintext.slice_ref(blob),
            return_layer: ReturnLayer { key, json, base64 },
        },
        Ok((
            blob,
            Control::Relay {
                destination,
                address: next,
            },
        )) => forward(hop.peers, blob, destination, next, hop_no),
        Ok((_, Control::Proxy(server))) if is_allowed(&server) => Step::Proxy {
            server,
            body: plaintext,
        },
        Ok((_, Control::Proxy(_))) => Step::RefuseSealed {
            refusal: Refusal::BadTarget,
            return_layer: ReturnLayer::plain(key),
        },
        Err(_) => Step::RefuseSealed {
            refusal: Refusal::BadPayload,
            return_layer: ReturnLayer::plain(key),
        },
    }
}

fn forward(
    peers: &PeerTable,
    blob: &[u8],
    destination: Ed25519PublicKey,
    next: LayerAddress,
    hop_no: u32,
) -> Step {
    let Some(peer) = peers.find(&destination) else {
        return Step::Refuse(Refusal::NextUnknown(destination));
    };
    let address = LayerAddress {
        hop_no: hop_no + 1,
        ..next
    };
    Step::Forward {
        peer,
        destination,
        message: RelayedOnion {
            data: blob,
            address,
        }
        .encode(),
    }
}

/// Servers are reached only by way of `/loki/.../lsrpc` and `/oxen/.../lsrpc`.
fn is_allowed(server: &Proxy) -> bool {
    let target = server.target.as_str();
    matches!(server.protocol.as_str(), "http" | "https")
        && (target.starts_with("/loki/") || target.starts_with("/oxen/"))
        && target.ends_with("/lsrpc")
        && is_plain_path(target)
}

/// A path that no server or library reads as another one: visible ASCII, neither query nor fragment,
/// nothing that leads upward. The reference refuses the query only.
fn is_plain_path(target: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\');
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    target.bytes().all(is_plain) && !target.split('/').any(is_dots)
}

/// Reads a peer's answer to a forwarded onion: `[code][body]`, passed back unchanged.
pub fn read_peer_answer(parts: &[Bytes]) -> Result<(u16, Bytes), Refusal> {
    let [code, body, ..] = parts else {
        return Err(Refusal::NextInvalid);
    };
    let status = core::str::from_utf8(code)
        .ok()
        .and_then(|code| code.parse().ok());
    match status {
        Some(status @ 100..=599) => Ok((status, body.clone())),
        _ => Err(Refusal::NextInvalid),
    }
}
