//! From parameters to a request. The order of the checks is the reference's: it decides which of two
//! mistakes is told: first the types of all fields in the order of their names, then what is missing.

mod change;
mod claims;
mod meta;
mod subaccounts;

use core::time::Duration;

use bytes::Bytes;

use super::source::{Source, decode_base64};
use super::{
    ClientRequest, MESSAGE_SIZE_MAX, Network, OxendRequest, RequestError, Retrieve, Store,
};
use crate::{Mailbox, Namespace};
use claims::Claims;

/// The names of all methods.
pub(super) const METHODS: [&str; 19] = [
    "active_nodes_bin",
    "batch",
    "delete",
    "delete_all",
    "delete_before",
    "expire",
    "expire_all",
    "get_expiries",
    "get_snodes_for_pubkey",
    "get_swarm",
    "ifelse",
    "info",
    "oxend_request",
    "retrieve",
    "revoke_subaccount",
    "revoked_subaccounts",
    "sequence",
    "store",
    "unrevoke_subaccount",
];

type Parsed<T> = Result<T, RequestError>;

/// Reads the parameters of `method`; `None` when there is no such method.
pub(super) fn request(method: &str, params: Source<'_>) -> Option<Parsed<ClientRequest>> {
    Some(match method {
        "batch" => meta::batch(params).map(ClientRequest::Batch),
        "sequence" => meta::batch(params).map(ClientRequest::Sequence),
        "ifelse" => meta::ifelse(params).map(ClientRequest::IfElse),
        _ => return subrequest(method, params),
    })
}

fn subrequest(method: &str, params: Source<'_>) -> Option<Parsed<ClientRequest>> {
    Some(match method {
        "store" => store(params).map(ClientRequest::Store),
        "retrieve" => retrieve(params).map(ClientRequest::Retrieve),
        "delete" => change::delete(params).map(ClientRequest::Delete),
        "delete_all" => change::delete_all(params).map(ClientRequest::DeleteAll),
        "delete_before" => change::delete_before(params).map(ClientRequest::DeleteBefore),
        "expire" => change::expire(params).map(ClientRequest::Expire),
        "expire_all" => change::expire_all(params).map(ClientRequest::ExpireAll),
        "get_expiries" => change::get_expiries(params).map(ClientRequest::GetExpiries),
        "revoke_subaccount" => subaccounts::revoke(params).map(ClientRequest::RevokeSubaccount),
        "unrevoke_subaccount" => {
            subaccounts::unrevoke(params).map(ClientRequest::UnrevokeSubaccount)
        }
        "revoked_subaccounts" => {
            subaccounts::revoked(params).map(ClientRequest::RevokedSubaccounts)
        }
        "active_nodes_bin" => Ok(ClientRequest::ActiveNodes),
        "info" => Ok(ClientRequest::Info),
        "get_swarm" | "get_snodes_for_pubkey" => get_swarm(params).map(ClientRequest::GetSwarm),
        "oxend_request" => oxend(params).map(ClientRequest::Oxend),
        _ => return None,
    })
}

fn missing(name: &str) -> RequestError {
    RequestError::invalid(format_args!("Required field '{name}' missing"))
}

fn require<T>(name: &str, value: Option<T>) -> Parsed<T> {
    value.ok_or_else(|| missing(name))
}

/// The one of two names of a field that is given; giving both is an error.
fn one_of<T>(first: (&str, Option<T>), second: (&str, Option<T>)) -> Parsed<Option<T>> {
    match (first.1, second.1) {
        (Some(_), Some(_)) => Err(RequestError::invalid(format_args!(
            "Cannot specify both '{}' and '{}'",
            first.0, second.0
        ))),
        (first, second) => Ok(first.or(second)),
    }
}

/// `pubkey`, or `pubKey` as old clients write it.
fn either_pubkey(params: Source<'_>) -> Parsed<&[u8]> {
    let old = params.text("pubKey")?;
    let pubkey = params.text("pubkey")?;
    require("pubkey", one_of(("pubkey", pubkey), ("pubKey", old))?)
}

/// 33 bytes or their hex, in either encoding. On the testnet also the 32 of an account alone: the
/// prefix is then that of an account.
fn mailbox(params: Source<'_>, text: &[u8]) -> Parsed<Mailbox> {
    let has_bare_accounts = params.network() == Network::Testnet;
    let mailbox = match text.len() {
        33 => Mailbox::from_slice(text),
        32 if has_bare_accounts => text.try_into().ok().map(Mailbox::account),
        64 if has_bare_accounts => {
            let mut key = [0; 32];
            let decoded = hex::decode_to_slice(text, &mut key);
            decoded.ok().map(|()| Mailbox::account(key))
        }
        _ => Mailbox::from_hex(text),
    };
    mailbox.ok_or_else(|| RequestError::invalid("Pubkey must be 66 hex digits (33 bytes) long"))
}

fn store(params: Source<'_>) -> Parsed<Store> {
    let data = params.text("data")?;
    let expiry = params.timestamp("expiry")?;
    let namespace = params.namespace()?.unwrap_or_default();
    params.text("pubKey")?;
    params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let sig_timestamp = params.timestamp("sig_timestamp")?;
    let claims = Claims::read(params, ed25519)?;
    let timestamp = params.sent_at("timestamp")?;
    let ttl = params.unsigned("ttl")?;
    let timestamp = require("timestamp", timestamp)?;
    let after = ttl.map(|ttl| timestamp.saturating_add(Duration::from_millis(ttl)));
    let expiry = one_of(("expiry", expiry), ("ttl", after))?
        .ok_or_else(|| RequestError::invalid("Required field 'expiry' or 'ttl' missing"))?;
    let mailbox = mailbox(params, either_pubkey(params)?)?;
    let proof = if claims.is_signed() {
        Some(claims.proof(params, &mailbox)?)
    } else {
        None
    };
    let sig_timestamp = proof.map(|_| sig_timestamp.unwrap_or(timestamp));
    let data = message_data(params, require("data", data)?)?;
    Ok(Store {
        mailbox,
        namespace,
        timestamp,
        expiry,
        data,
        sig_timestamp,
        proof,
    })
}

fn message_data(params: Source<'_>, data: &[u8]) -> Parsed<Bytes> {
    let too_large = || {
        RequestError::invalid(format_args!(
            "Message body exceeds maximum allowed length of {MESSAGE_SIZE_MAX} bytes"
        ))
    };
    if !params.is_json() {
        let fits = data.len() <= MESSAGE_SIZE_MAX;
        return if fits {
            Ok(Bytes::copy_from_slice(data))
        } else {
            Err(too_large())
        };
    }
    // The largest size is divisible by three: its base64 needs no padding. The reference asks first
    // whether it is base64; we do not decode what is too long anyway.
    if data.len() > MESSAGE_SIZE_MAX / 3 * 4 {
        return Err(too_large());
    }
    decode_base64(data)
        .map(Bytes::from)
        .ok_or_else(|| RequestError::invalid("Invalid 'data' value: not base64 encoded"))
}

fn retrieve(params: Source<'_>) -> Parsed<Retrieve> {
    let old_last_hash = params.text("lastHash")?;
    let last_hash = params.text("last_hash")?;
    let max_count = params.integer("max_count")?;
    let max_size = params.integer("max_size")?;
    let given_namespace = params.namespace()?;
    params.text("pubKey")?;
    params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let pubkey = either_pubkey(params)?;
    let namespace = given_namespace.unwrap_or_default();
    let is_signed = ed25519.is_some()
        || claims.is_signed()
        || timestamp.is_some()
        || given_namespace.is_some_and(|namespace| !is_readable_by_all(namespace));
    let mailbox = mailbox(params, pubkey)?;
    let proof = if is_signed {
        let proof = claims.proof(params, &mailbox)?;
        // The reference goes wrong here in a way of its own; we say what is missing.
        require("timestamp", timestamp)?;
        Some(proof)
    } else {
        None
    };
    let last_hash = one_of(("last_hash", last_hash), ("lastHash", old_last_hash))?;
    Ok(Retrieve {
        mailbox,
        namespace,
        last_hash: last_hash
            .filter(|hash| !hash.is_empty())
            .map(read_last_hash)
            .transpose()?,
        max_count: max_count
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| *count > 0),
        max_size,
        timestamp,
        proof,
    })
}

const fn is_readable_by_all(namespace: Namespace) -> bool {
    namespace.is_public_outbox() || namespace.0 == -10
}

fn read_last_hash(text: &[u8]) -> Parsed<String> {
    if text.len() != change::HASH_TEXT_SIZE {
        return Err(RequestError::invalid(
            "Invalid last_hash: expected base64 (43 chars)",
        ));
    }
    change::hash_text(text).ok_or_else(|| RequestError::invalid("Invalid last_hash: not base64"))
}

fn get_swarm(params: Source<'_>) -> Parsed<Mailbox> {
    let text = either_pubkey(params)?;
    // The reference words it a little differently here.
    mailbox(params, text)
        .map_err(|_| RequestError::invalid("Pubkey must be 66 hex digits/33 bytes long"))
}

fn oxend(params: Source<'_>) -> Parsed<OxendRequest> {
    let endpoint = require("endpoint", params.text("endpoint")?)?;
    let endpoint = String::from_utf8_lossy(endpoint).into_owned();
    if !matches!(endpoint.as_str(), "get_service_nodes" | "ons_resolve") {
        return Err(RequestError::invalid(format_args!(
            "Invalid oxend endpoint '{endpoint}'"
        )));
    }
    let params = params.document("params")?.map(std::borrow::Cow::into_owned);
    Ok(OxendRequest {
        endpoint,
        params: params.unwrap_or(serde_json::Value::Null),
    })
}
