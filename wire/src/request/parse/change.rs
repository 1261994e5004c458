//! Methods that delete messages, move their expiry, or tell it.

use super::super::source::{Source, decode_base64};
use super::super::{Delete, DeleteAll, DeleteBefore, Expire, ExpireAll, GetExpiries, RequestError};
use super::claims::Claims;
use super::{Parsed, mailbox, require};
use crate::{Direction, Namespace, Scope};

/// Characters of a message hash.
pub(super) const HASH_TEXT_SIZE: usize = 43;

/// A message hash as it is written.
pub(super) fn hash_text(text: &[u8]) -> Option<String> {
    let is_base64 = text.len() == HASH_TEXT_SIZE && decode_base64(text).is_some();
    core::str::from_utf8(text)
        .ok()
        .filter(|_| is_base64)
        .map(str::to_owned)
}

fn hash_texts(messages: Vec<&[u8]>) -> Parsed<Vec<String>> {
    messages
        .into_iter()
        .map(|hash| {
            hash_text(hash).ok_or_else(|| {
                let text = String::from_utf8_lossy(hash);
                RequestError::invalid(format_args!("invalid message hash: {text}"))
            })
        })
        .collect()
}

fn require_messages(messages: Option<Vec<&[u8]>>) -> Parsed<Vec<&[u8]>> {
    let messages = require("messages", messages)?;
    if messages.is_empty() {
        return Err(RequestError::invalid(
            "messages does not contain any message hashes",
        ));
    }
    Ok(messages)
}

const DEFAULT_SCOPE: Scope = Scope::One(Namespace::INBOX);

pub(super) fn delete(params: Source<'_>) -> Parsed<Delete> {
    let messages = params.texts("messages")?;
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let required = params.boolean("required")?.unwrap_or(false);
    let claims = Claims::read(params, ed25519)?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    let proof = claims.proof(params, &mailbox)?;
    let messages = hash_texts(require_messages(messages)?)?;
    Ok(Delete {
        mailbox,
        messages,
        required,
        proof,
    })
}

pub(super) fn delete_all(params: Source<'_>) -> Parsed<DeleteAll> {
    let scope = params.scope()?.unwrap_or(DEFAULT_SCOPE);
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    Ok(DeleteAll {
        mailbox,
        scope,
        proof: claims.proof(params, &mailbox)?,
        timestamp: require("timestamp", timestamp)?,
    })
}

pub(super) fn delete_before(params: Source<'_>) -> Parsed<DeleteBefore> {
    let before = params.timestamp("before")?;
    let scope = params.scope()?.unwrap_or(DEFAULT_SCOPE);
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read(params, ed25519)?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    Ok(DeleteBefore {
        mailbox,
        scope,
        proof: claims.proof(params, &mailbox)?,
        before: require("before", before)?,
    })
}

pub(super) fn expire_all(params: Source<'_>) -> Parsed<ExpireAll> {
    let expiry = params.timestamp("expiry")?;
    let scope = params.scope()?.unwrap_or(DEFAULT_SCOPE);
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read(params, ed25519)?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    Ok(ExpireAll {
        mailbox,
        scope,
        proof: claims.proof(params, &mailbox)?,
        expiry: require("expiry", expiry)?,
    })
}

pub(super) fn expire(params: Source<'_>) -> Parsed<Expire> {
    let expiries = params.timestamps("expiry")?;
    let extend = params.boolean("extend")?.unwrap_or(false);
    let messages = params.texts("messages")?;
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let shorten = params.boolean("shorten")?.unwrap_or(false);
    let claims = Claims::read(params, ed25519)?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    let proof = claims.proof(params, &mailbox)?;
    let expiries = require("expiry", expiries)?;
    if expiries.is_empty() {
        return Err(RequestError::invalid(
            "'expiry' does not contain any expiration timestamps",
        ));
    }
    let direction = match (shorten, extend) {
        (true, true) => {
            return Err(RequestError::invalid(
                "cannot specify both 'shorten' and 'extend'",
            ));
        }
        (true, false) => Direction::Shorten,
        (false, true) => Direction::Extend,
        (false, false) => Direction::Any,
    };
    let messages = require_messages(messages)?;
    if expiries.len() > 1 && expiries.len() != messages.len() {
        return Err(RequestError::invalid(
            "'expiry' must be a single expiry, or the same length as 'messages'",
        ));
    }
    Ok(Expire {
        mailbox,
        messages: hash_texts(messages)?,
        expiries,
        direction,
        proof,
    })
}

pub(super) fn get_expiries(params: Source<'_>) -> Parsed<GetExpiries> {
    let messages = params.texts("messages")?;
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    let proof = claims.proof(params, &mailbox)?;
    let timestamp = require("timestamp", timestamp)?;
    let messages = require_messages(messages)?
        .into_iter()
        .map(|hash| String::from_utf8_lossy(hash).into_owned())
        .collect();
    Ok(GetExpiries {
        mailbox,
        messages,
        timestamp,
        proof,
    })
}
