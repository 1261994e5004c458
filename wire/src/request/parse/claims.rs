//! Who asks: keys and signatures of a request. Read here, verified elsewhere.

use super::super::source::{Source, decode_base64};
use super::super::{Proof, RequestError, Subaccount};
use super::{Parsed, require};
use crate::{Ed25519PublicKey, Mailbox, Signature, SubaccountToken};

/// The fields that say who asks.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    ed25519: Option<&'a [u8]>,
    signature: Option<&'a [u8]>,
    subaccount: Option<&'a [u8]>,
    subaccount_sig: Option<&'a [u8]>,
}

impl<'a> Claims<'a> {
    /// Reads `signature`, `subaccount` and `subaccount_sig`, which stand together in the order of
    /// names; `pubkey_ed25519` stands apart.
    pub(super) fn read(params: Source<'a>, ed25519: Option<&'a [u8]>) -> Parsed<Self> {
        Ok(Self {
            ed25519,
            signature: params.text("signature")?,
            subaccount: params.text("subaccount")?,
            subaccount_sig: params.text("subaccount_sig")?,
        })
    }

    /// The same for a method that only the owner may use.
    pub(super) fn read_owner(params: Source<'a>, ed25519: Option<&'a [u8]>) -> Parsed<Self> {
        Ok(Self {
            ed25519,
            signature: params.text("signature")?,
            subaccount: None,
            subaccount_sig: None,
        })
    }

    pub(super) const fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Checks their form.
    pub(super) fn proof(&self, params: Source<'_>, mailbox: &Mailbox) -> Parsed<Proof> {
        let signature = require("signature", self.signature)?;
        let ed25519 = match self.ed25519 {
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
            signature: read_signature(params, signature, "signature")?,
            subaccount: self.subaccount(params)?,
        })
    }

    /// An empty subaccount is none.
    fn subaccount(&self, params: Source<'_>) -> Parsed<Option<Subaccount>> {
        let Some(token) = self.subaccount.filter(|token| !token.is_empty()) else {
            return Ok(None);
        };
        let signature = self.subaccount_sig.ok_or_else(|| {
            RequestError::invalid(
                "invalid subaccount: subaccount_sig is required when using subaccount",
            )
        })?;
        let token = read_token(params, token).ok_or_else(|| {
            RequestError::invalid(if params.is_json() {
                "invalid subaccount: expected base64 or hex-encoded subaccount token"
            } else {
                "invalid subaccount token: invalid token length"
            })
        })?;
        let what = if params.is_json() {
            "subaccount signature"
        } else {
            "signature"
        };
        let signature = read_signature(params, signature, what)?;
        Ok(Some(Subaccount { token, signature }))
    }
}

/// A token: 36 bytes in bt; their base64 or hex in JSON.
pub(super) fn read_token(params: Source<'_>, token: &[u8]) -> Option<SubaccountToken> {
    const BASE64_SIZE: usize = SubaccountToken::SIZE / 3 * 4;
    const HEX_SIZE: usize = SubaccountToken::SIZE * 2;
    match token.len() {
        SubaccountToken::SIZE if !params.is_json() => SubaccountToken::from_slice(token),
        BASE64_SIZE if params.is_json() => SubaccountToken::from_slice(&decode_base64(token)?),
        HEX_SIZE if params.is_json() => SubaccountToken::from_slice(&hex::decode(token).ok()?),
        _ => None,
    }
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

fn read_signature(params: Source<'_>, text: &[u8], what: &str) -> Parsed<Signature> {
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
            RequestError::invalid(format_args!(
                "invalid {what}: expected base64 encoded Ed25519 signature"
            ))
        })
}
