//! Our hop keys over time, and the descriptor that tells of them.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cepa_crypto::Ed25519SecretKey;
use cepa_crypto::packet::{HopKeys, relay_id, sign_descriptor};
use cepa_wire::packet::descriptor::{Descriptor, KEM_KEY_SIZE, Ports};
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::{Ed25519PublicKey, Timestamp, X25519PublicKey};
use zeroize::Zeroizing;

/// A descriptor is signed anew after so long at the latest, though nothing changed: its time tells others
/// that the node still stands by it.
const SIGN_INTERVAL: Duration = Duration::from_hours(1);
/// A key is taken for so much of an epoch before and after it, as the epoch's length divided by this: an
/// hour of a day.
const GRACE_DIVISOR: u32 = 24;
/// And for at least so long: packets are on their way for a second or some, with delays for a minute.
const GRACE_MIN: Duration = Duration::from_secs(70);

/// What stays the same of a node in the packet lane.
pub struct LaneIdentity {
    /// The key that signs.
    pub ed25519: Ed25519SecretKey,
    /// The key of the request lane.
    pub x25519: X25519PublicKey,
    /// The static key of links.
    pub link: X25519PublicKey,
    /// The ML-KEM-768 key of links.
    pub kem: Box<[u8; KEM_KEY_SIZE]>,
    /// Where the node listens.
    pub ports: Ports,
}

/// Our hop keys and our descriptor. Time and address are arguments; randomness is drawn by `getrandom`, for
/// hop keys alone.
pub struct OwnLane {
    identity: LaneIdentity,
    length: EpochLength,
    /// What is published is a copy of this.
    hop_keys: HopKeys,
    published: Arc<ArcSwap<HopKeys>>,
    signed: Option<Signed>,
}

struct Signed {
    at: Timestamp,
    address: Ipv4Addr,
    bytes: Bytes,
}

impl OwnLane {
    /// Draws the first keys. There is no descriptor yet.
    pub fn new(
        identity: LaneIdentity,
        length: EpochLength,
        now: Timestamp,
    ) -> Result<Self, getrandom::Error> {
        let hop_keys = first_keys(&identity, length, now)?;
        Ok(Self {
            identity,
            length,
            published: Arc::new(ArcSwap::from_pointee(hop_keys.clone())),
            hop_keys,
            signed: None,
        })
    }

    /// The key that names us.
    pub fn key(&self) -> Ed25519PublicKey {
        self.identity.ed25519.public_key()
    }

    /// The keys, as they are at any time.
    pub fn hop_keys(&self) -> Arc<ArcSwap<HopKeys>> {
        Arc::clone(&self.published)
    }

    /// The descriptor, signed; `None` while the network knows no address of us.
    pub fn descriptor(&self) -> Option<&Bytes> {
        self.signed.as_ref().map(|signed| &signed.bytes)
    }

    /// When [`Self::poll`] is due.
    pub fn poll_timeout(&self) -> Timestamp {
        let keys = self.hop_keys.poll_timeout();
        let sign = self.signed.as_ref().map(|signed| due(signed.at));
        sign.map_or(keys, |sign| sign.min(keys))
    }

    /// Changes keys whose time has come, and signs a new descriptor when they, the address that the network
    /// knows us by, or an hour have changed. Tells whether there is a new one. Without randomness nothing
    /// changes.
    pub fn poll(
        &mut self,
        now: Timestamp,
        address: Option<Ipv4Addr>,
    ) -> Result<bool, getrandom::Error> {
        let mut keys_changed = false;
        if self.hop_keys.epoch() > self.length.epoch_at(now).next() {
            // The clock was ahead and was set right: nobody takes keys of a time to come, so we begin anew.
            self.hop_keys = first_keys(&self.identity, self.length, now)?;
            self.published.store(Arc::new(self.hop_keys.clone()));
            keys_changed = true;
        }
        if now >= self.hop_keys.poll_timeout() {
            keys_changed |= self.hop_keys.handle_timeout(now, draw()?);
            self.published.store(Arc::new(self.hop_keys.clone()));
        }
        let known = self.signed.as_ref().map(|signed| signed.address);
        let Some(address) = address.or(known) else {
            return Ok(false);
        };
        let is_good = self
            .signed
            .as_ref()
            .is_some_and(|signed| signed.address == address && now < due(signed.at));
        if is_good && !keys_changed {
            return Ok(false);
        }
        self.signed = Some(Signed {
            at: now,
            address,
            bytes: self.sign(now, address),
        });
        Ok(true)
    }

    fn sign(&self, now: Timestamp, address: Ipv4Addr) -> Bytes {
        let identity = &self.identity;
        let descriptor = Descriptor {
            ed25519: self.key(),
            x25519: identity.x25519,
            link: identity.link,
            kem: identity.kem.clone(),
            addresses: vec![address.into()],
            ports: identity.ports,
            hop_keys: self.hop_keys.published(),
            features: Vec::new(),
            published: now,
        };
        sign_descriptor(descriptor, &identity.ed25519)
            .encode()
            .into()
    }
}

fn first_keys(
    identity: &LaneIdentity,
    length: EpochLength,
    now: Timestamp,
) -> Result<HopKeys, getrandom::Error> {
    let relay = relay_id(&identity.ed25519.public_key());
    let grace = (length.as_duration() / GRACE_DIVISOR).max(GRACE_MIN);
    Ok(HopKeys::new(relay, length, grace, now, draw()?))
}

fn due(signed_at: Timestamp) -> Timestamp {
    signed_at.saturating_add(SIGN_INTERVAL)
}

/// Two secrets, as many as a change of epochs may need.
fn draw() -> Result<impl FnMut() -> [u8; 32], getrandom::Error> {
    let mut secrets = [Zeroizing::new([0; 32]), Zeroizing::new([0; 32])];
    for secret in &mut secrets {
        getrandom::fill(secret.as_mut_slice())?;
    }
    let mut secrets = secrets.into_iter();
    Ok(move || {
        let secret = secrets.next();
        assert!(secret.is_some(), "two keys are made at most");
        secret.map_or([0; 32], |secret| *secret)
    })
}

#[cfg(test)]
mod tests {
    use cepa_crypto::NodeKeys;
    use cepa_crypto::packet::verify_descriptor;
    use cepa_wire::packet::epoch::Epoch;

    use super::*;

    const EPOCH: EpochLength = EpochLength::from_secs(7200).unwrap();
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(7_200_000 * 100 + seconds * 1000)
    }

    fn lane() -> OwnLane {
        let keys = NodeKeys::from_seed([7; 32]);
        let identity = LaneIdentity {
            ed25519: keys.ed25519().clone(),
            x25519: keys.x25519_public(),
            link: X25519PublicKey([3; 32]),
            kem: Box::new([4; KEM_KEY_SIZE]),
            ports: Ports {
                packet: 9,
                ..Ports::default()
            },
        };
        OwnLane::new(identity, EPOCH, at(0)).unwrap()
    }

    fn shown(lane: &OwnLane) -> Descriptor {
        verify_descriptor(lane.descriptor().unwrap()).unwrap()
    }

    #[test]
    fn a_descriptor_is_signed_when_something_changed_or_an_hour_is_over() {
        let mut lane = lane();
        assert_eq!(lane.poll(at(0), None), Ok(false));
        assert!(lane.descriptor().is_none(), "nobody could reach us");
        assert_eq!(lane.poll(at(1), Some(ADDRESS)), Ok(true));
        let first = shown(&lane);
        assert_eq!(first.addresses, [core::net::IpAddr::from(ADDRESS)]);
        assert_eq!((first.published, first.hop_keys.epoch), (at(1), Epoch(100)));
        assert_eq!(lane.poll(at(3600), Some(ADDRESS)), Ok(false));
        assert_eq!(lane.poll_timeout(), at(3601));
        assert_eq!(lane.poll(at(3601), None), Ok(true), "an hour");
        assert_eq!(shown(&lane).hop_keys, first.hop_keys);
        let other = Ipv4Addr::new(203, 0, 113, 8);
        assert_eq!(lane.poll(at(3602), Some(other)), Ok(true), "moved");
        assert_eq!(lane.poll_timeout(), at(7200));
        assert_eq!(lane.poll(at(7200), Some(other)), Ok(true), "an epoch");
        let next = shown(&lane).hop_keys;
        assert_eq!(
            (next.epoch, next.current),
            (Epoch(101), first.hop_keys.next)
        );
    }

    #[test]
    fn a_clock_that_was_days_ahead_leaves_keys_for_now() {
        let mut lane = lane();
        lane.poll(at(1), Some(ADDRESS)).unwrap();
        let before = shown(&lane).hop_keys;
        lane.poll(at(10 * 7200), Some(ADDRESS)).unwrap();
        assert_eq!(shown(&lane).hop_keys.epoch, Epoch(110));
        assert_eq!(lane.poll(at(2), Some(ADDRESS)), Ok(true));
        let after = shown(&lane).hop_keys;
        assert_eq!((after.epoch, shown(&lane).published), (Epoch(100), at(2)));
        assert_ne!(after.current, before.current, "those were erased");
        assert_eq!(lane.hop_keys().load().usable(at(2)).count(), 1);
        assert_eq!(lane.poll(at(3), Some(ADDRESS)), Ok(false));
    }

    #[test]
    fn the_tiles_see_new_keys_and_the_old_ones_go() {
        let mut lane = lane();
        let keys = lane.hop_keys();
        let first = keys.load_full();
        assert_eq!(first.published(), lane.hop_keys.published());
        assert_eq!(lane.poll(at(7199), None), Ok(false));
        assert!(Arc::ptr_eq(&first, &keys.load_full()));
        assert_eq!(lane.poll(at(7200), None), Ok(false));
        assert_eq!(keys.load().published().epoch, Epoch(101));
        assert_eq!(keys.load().usable(at(7200)).count(), 2, "the grace period");
        // An hour is more than a 24th of two.
        assert_eq!(lane.poll_timeout(), at(7200 + 300));
        assert_eq!(lane.poll(at(7500), None), Ok(false));
        assert_eq!(keys.load().usable(at(7500)).count(), 1);
        drop(first);
    }
}
