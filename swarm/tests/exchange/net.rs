//! Six nodes, of which we are the first, and requests of accounts in our swarm.

use core::cell::RefCell;

use bytes::Bytes;
use cepa_crypto::request_signature::Verifier;
use cepa_crypto::{Account, NodeKeys, request_signature};
use cepa_storage::{Command, Outcome};
use cepa_swarm::{Action, Event, Exchange, Health, Local, Origin, View};
use cepa_wire::answer::{Answer, Body, Tree};
use cepa_wire::request::{ClientRequest, Proof, Retrieve, Store};
use cepa_wire::{Ed25519PublicKey, Mailbox, Namespace, ServiceNode, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const DAY: u64 = 86_400_000;

pub(crate) struct Net {
    pub(crate) keys: Vec<NodeKeys>,
    pub(crate) view: View,
    pub(crate) health: Health,
    pub(crate) verifier: RefCell<Verifier>,
}

/// Five nodes in swarm 0 and one in the swarm across the ring; we are the first.
pub(crate) fn net() -> Net {
    let keys: Vec<NodeKeys> = (1..=6)
        .map(|seed| NodeKeys::from_seed([seed; 32]))
        .collect();
    let nodes = keys
        .iter()
        .zip([0, 0, 0, 0, 0, 1 << 63])
        .map(|(keys, swarm_id)| ServiceNode {
            ip: core::net::Ipv4Addr::LOCALHOST,
            port: 1,
            omq_port: 2,
            pubkey_ed25519: keys.ed25519_public(),
            pubkey_x25519: keys.x25519_public(),
            pubkey_legacy: keys.ed25519_public().0,
            storage_server_version: ServiceNode::VERSION_DEFAULT,
            swarm_id,
        });
    let view = View::new(nodes.collect(), &keys[0].ed25519_public());
    Net {
        keys,
        view,
        health: Health::new(),
        verifier: RefCell::default(),
    }
}

impl Net {
    pub(crate) fn local(&self) -> Local<'_> {
        Local {
            view: &self.view,
            health: &self.health,
            keys: &self.keys[0],
            verifier: &self.verifier,
            has_oxend: false,
            now: NOW,
        }
    }

    pub(crate) fn member(&self, place: usize) -> Ed25519PublicKey {
        self.keys[place].ed25519_public()
    }

    /// Answers everything with success, members with their own signed entry.
    pub(crate) fn run(&self, request: ClientRequest, origin: Origin) -> (Answer, Vec<Action>) {
        let mut exchange = Exchange::new(request, origin, self.local());
        let mut seen = Vec::new();
        while let Some(action) = exchange.poll_action() {
            match &action {
                Action::Command { ticket, command } => {
                    let outcome = success(command);
                    exchange.handle_event(*ticket, Event::Outcome(outcome), self.local());
                }
                Action::Forward { ticket, .. } => {
                    let reply = vec![Bytes::from_static(b"d6:expiryi1ee")];
                    exchange.handle_event(*ticket, Event::Reply(reply), self.local());
                }
                Action::Oxend { .. } | Action::Missed { .. } => {}
            }
            seen.push(action);
        }
        (exchange.poll_answer().expect("all is done"), seen)
    }
}

pub(crate) fn success(command: &Command) -> Outcome {
    match command {
        Command::Store { expiry, .. } => Outcome::Stored {
            already: false,
            expiry: *expiry,
        },
        Command::Retrieve { .. } => Outcome::Retrieved {
            messages: Vec::new(),
            more: false,
        },
        Command::Delete { hashes, .. } => Outcome::Deleted(hashes.clone()),
        Command::DeleteAll { .. } => Outcome::DeletedAll(Vec::new()),
        Command::Expire { targets, .. } => Outcome::Expired {
            updated: targets.clone(),
            unchanged: Vec::new(),
        },
        Command::ExpireAll { .. } => Outcome::ExpiredAll(Vec::new()),
        Command::Expiries { .. } => Outcome::Expiries(Vec::new()),
        Command::Revoke { tokens, .. } | Command::Unrevoke { tokens, .. } => Outcome::Revoked {
            count: tokens.len(),
        },
        Command::Revocations { .. } => Outcome::Revocations(Vec::new()),
        other => panic!("no request asks for {other:?}"),
    }
}

/// An account whose mailbox lies in swarm 0.
pub(crate) fn account(net: &Net) -> Account {
    (0..=255)
        .map(|n| Account::from_entropy([n; 16]))
        .find(|account| net.view.is_ours(&account.id()))
        .expect("half of all accounts are ours")
}

pub(crate) fn store(mailbox: Mailbox, namespace: i16) -> Store {
    Store {
        mailbox,
        namespace: Namespace(namespace),
        timestamp: NOW,
        expiry: Timestamp::from_millis(NOW.as_millis() + DAY),
        data: Bytes::from_static(b"payload"),
        sig_timestamp: None,
        proof: None,
    }
}

pub(crate) fn retrieve(account: &Account) -> Retrieve {
    let mut retrieve = Retrieve {
        mailbox: account.id(),
        namespace: Namespace::INBOX,
        last_hash: None,
        max_count: None,
        max_size: None,
        timestamp: Some(NOW),
        proof: None,
    };
    retrieve.proof = Some(proof(account, &request_signature::retrieve_text(&retrieve)));
    retrieve
}

pub(crate) fn proof(account: &Account, text: &str) -> Proof {
    Proof::owner(
        Some(account.ed25519().public_key()),
        account.ed25519().sign(text.as_bytes()),
    )
}

pub(crate) fn text_of(answer: &Answer) -> (u16, &str) {
    match &answer.body {
        Body::Text(text) => (answer.status, text),
        _ => panic!("not text: {answer:?}"),
    }
}

pub(crate) fn tree_of(answer: &Answer) -> &Tree {
    match &answer.body {
        Body::Tree(tree) => tree,
        _ => panic!("not a document: {answer:?}"),
    }
}
