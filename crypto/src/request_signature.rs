//! What clients and nodes sign (`../shared/protocol/session-client.md`, sections 3.1 and 3.3).

mod answers;
mod requests;
mod verifier;

pub use answers::{
    affected_answer_text, delete_answer_text, expire_answer_text, revocation_answer_text,
};
pub use requests::{
    delete_all_text, delete_before_text, delete_text, expire_all_text, expire_text,
    get_expiries_text, retrieve_text, revocation_text, revoked_subaccounts_text, store_text,
};
pub use verifier::Verifier;

use cepa_wire::{Namespace, Scope};

/// A namespace in signed texts and hashes: 0 is left out.
pub(crate) fn namespace_text(namespace: Namespace) -> String {
    if namespace == Namespace::INBOX {
        String::new()
    } else {
        namespace.0.to_string()
    }
}

fn scope_text(scope: Scope) -> String {
    match scope {
        Scope::All => "all".to_owned(),
        Scope::One(namespace) => namespace_text(namespace),
    }
}
