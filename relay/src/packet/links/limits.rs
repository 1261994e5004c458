//! What handshakes strangers get: how many a second from all, and from one address that has shown itself.

use core::hash::{BuildHasher as _, Hasher as _};
use core::net::{IpAddr, SocketAddr};

use cepa_crypto::link::MacProof;
use cepa_wire::Timestamp;

use super::directory::Keyed;
use crate::packet::bucket::{PacketRate, TokenBucket};

/// Buckets for prefixes. Two prefixes may share one: the secret key of the hash says which, and a thousand
/// are enough that this is rare among those that come in the same second.
const PREFIX_BUCKET_COUNT: usize = 1024;

/// Handshakes of one prefix: a household's clients, and those of a restarted node.
const PREFIX_RATE: PacketRate = PacketRate {
    per_second: 10,
    burst: 20,
};

/// With a cookie, so many times the handshakes are computed: what is left then is honest, or has addresses
/// in great number.
const COOKIE_FACTOR: u32 = 4;

/// What becomes of an initiation before anything is computed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Compute,
    AskForCookie,
    Refuse,
}

pub(super) struct HandshakeLimits {
    all: TokenBucket,
    with_cookie: TokenBucket,
    prefixes: Box<[TokenBucket]>,
}

impl HandshakeLimits {
    pub(super) fn new(rate: PacketRate, now: Timestamp) -> Self {
        let more = PacketRate {
            per_second: rate.per_second.saturating_mul(COOKIE_FACTOR),
            burst: rate.burst.saturating_mul(COOKIE_FACTOR),
        };
        Self {
            all: TokenBucket::new(rate, now),
            with_cookie: TokenBucket::new(more, now),
            prefixes: vec![TokenBucket::new(PREFIX_RATE, now); PREFIX_BUCKET_COUNT].into(),
        }
    }

    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        proof: MacProof,
        from: SocketAddr,
        keyed: &Keyed,
    ) -> Verdict {
        if proof == MacProof::Key {
            return if self.all.take(now) {
                Verdict::Compute
            } else {
                Verdict::AskForCookie
            };
        }
        let mut hasher = keyed.build_hasher();
        match from.ip() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write_u128(ip.to_bits() >> 64),
        }
        let at = usize::try_from(hasher.finish() % PREFIX_BUCKET_COUNT as u64).unwrap_or_default();
        let of_prefix = self.prefixes.get_mut(at).is_some_and(|it| it.take(now));
        if of_prefix && (self.all.take(now) || self.with_cookie.take(now)) {
            Verdict::Compute
        } else {
            Verdict::Refuse
        }
    }
}
