//! From parameters to a request. The order of the checks is the reference's: it decides which of two
//! mistakes is told.

use core::time::Duration;

use bytes::Bytes;

use super::source::{Source, decode_base64};
use super::{
    ClientRequest, Delete, MESSAGE_SIZE_MAX, OxendRequest, Proof, RequestError, Retrieve, Store,
};
use crate::{Ed25519PublicKey, Mailbox, Namespace, Signature};

/// The names of all methods.
pub(super) const METHODS: [&str; 9] = [
    "batch",
    "delete",
    "get_snodes_for_pubkey",
    "get_swarm",
    "info",
    "oxend_request",
    "retrieve",
    "sequence",
    "store",
];

type Parsed<T> = Result<T, RequestError>;

/// Reads the parameters of `method`; `None` when there is no such method.
pub(super) fn request(method: &str, params: Source<'_>) -> Option<Parsed<ClientRequest>> {
    Some(match method {
        "batch" => batch(params).map(ClientRequest::Batch),
        "sequence" => batch(params).map(ClientRequest::Sequence),
        _ => return subrequest(method, params),
    })
}

fn subrequest(method: &str, params: Source<'_>) -> Option<Parsed<ClientRequest>> {
    Some(match method {
        "store" => store(params).map(ClientRequest::Store),
        "retrieve" => retrieve(params).map(ClientRequest::Retrieve),
        "delete" => delete(params).map(ClientRequest::Delete),
        "info" => Ok(ClientRequest::Info),
        "get_swarm" | "get_snodes_for_pubkey" => get_swarm(params).map(ClientRequest::GetSwarm),
        "oxend_request" => oxend(params).map(ClientRequest::Oxend),
        _ => return None,
    })
}

fn batch(params: Source<'_>) -> Parsed<Vec<ClientRequest>> {
    params.subrequests(|method, params| {
        // The method is known: what is no subrequest is a batch or a sequence.
        subrequest(method, params).unwrap_or_else(|| {
            Err(RequestError::invalid(
                "Invalid batch subrequest: subrequests may not contain meta-requests",
            ))
        })
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

fn mailbox(text: &[u8]) -> Parsed<Mailbox> {
    let mailbox = if text.len() == 33 {
        Mailbox::from_slice(text)
    } else {
        Mailbox::from_hex(text)
    };
    mailbox.ok_or_else(|| RequestError::invalid("Pubkey must be 66 hex digits (33 bytes) long"))
}

fn proof(
    params: Source<'_>,
    mailbox: &Mailbox,
    ed25519: Option<&[u8]>,
    signature: Option<&[u8]>,
) -> Parsed<Proof> {
    let signature = require("signature", signature)?;
    let ed25519 = match ed25519 {
        None => None,
        Some(_) if mailbox.prefix != Mailbox::ACCOUNT => {
            return Err(RequestError::invalid(
                "pubkey_ed25519 is only permitted for 05[...] pubkeys",
            ));
        }
        Some(key) => Some(ed25519_key(key)?),
    };
    Ok(Proof {
        ed25519,
        signature: read_signature(params, signature)?,
    })
}

fn ed25519_key(key: &[u8]) -> Parsed<Ed25519PublicKey> {
    match key.len() {
        64 => Ed25519PublicKey::from_hex(key)
            .ok_or_else(|| RequestError::invalid("invalid pubkey_ed25519: value is not hex")),
        32 => Ok(Ed25519PublicKey::from_slice(key).unwrap_or(Ed25519PublicKey([0; 32]))),
        _ => Err(RequestError::invalid(
            "Invalid pubkey_ed25519: expected 64 hex char or 32 byte pubkey",
        )),
    }
}

fn read_signature(params: Source<'_>, text: &[u8]) -> Parsed<Signature> {
    if !params.is_json() {
        return Signature::from_slice(text).ok_or_else(|| {
            RequestError::invalid("invalid signature: expected 64-byte Ed25519 signature")
        });
    }
    let sized = text.len() == 86 || text.len() == 88 && text.ends_with(b"==");
    decode_base64(text)
        .filter(|_| sized)
        .and_then(|bytes| Signature::from_slice(&bytes))
        .ok_or_else(|| {
            RequestError::invalid("invalid signature: expected base64 encoded Ed25519 signature")
        })
}

fn store(params: Source<'_>) -> Parsed<Store> {
    let data = params.text("data")?;
    let expiry = params.timestamp("expiry")?;
    let namespace = params.namespace()?.unwrap_or_default();
    params.text("pubKey")?;
    params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let sig_timestamp = params.timestamp("sig_timestamp")?;
    let signature = params.text("signature")?;
    let timestamp = params.sent_at("timestamp")?;
    let ttl = params.unsigned("ttl")?;
    let timestamp = require("timestamp", timestamp)?;
    let after = ttl.map(|ttl| timestamp.saturating_add(Duration::from_millis(ttl)));
    let expiry = one_of(("expiry", expiry), ("ttl", after))?
        .ok_or_else(|| RequestError::invalid("Required field 'expiry' or 'ttl' missing"))?;
    let mailbox = mailbox(either_pubkey(params)?)?;
    let proof = match signature {
        None => None,
        Some(_) => Some(proof(params, &mailbox, ed25519, signature)?),
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
    let signature = params.text("signature")?;
    let timestamp = params.timestamp("timestamp")?;
    let pubkey = either_pubkey(params)?;
    let namespace = given_namespace.unwrap_or_default();
    let is_signed = ed25519.is_some()
        || signature.is_some()
        || timestamp.is_some()
        || given_namespace.is_some_and(|namespace| !is_readable_by_all(namespace));
    let mailbox = mailbox(pubkey)?;
    let proof = if is_signed {
        let proof = proof(params, &mailbox, ed25519, signature)?;
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
    if text.len() != HASH_TEXT_SIZE {
        return Err(RequestError::invalid(
            "Invalid last_hash: expected base64 (43 chars)",
        ));
    }
    hash_text(text).ok_or_else(|| RequestError::invalid("Invalid last_hash: not base64"))
}

/// Characters of a message hash.
const HASH_TEXT_SIZE: usize = 43;

fn hash_text(text: &[u8]) -> Option<String> {
    let is_base64 = text.len() == HASH_TEXT_SIZE && decode_base64(text).is_some();
    core::str::from_utf8(text)
        .ok()
        .filter(|_| is_base64)
        .map(str::to_owned)
}

fn delete(params: Source<'_>) -> Parsed<Delete> {
    let messages = params.texts("messages")?;
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let required = params.boolean("required")?.unwrap_or(false);
    let signature = params.text("signature")?;
    let mailbox = mailbox(require("pubkey", pubkey)?)?;
    let proof = proof(params, &mailbox, ed25519, signature)?;
    let messages = require("messages", messages)?;
    if messages.is_empty() {
        return Err(RequestError::invalid(
            "messages does not contain any message hashes",
        ));
    }
    let messages = messages
        .into_iter()
        .map(|hash| {
            hash_text(hash).ok_or_else(|| {
                let text = String::from_utf8_lossy(hash);
                RequestError::invalid(format_args!("invalid message hash: {text}"))
            })
        })
        .collect::<Parsed<_>>()?;
    Ok(Delete {
        mailbox,
        messages,
        required,
        proof,
    })
}

fn get_swarm(params: Source<'_>) -> Parsed<Mailbox> {
    let text = either_pubkey(params)?;
    // The reference words it a little differently here.
    mailbox(text).map_err(|_| RequestError::invalid("Pubkey must be 66 hex digits/33 bytes long"))
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
