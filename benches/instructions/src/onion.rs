//! An onion of 2 KiB for the node that it comes to.

use cepa_crypto::onion_v2::wrap;
use cepa_crypto::{NodeKeys, X25519SecretKey};
use cepa_relay::PeerTable;
use cepa_relay::onion::{Hop, Step, handle_entry};
use cepa_wire::onion::{Control, EncType, Frame, LayerAddress};

/// The node, and what came.
pub struct Entry {
    keys: NodeKeys,
    peers: PeerTable,
    body: Vec<u8>,
}

impl Entry {
    /// An onion whose only layer is for the node itself.
    #[expect(clippy::expect_used, reason = "the keys are good")]
    pub fn new(enc_type: EncType) -> Self {
        let keys = NodeKeys::from_seed([7; 32]);
        let ephemeral = X25519SecretKey::from_bytes([3; 32]);
        let control = Control::Final {
            json: false,
            base64: true,
        };
        let plaintext = Frame {
            blob: &[7; 2048],
            control: &control.encode(),
        }
        .encode();
        let to = keys.x25519_public();
        let wrapped = wrap(&plaintext, enc_type, &to, &ephemeral, [4; 24]);
        let (blob, _) = wrapped.expect("a layer");
        let address = LayerAddress {
            ephemeral_key: ephemeral.public_key(),
            enc_type,
            hop_no: 0,
        };
        let body = Frame {
            blob: &blob,
            control: &address.encode(),
        }
        .encode();
        Self {
            keys,
            peers: PeerTable::new([]),
            body,
        }
    }

    /// Peels it.
    pub fn is_delivered(&self) -> bool {
        let hop = Hop {
            keys: &self.keys,
            peers: &self.peers,
            allow_aes_cbc: false,
        };
        matches!(handle_entry(hop, &self.body), Step::Deliver { .. })
    }
}
