//! Methods that refuse subaccounts, accept them again, or tell which are refused.

use super::super::source::Source;
use super::super::{REVOCATION_COUNT_MAX, RequestError, Revocation, RevokedSubaccounts};
use super::claims::{Claims, read_token};
use super::{Parsed, mailbox, require};
use crate::SubaccountToken;

pub(super) fn revoke(params: Source<'_>) -> Parsed<Revocation> {
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let tokens = params.texts("revoke")?;
    let claims = Claims::read_owner(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    let proof = claims.proof(params, &mailbox)?;
    let tokens = require("revoke", tokens)?;
    if tokens.len() > REVOCATION_COUNT_MAX {
        return Err(RequestError::invalid(format_args!(
            "invalid revoke: cannot revoke more than {REVOCATION_COUNT_MAX} subaccounts at once"
        )));
    }
    let tokens = read_tokens(params, tokens, "revoke")?;
    Ok(Revocation {
        mailbox,
        tokens,
        timestamp: require("timestamp", timestamp)?,
        proof,
    })
}

/// The reference takes any number here; more than it keeps can't be meant, but do no harm.
pub(super) fn unrevoke(params: Source<'_>) -> Parsed<Revocation> {
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read_owner(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let tokens = params.texts("unrevoke")?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    let proof = claims.proof(params, &mailbox)?;
    let timestamp = require("timestamp", timestamp)?;
    let tokens = read_tokens(params, require("unrevoke", tokens)?, "unrevoke")?;
    Ok(Revocation {
        mailbox,
        tokens,
        timestamp,
        proof,
    })
}

pub(super) fn revoked(params: Source<'_>) -> Parsed<RevokedSubaccounts> {
    let pubkey = params.text("pubkey")?;
    let ed25519 = params.text("pubkey_ed25519")?;
    let claims = Claims::read_owner(params, ed25519)?;
    let timestamp = params.timestamp("timestamp")?;
    let mailbox = mailbox(params, require("pubkey", pubkey)?)?;
    Ok(RevokedSubaccounts {
        mailbox,
        proof: claims.proof(params, &mailbox)?,
        timestamp: require("timestamp", timestamp)?,
    })
}

fn read_tokens(
    params: Source<'_>,
    tokens: Vec<&[u8]>,
    method: &str,
) -> Parsed<Vec<SubaccountToken>> {
    tokens
        .into_iter()
        .map(|token| {
            read_token(params, token).ok_or_else(|| {
                if params.is_json() {
                    RequestError::invalid(format_args!(
                        "invalid {method}: expected base64 or hex-encoded subaccount tag"
                    ))
                } else {
                    RequestError::invalid(format_args!(
                        "invalid {method} subaccount: invalid subaccount tag length"
                    ))
                }
            })
        })
        .collect()
}
