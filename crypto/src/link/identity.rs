//! Who we are on links.

use core::net::SocketAddr;

use blake3::derive_key;
use cepa_wire::X25519PublicKey;
use cepa_wire::packet::ClientId;
use cepa_wire::packet::geometry::split;
use zeroize::Zeroizing;

use super::cookie::{CookieJar, MacKey, MacProof};
use super::handshake::InitiationFrame;
use super::{COOKIE_FRAME_SIZE, HandshakeError, INITIATION_SIZE, KemSecretKey};
use crate::X25519SecretKey;

/// What the initiator of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRole {
    /// A node whose descriptor has the link key.
    Relay = 1,
    /// A client with a key that it made for this guard.
    Client = 2,
}

/// When an initiation was made: microseconds since the Unix epoch, always above the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// Our keys of links. Zeroized when dropped; never printed.
pub struct LinkIdentity {
    pub(super) secret: X25519SecretKey,
    pub(super) public: X25519PublicKey,
    pub(super) kem: Option<KemSecretKey>,
    pub(super) mac_key: MacKey,
    client_ids: Zeroizing<[u8; 32]>,
}

impl LinkIdentity {
    /// A relay with the keys that its descriptor has.
    pub fn relay(secret: X25519SecretKey, kem: KemSecretKey) -> Self {
        Self::new(secret, Some(kem))
    }

    /// A client with a key that it uses with one guard. It only opens links.
    pub fn client(secret: X25519SecretKey) -> Self {
        Self::new(secret, None)
    }

    fn new(secret: X25519SecretKey, kem: Option<KemSecretKey>) -> Self {
        let public = secret.public_key();
        let client_ids = derive_key("cepa link 1: client ids", secret.to_bytes().as_slice());
        Self {
            mac_key: MacKey::new(&public),
            client_ids: Zeroizing::new(client_ids),
            secret,
            public,
            kem,
        }
    }

    /// The link key.
    pub const fn public_key(&self) -> &X25519PublicKey {
        &self.public
    }

    /// What we are.
    pub const fn role(&self) -> LinkRole {
        if self.kem.is_some() {
            LinkRole::Relay
        } else {
            LinkRole::Client
        }
    }

    /// The id of the client with this key at this guard: the same as long as both keys are. Nobody else
    /// can tell which key it belongs to, and no client can choose one.
    pub fn client_id(&self, client: &X25519PublicKey) -> ClientId {
        let hash = blake3::keyed_hash(&self.client_ids, &client.0);
        ClientId(*split::<16, 16, 32>(hash.as_bytes()).0)
    }

    /// Looks at the mac of an initiation, before anything else. A hash.
    pub fn check_mac(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        jar: &CookieJar,
    ) -> Result<MacProof, HandshakeError> {
        let frame = InitiationFrame::parse(datagram)?;
        self.mac_key.prove(frame.signed, frame.mac, from, jar)
    }

    /// Writes the frame that asks the sender of an initiation to come again with a cookie; `nonce` is
    /// random.
    pub fn write_cookie(
        &self,
        datagram: &[u8; INITIATION_SIZE],
        from: SocketAddr,
        jar: &CookieJar,
        nonce: [u8; 32],
    ) -> [u8; COOKIE_FRAME_SIZE] {
        let frame = InitiationFrame::view(datagram);
        let cookie = jar.cookie(from);
        self.mac_key
            .write_cookie(&cookie, frame.sender_index, frame.mac, nonce)
    }
}
