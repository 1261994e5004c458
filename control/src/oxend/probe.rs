//! A look at oxend by who is no node: what it tells, and nothing that it is told.

use bytes::Bytes;
use cepa_crypto::NodeKeys;
use cepa_wire::oxend::Listing;

use super::keys::{ask_once, fetch_once};
use super::{OxendAddress, OxendView};

/// What oxend told who asked once; each error says why it told nothing.
pub struct OxendProbe {
    /// The keys of the node beside it.
    pub keys: Result<NodeKeys, String>,
    /// The network.
    pub view: Result<OxendView, String>,
}

/// Asks oxend for what a node asks it for at its start, once each, over connections that end then: oxend
/// is not told that a node lives, as [`super::OxendClient`] does. The error says why it can't be reached.
/// Takes at most some 50 s, if it is silent.
pub async fn probe(address: &OxendAddress) -> Result<OxendProbe, String> {
    let query = Bytes::from(Listing::query(None).to_string());
    let listed = ask_once(address, "rpc.get_service_nodes", Some(query)).await;
    let keys = fetch_once(address).await;
    if let (Err(fault), Err(_)) = (&listed, &keys) {
        return Err(fault.clone());
    }
    let view = listed.and_then(|body| match Listing::parse(&body)? {
        Listing::View(view) => Ok(view),
        Listing::Unchanged => Err("it tells no list of nodes".to_owned()),
    });
    Ok(OxendProbe { keys, view })
}
