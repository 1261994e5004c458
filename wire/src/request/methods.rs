//! The parameters of each method, as values (`../shared/protocol/session-client.md`, section 3).

use bytes::Bytes;
use serde_json::Value;

use super::ClientRequest;
use crate::{
    Direction, Ed25519PublicKey, Mailbox, Namespace, Scope, Signature, SubaccountToken, Timestamp,
};

/// Parameters of `store`. A relative `ttl` has become an absolute expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// For whom.
    pub mailbox: Mailbox,
    /// Which box.
    pub namespace: Namespace,
    /// When the sender says it was sent.
    pub timestamp: Timestamp,
    /// When it may be forgotten.
    pub expiry: Timestamp,
    /// The message, decoded.
    pub data: Bytes,
    /// What the signature covers instead of `timestamp`; there whenever there is a signature.
    pub sig_timestamp: Option<Timestamp>,
    /// Who asks; needed unless anybody may store into the namespace.
    pub proof: Option<Proof>,
}

/// A request's signature and the key it verifies with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// `pubkey_ed25519`: given for 05 mailboxes, forbidden for others (checked while parsing).
    pub ed25519: Option<Ed25519PublicKey>,
    /// `signature`: the owner's, or that of the subaccount's holder.
    pub signature: Signature,
    /// In whose name somebody else than the owner asks.
    pub subaccount: Option<Subaccount>,
}

impl Proof {
    /// The owner's own.
    pub const fn owner(ed25519: Option<Ed25519PublicKey>, signature: Signature) -> Self {
        Self {
            ed25519,
            signature,
            subaccount: None,
        }
    }
}

/// A subaccount as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subaccount {
    /// `subaccount`.
    pub token: SubaccountToken,
    /// `subaccount_sig`: the owner's signature over the token.
    pub signature: Signature,
}

/// Parameters of `retrieve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieve {
    /// Whose.
    pub mailbox: Mailbox,
    /// Which box.
    pub namespace: Namespace,
    /// Give what was stored after this hash; `None` from the beginning. Any text is accepted: one
    /// that is no hash of ours is a hash we do not know.
    pub last_hash: Option<String>,
    /// Give at most so many messages.
    pub max_count: Option<u32>,
    /// Give at most so many bytes; negative -N means 1/N of the node's own limit; 0 means unset.
    pub max_size: Option<i64>,
    /// `timestamp` of the signature.
    pub timestamp: Option<Timestamp>,
    /// Who asks.
    pub proof: Option<Proof>,
}

/// Parameters of `delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Whose.
    pub mailbox: Mailbox,
    /// Hashes in the order of the request, as written there: the answer's signature covers them.
    pub messages: Vec<String>,
    /// Answer 404 unless something was deleted.
    pub required: bool,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `oxend_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OxendRequest {
    /// `get_service_nodes` or `ons_resolve`.
    pub endpoint: String,
    /// Its parameters, as given.
    pub params: Value,
}

/// Parameters of `delete_all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteAll {
    /// Whose.
    pub mailbox: Mailbox,
    /// In which boxes.
    pub scope: Scope,
    /// `timestamp` of the signature.
    pub timestamp: Timestamp,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `delete_before`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteBefore {
    /// Whose.
    pub mailbox: Mailbox,
    /// In which boxes.
    pub scope: Scope,
    /// Messages with this timestamp and older ones go.
    pub before: Timestamp,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `expire`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expire {
    /// Whose.
    pub mailbox: Mailbox,
    /// Hashes in the order of the request, as written there: signatures cover them.
    pub messages: Vec<String>,
    /// One expiry for all messages, or one for each. Never empty.
    pub expiries: Vec<Timestamp>,
    /// `shorten`, `extend`, or neither.
    pub direction: Direction,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `expire_all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireAll {
    /// Whose.
    pub mailbox: Mailbox,
    /// In which boxes.
    pub scope: Scope,
    /// Messages that would live longer expire then.
    pub expiry: Timestamp,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `get_expiries`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetExpiries {
    /// Whose.
    pub mailbox: Mailbox,
    /// What is asked for, as written: text that is no hash is accepted, and the hash of no message.
    pub messages: Vec<String>,
    /// `timestamp` of the signature.
    pub timestamp: Timestamp,
    /// Who asks.
    pub proof: Proof,
}

/// Parameters of `revoke_subaccount` and `unrevoke_subaccount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose subaccounts.
    pub mailbox: Mailbox,
    /// `revoke` or `unrevoke`, in the order of the request: signatures cover them.
    pub tokens: Vec<SubaccountToken>,
    /// `timestamp` of the signature.
    pub timestamp: Timestamp,
    /// Who asks: never a subaccount.
    pub proof: Proof,
}

/// Parameters of `revoked_subaccounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedSubaccounts {
    /// Whose subaccounts.
    pub mailbox: Mailbox,
    /// `timestamp` of the signature.
    pub timestamp: Timestamp,
    /// Who asks: never a subaccount.
    pub proof: Proof,
}

/// Parameters of `ifelse`. At least one of the requests is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfElse {
    /// What decides.
    pub condition: Condition,
    /// `then`.
    pub then: Option<Box<ClientRequest>>,
    /// `else`.
    pub otherwise: Option<Box<ClientRequest>>,
}

/// The `if` of an `ifelse`: all that is given must hold. At least one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The chain's height is this or higher.
    pub height_at_least: Option<i64>,
    /// The chain's height is lower than this.
    pub height_before: Option<i64>,
    /// The hard fork and its revision are these or later.
    pub hf_at_least: Option<[i64; 2]>,
    /// The hard fork and its revision are earlier than these.
    pub hf_before: Option<[i64; 2]>,
    /// The node's version is this or later.
    pub v_at_least: Option<[i64; 3]>,
    /// The node's version is earlier than this.
    pub v_before: Option<[i64; 3]>,
}

impl Condition {
    /// Whether it holds at a chain's height and hard fork for a node's version.
    pub fn holds(&self, height: u64, hard_fork: [u16; 2], version: [u16; 3]) -> bool {
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        let hard_fork = hard_fork.map(i64::from);
        let version = version.map(i64::from);
        self.height_at_least.is_none_or(|least| height >= least)
            && self.height_before.is_none_or(|before| height < before)
            && self.hf_at_least.is_none_or(|least| hard_fork >= least)
            && self.hf_before.is_none_or(|before| hard_fork < before)
            && self.v_at_least.is_none_or(|least| version >= least)
            && self.v_before.is_none_or(|before| version < before)
    }
}
