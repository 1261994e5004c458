//! Client requests: one typed value, two encodings (JSON and bt)
//! (`../shared/protocol/session-client.md`, section 3; `session-node.md`, 5.1 and 5.6).

mod encode;
mod methods;
mod parse;
mod source;

use std::borrow::Cow;

use serde_json::Value;

use crate::bt::{self, Writer};
use crate::{Mailbox, json};
pub use methods::{
    Condition, Delete, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries, IfElse,
    OxendRequest, Proof, Retrieve, Revocation, RevokedSubaccounts, Store, Subaccount,
};
use source::{Params, Source};

/// Most subrequests of a batch or sequence.
pub const SUBREQUEST_COUNT_MAX: usize = 20;
/// Most raw bytes of a stored message.
pub const MESSAGE_SIZE_MAX: usize = 76_800;
/// Most subaccounts that one request revokes.
pub const REVOCATION_COUNT_MAX: usize = 50;

/// One of Session's networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The one that people use.
    #[default]
    Mainnet,
    /// The one for trials, where the id of an account may come without its prefix.
    Testnet,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRequest {
    /// Store a message.
    Store(Store),
    /// Read messages.
    Retrieve(Retrieve),
    /// Delete messages by hash.
    Delete(Delete),
    /// Delete all messages of one or all namespaces.
    DeleteAll(DeleteAll),
    /// Delete messages up to a time.
    DeleteBefore(DeleteBefore),
    /// Move the expiry of messages.
    Expire(Expire),
    /// Let all messages expire no later than a time.
    ExpireAll(ExpireAll),
    /// Tell when messages expire.
    GetExpiries(GetExpiries),
    /// Refuse subaccounts from now on.
    RevokeSubaccount(Revocation),
    /// Accept subaccounts again.
    UnrevokeSubaccount(Revocation),
    /// Tell which subaccounts are refused.
    RevokedSubaccounts(RevokedSubaccounts),
    /// Version and clock of the node.
    Info,
    /// The members of a mailbox's swarm (`get_swarm`, alias `get_snodes_for_pubkey`).
    GetSwarm(Mailbox),
    /// A question to the node's chain daemon.
    Oxend(OxendRequest),
    /// The nodes that are in a swarm, in 51 bytes each (`active_nodes_bin`).
    ActiveNodes,
    /// Independent subrequests.
    Batch(Vec<Self>),
    /// Subrequests that stop at the first answer that is not 2xx.
    Sequence(Vec<Self>),
    /// One request or another, by what the node knows of the network.
    IfElse(IfElse),
}

/// A request that can't be read: the status and text that the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// HTTP status.
    pub status: u16,
    /// The protocol's own text.
    pub text: Cow<'static, str>,
}

impl RequestError {
    /// Parameters that are readable but wrong: 400 and `invalid request: ...`.
    fn invalid(why: impl core::fmt::Display) -> Self {
        Self {
            status: 400,
            text: format!("invalid request: {why}").into(),
        }
    }

    const fn fixed(status: u16, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
        }
    }
}

/// Reads requests as a node of one network does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parser {
    /// Whose account ids are taken.
    pub network: Network,
}

impl Parser {
    /// Reads `{"method": M, "params": {...}}`: an HTTPS body or an onion's payload. Of at most
    /// [`bt::VALUE_COUNT_MAX`] values: more of them are as invalid as no JSON.
    pub fn parse_json(self, body: &[u8]) -> Result<ClientRequest, RequestError> {
        let body = json::parse(body).ok_or(RequestError::fixed(400, "invalid json"))?;
        let method = body
            .get("method")
            .and_then(Value::as_str)
            .ok_or(RequestError::fixed(400, "invalid json: no `method` field"))?;
        let params = body
            .get("params")
            .and_then(Value::as_object)
            .ok_or(RequestError::fixed(400, "invalid json: no `params` field"))?;
        parse::request(method, self.source(Params::Json(params))).unwrap_or_else(|| {
            Err(RequestError {
                status: 400,
                text: format!("no method {method}").into(),
            })
        })
    }

    /// Reads the parameters of `method` (OMQ `storage.<method>`): JSON or bt, told apart by the
    /// first byte; empty means no parameters, and so does JSON that is no object. Gives the encoding,
    /// in which the answer is due.
    pub fn parse_params(
        self,
        method: &str,
        params: &[u8],
    ) -> Result<(ClientRequest, Encoding), RequestError> {
        let unknown = || RequestError {
            status: 400,
            text: format!("no method {method}").into(),
        };
        if Encoding::of(params) == Encoding::Bt {
            let dict = bt::Value::parse_bounded(params, bt::VALUE_COUNT_MAX)
                .ok()
                .and_then(|value| value.as_dict());
            let dict = dict.ok_or(RequestError::fixed(500, "request failed"))?;
            let request =
                parse::request(method, self.source(Params::Bt(dict))).ok_or_else(unknown)??;
            return Ok((request, Encoding::Bt));
        }
        let params = if params.is_empty() { b"{}" } else { params };
        let params = json::parse(params).ok_or(RequestError::fixed(
            400,
            "invalid body: expected json or bt_dict",
        ))?;
        let request = parse::request(method, self.source(Params::from_json(&params)))
            .ok_or_else(unknown)??;
        Ok((request, Encoding::Json))
    }

    /// Reads what a swarm member forwards: `sn.storage_cc [method][bt]`.
    pub fn parse_forwarded(
        self,
        method: &str,
        params: &[u8],
    ) -> Result<ClientRequest, RequestError> {
        let (request, _) = self.parse_params(method, params)?;
        if request.is_single_change() {
            Ok(request)
        } else {
            Err(RequestError::fixed(
                400,
                "invalid request: received invalid forwarded non-forwardable request",
            ))
        }
    }

    const fn source(self, params: Params<'_>) -> Source<'_> {
        Source::new(params, self.network)
    }
}

impl ClientRequest {
    /// [`Parser::parse_json`] for the main network.
    pub fn parse_json(body: &[u8]) -> Result<Self, RequestError> {
        Parser::default().parse_json(body)
    }

    /// [`Parser::parse_params`] for the main network.
    pub fn parse_params(method: &str, params: &[u8]) -> Result<(Self, Encoding), RequestError> {
        Parser::default().parse_params(method, params)
    }

    /// [`Parser::parse_forwarded`] for the main network.
    pub fn parse_forwarded(method: &str, params: &[u8]) -> Result<Self, RequestError> {
        Parser::default().parse_forwarded(method, params)
    }

    /// Whether it is one request that changes something, and so one that goes to all members.
    const fn is_single_change(&self) -> bool {
        matches!(
            self,
            Self::Store(_)
                | Self::Delete(_)
                | Self::DeleteAll(_)
                | Self::DeleteBefore(_)
                | Self::Expire(_)
                | Self::ExpireAll(_)
                | Self::RevokeSubaccount(_)
                | Self::UnrevokeSubaccount(_)
        )
    }

    /// Whether it may change something: messages, or who may read them.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Batch(requests) | Self::Sequence(requests) => {
                requests.iter().any(Self::is_change)
            }
            Self::IfElse(ifelse) => {
                let branches = [&ifelse.then, &ifelse.otherwise];
                let mut branches = branches.into_iter().flatten();
                branches.any(|request| request.is_change())
            }
            single => single.is_single_change(),
        }
    }

    /// Whether this is the name of a method.
    pub fn is_method(name: &str) -> bool {
        parse::METHODS.contains(&name)
    }

    /// The method's name on the wire.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Retrieve(_) => "retrieve",
            Self::Delete(_) => "delete",
            Self::DeleteAll(_) => "delete_all",
            Self::DeleteBefore(_) => "delete_before",
            Self::Expire(_) => "expire",
            Self::ExpireAll(_) => "expire_all",
            Self::GetExpiries(_) => "get_expiries",
            Self::RevokeSubaccount(_) => "revoke_subaccount",
            Self::UnrevokeSubaccount(_) => "unrevoke_subaccount",
            Self::RevokedSubaccounts(_) => "revoked_subaccounts",
            Self::Info => "info",
            Self::GetSwarm(_) => "get_swarm",
            Self::Oxend(_) => "oxend_request",
            Self::ActiveNodes => "active_nodes_bin",
            Self::Batch(_) => "batch",
            Self::Sequence(_) => "sequence",
            Self::IfElse(_) => "ifelse",
        }
    }

    /// Writes `{"method","params"}` as a client does (store says `ttl` = expiry - timestamp).
    pub fn encode_json(&self) -> Vec<u8> {
        encode::json(self).to_string().into_bytes()
    }

    /// Writes the bt parameters as the reference forwards them to swarm members (store says
    /// `expiry` and leaves out a namespace of 0; `required` is left out).
    pub fn encode_bt(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        encode::bt(self, &mut writer);
        writer.finish()
    }
}

/// How parameters were written, and so how the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// bt.
    Bt,
}

impl Encoding {
    /// That of a request's parameters, in which it is answered too: a bt dict begins with `d`.
    pub fn of(params: &[u8]) -> Self {
        match params {
            [b'd', ..] => Self::Bt,
            _ => Self::Json,
        }
    }
}
