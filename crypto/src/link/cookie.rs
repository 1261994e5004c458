//! What is checked before anything is computed: that a message's sender knows our key, and, under load,
//! that it gets what is sent to its address.

use core::net::{IpAddr, SocketAddr};

use blake3::{Hasher, derive_key, keyed_hash};
use cepa_wire::packet::geometry::{LINK_HEADER_SIZE, split, split_mut};
use cepa_wire::packet::link_frame::{FrameType, LinkHeader};
use cepa_wire::{Timestamp, X25519PublicKey};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{COOKIE_AGE_MAX, COOKIE_FRAME_SIZE, HandshakeError};

pub(super) const MAC_SIZE: usize = 16;
const NONCE_SIZE: usize = 32;
const SEALED_COOKIE_SIZE: usize = 32;

/// What a responder gives to an address. No secret of ours: whoever sent a message has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie([u8; MAC_SIZE]);

/// What a mac proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacProof {
    /// That its sender knows our key.
    Key,
    /// That its sender gets what is sent to its address, too.
    Address,
}

/// The key of the macs of all that is sent to whoever has a link key. Not secret.
pub(super) struct MacKey([u8; 32]);

impl MacKey {
    pub(super) fn new(receiver: &X25519PublicKey) -> Self {
        Self(derive_key("cepa link 1: mac key", &receiver.0))
    }

    /// The mac of a message, with a cookie when there is one.
    pub(super) fn mac(&self, message: &[u8], cookie: Option<&Cookie>) -> [u8; MAC_SIZE] {
        let digest = keyed_hash(&self.0, message);
        match cookie {
            None => first_half(digest.as_bytes()),
            Some(cookie) => with_cookie(digest.as_bytes(), cookie),
        }
    }

    /// Verifies a mac without cookies.
    pub(super) fn verify(
        &self,
        message: &[u8],
        mac: &[u8; MAC_SIZE],
    ) -> Result<(), HandshakeError> {
        let good = self.mac(message, None).ct_eq(mac);
        bool::from(good).then_some(()).ok_or(HandshakeError::BadMac)
    }

    /// Finds what a mac proves. Costs one hash over the message, and four short ones when it is not
    /// the mac without a cookie.
    pub(super) fn prove(
        &self,
        message: &[u8],
        mac: &[u8; MAC_SIZE],
        from: SocketAddr,
        jar: &CookieJar,
    ) -> Result<MacProof, HandshakeError> {
        let digest = keyed_hash(&self.0, message);
        if bool::from(first_half(digest.as_bytes()).ct_eq(mac)) {
            return Ok(MacProof::Key);
        }
        let is_mac = |cookie| bool::from(with_cookie(digest.as_bytes(), &cookie).ct_eq(mac));
        if jar.cookies(from).into_iter().any(is_mac) {
            Ok(MacProof::Address)
        } else {
            Err(HandshakeError::BadMac)
        }
    }

    /// A key that a cookie is sealed with once.
    fn cookie_key(&self, nonce: &[u8; NONCE_SIZE]) -> LessSafeKey {
        let mut hasher = Hasher::new_keyed(&self.0);
        hasher.update(b"cookie");
        hasher.update(nonce);
        let key = hasher.finalize();
        match UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()) {
            Ok(key) => LessSafeKey::new(key),
            Err(_) => unreachable!("32 bytes are a key"),
        }
    }

    /// Writes the frame that gives a cookie to whoever sent the message with this mac.
    pub(super) fn write_cookie(
        &self,
        cookie: &Cookie,
        receiver_index: u32,
        mac: &[u8; MAC_SIZE],
        nonce: [u8; NONCE_SIZE],
    ) -> [u8; COOKIE_FRAME_SIZE] {
        let mut frame = [0; COOKIE_FRAME_SIZE];
        let (head, rest) = split_mut::<LINK_HEADER_SIZE, 64, COOKIE_FRAME_SIZE>(&mut frame);
        *head = LinkHeader {
            frame_type: FrameType::Cookie,
            receiver_index,
            counter: 0,
        }
        .encode();
        let (nonce_room, sealed) = split_mut::<NONCE_SIZE, SEALED_COOKIE_SIZE, 64>(rest);
        *nonce_room = nonce;
        let (text, tag_room) = split_mut::<MAC_SIZE, 16, SEALED_COOKIE_SIZE>(sealed);
        *text = cookie.0;
        let key = self.cookie_key(&nonce);
        let tag = key.seal_in_place_separate_tag(once(), Aad::from(mac), text);
        if let Some(tag) = tag.ok().and_then(|tag| tag.as_ref().try_into().ok()) {
            *tag_room = tag;
        }
        frame
    }

    /// Reads the cookie of a frame that answers the message with this mac.
    pub(super) fn read_cookie(
        &self,
        frame: &[u8],
        mac: &[u8; MAC_SIZE],
    ) -> Result<Cookie, HandshakeError> {
        let frame: &[u8; COOKIE_FRAME_SIZE] = frame.try_into().map_err(|_| HandshakeError::Size)?;
        let (_, rest) = split::<LINK_HEADER_SIZE, 64, COOKIE_FRAME_SIZE>(frame);
        let (nonce, sealed) = split::<NONCE_SIZE, SEALED_COOKIE_SIZE, 64>(rest);
        let mut sealed = *sealed;
        let key = self.cookie_key(nonce);
        let opened = key.open_in_place(once(), Aad::from(mac), &mut sealed);
        let cookie = opened.ok().and_then(|opened| (&*opened).try_into().ok());
        cookie.map(Cookie).ok_or(HandshakeError::BadTag)
    }
}

/// The nonce of a key that is used once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn first_half(digest: &[u8; 32]) -> [u8; MAC_SIZE] {
    *split::<MAC_SIZE, 16, 32>(digest).0
}

fn with_cookie(digest: &[u8; 32], cookie: &Cookie) -> [u8; MAC_SIZE] {
    let mut key = [0; 32];
    *split_mut::<MAC_SIZE, 16, 32>(&mut key).0 = cookie.0;
    first_half(keyed_hash(&key, digest).as_bytes())
}

/// The secrets that cookies are made with: the present one, and the one before, for cookies under way. No
/// state for each address. Zeroized when dropped; never printed.
pub struct CookieJar {
    current: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
    born: Timestamp,
}

impl CookieJar {
    /// A jar with fresh secrets.
    pub fn new(now: Timestamp, random: [u8; 64]) -> Self {
        let (current, previous) = split::<32, 32, 64>(&random);
        Self {
            current: Zeroizing::new(*current),
            previous: Zeroizing::new(*previous),
            born: now,
        }
    }

    /// Whether [`Self::refresh`] is due: the secret is [`COOKIE_AGE_MAX`] old.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.saturating_since(self.born) >= COOKIE_AGE_MAX
    }

    /// A new secret.
    pub fn refresh(&mut self, now: Timestamp, random: [u8; 32]) {
        self.previous = core::mem::replace(&mut self.current, Zeroizing::new(random));
        self.born = now;
    }

    /// The cookie of an address.
    pub fn cookie(&self, address: SocketAddr) -> Cookie {
        cookie(&self.current, address)
    }

    fn cookies(&self, address: SocketAddr) -> [Cookie; 2] {
        [&self.current, &self.previous].map(|secret| cookie(secret, address))
    }
}

fn cookie(secret: &[u8; 32], address: SocketAddr) -> Cookie {
    let mut hasher = Hasher::new_keyed(secret);
    match address.ip() {
        IpAddr::V4(ip) => hasher.update(&ip.octets()),
        IpAddr::V6(ip) => hasher.update(&ip.octets()),
    };
    hasher.update(&address.port().to_le_bytes());
    Cookie(first_half(hasher.finalize().as_bytes()))
}
