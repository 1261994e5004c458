//! May he who asks? What every method checks before it runs.

use core::time::Duration;

use cepa_wire::answer::Answer;
use cepa_wire::request::Proof;
use cepa_wire::{Mailbox, SubaccountToken, Timestamp};

use super::{Local, Origin};
use crate::answers;
use crate::limits::{SIGNATURE_TOLERANCE, SIGNATURE_TOLERANCE_FORWARDED};

/// What is left to check once signatures are: whether the subaccount is revoked. The mailbox's log knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RevocationCheck {
    pub(super) mailbox: Mailbox,
    pub(super) token: SubaccountToken,
    /// The text of the 401.
    pub(super) refusal: &'static str,
}

/// What a request claims, and how it is refused.
pub(super) struct Claim<'a> {
    pub(super) mailbox: &'a Mailbox,
    pub(super) proof: &'a Proof,
    /// Rights that a subaccount needs; `None` when only the owner may ask.
    pub(super) rights: Option<u8>,
    /// The text of the 401.
    pub(super) refusal: &'static str,
}

/// Checks that a mailbox is this node's; else the answer that names the right swarm.
pub(super) fn check_swarm(mailbox: &Mailbox, local: Local<'_>) -> Result<u64, Answer> {
    match local.view.us() {
        Some(us) if local.view.is_ours(mailbox) => Ok(us.swarm_id),
        _ => Err(answers::swarm(local, mailbox, 421)),
    }
}

/// Checks the signatures; what is given back must be checked before the request runs.
pub(super) fn check_signature(
    claim: &Claim<'_>,
    text: impl AsRef<[u8]>,
    local: Local<'_>,
) -> Result<Option<RevocationCheck>, Answer> {
    let mut verifier = local.verifier.borrow_mut();
    let verified = match claim.rights {
        Some(rights) => verifier.verify(claim.mailbox, claim.proof, rights, text),
        None => verifier.verify_owner(claim.mailbox, claim.proof, text),
    };
    verified.map_err(|_| Answer::text(401, claim.refusal))?;
    Ok(claim.proof.subaccount.map(|subaccount| RevocationCheck {
        mailbox: *claim.mailbox,
        token: subaccount.token,
        refusal: claim.refusal,
    }))
}

/// Checks that a signature is not from another time; else 406 and `refusal`.
pub(super) fn check_time(
    signed_at: Timestamp,
    tolerance: Duration,
    refusal: &'static str,
    now: Timestamp,
) -> Result<(), Answer> {
    let earliest = now.saturating_sub(tolerance);
    let latest = now.saturating_add(tolerance);
    if signed_at < earliest || signed_at > latest {
        return Err(Answer::text(406, refusal));
    }
    Ok(())
}

/// How far a signature may be off: a forwarded request was on its way a little longer.
pub(super) const fn tolerance(origin: Origin) -> Duration {
    match origin {
        Origin::Client => SIGNATURE_TOLERANCE,
        Origin::Member => SIGNATURE_TOLERANCE_FORWARDED,
    }
}
