//! What may change while a node runs. The control plane writes it; shards read it, and nobody waits for
//! anybody: values behind atomics, and whole tables behind `ArcSwap`.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cepa_swarm::rate::RateLimiter;
use cepa_wire::X25519PublicKey;

use crate::subscribers::MonitorBound;
use crate::{NodeSettings, RateLimit, random};

/// The settings of a node that may change while it runs; each is the field of [`NodeSettings`] or of its
/// store that has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How often one address may ask. A change gives every address a full burst.
    pub rate_limit: Option<RateLimit>,
    /// CURVE keys of clients that may ask for statistics.
    pub stats_keys: Vec<X25519PublicKey>,
    /// Most subscriptions to new messages at a time; those that there are stay.
    pub monitor_count_max: usize,
    /// Accept aes-cbc onion layers.
    pub allow_aes_cbc: bool,
    /// How long what is running has to end when the node stops.
    pub stop_timeout: Duration,
    /// Bytes of one mailbox. What is stored stays.
    pub mailbox_size_max: u64,
    /// How long messages stay whose mailbox is no longer ours.
    pub foreign_grace: Duration,
}

impl Tuning {
    /// What a node starts with.
    pub(crate) fn of(settings: &NodeSettings) -> Self {
        Self {
            rate_limit: settings.rate_limit,
            stats_keys: settings.stats_keys.clone(),
            monitor_count_max: settings.monitor_count_max,
            allow_aes_cbc: settings.allow_aes_cbc,
            stop_timeout: settings.stop_timeout,
            mailbox_size_max: settings.store.mailbox_size_max,
            foreign_grace: settings.store.foreign_grace,
        }
    }
}

/// A [`Tuning`] as shards read it.
pub(crate) struct Live {
    pub(crate) rate: ArcSwap<RateLimiter>,
    pub(crate) stats_keys: ArcSwap<Vec<X25519PublicKey>>,
    pub(crate) monitor_bound: MonitorBound,
    allow_aes_cbc: AtomicBool,
    stop_timeout_millis: AtomicU64,
    mailbox_size_max: AtomicU64,
    foreign_grace_millis: AtomicU64,
}

impl Live {
    pub(crate) fn new(tuning: Tuning) -> Self {
        Self {
            rate: ArcSwap::from_pointee(RateLimiter::new(tuning.rate_limit, random::bytes())),
            stats_keys: ArcSwap::from_pointee(tuning.stats_keys),
            monitor_bound: MonitorBound::new(tuning.monitor_count_max),
            allow_aes_cbc: AtomicBool::new(tuning.allow_aes_cbc),
            stop_timeout_millis: AtomicU64::new(to_millis(tuning.stop_timeout)),
            mailbox_size_max: AtomicU64::new(tuning.mailbox_size_max),
            foreign_grace_millis: AtomicU64::new(to_millis(tuning.foreign_grace)),
        }
    }

    // Each value counts by itself: no other memory hangs on its order.

    pub(crate) fn allows_aes_cbc(&self) -> bool {
        self.allow_aes_cbc.load(Ordering::Relaxed)
    }

    pub(crate) fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.stop_timeout_millis.load(Ordering::Relaxed))
    }

    /// Bytes of one mailbox, and the grace of foreign ones.
    pub(crate) fn store_limits(&self) -> (u64, Duration) {
        let grace = self.foreign_grace_millis.load(Ordering::Relaxed);
        let size_max = self.mailbox_size_max.load(Ordering::Relaxed);
        (size_max, Duration::from_millis(grace))
    }
}

fn to_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Changes the settings of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Tuner(pub(crate) Arc<Live>);

impl Tuner {
    /// Puts new settings in place. A request that has begun may still see the old ones; shards take the
    /// limits of the store within a tick.
    pub fn set(&self, tuning: Tuning) {
        let live = &self.0;
        // A new table forgets who is over the limit: only when the limit is another.
        if !live.rate.load().has_limit(tuning.rate_limit) {
            let rate = RateLimiter::new(tuning.rate_limit, random::bytes());
            live.rate.store(Arc::new(rate));
        }
        live.stats_keys.store(Arc::new(tuning.stats_keys));
        live.monitor_bound.set_count_max(tuning.monitor_count_max);
        let set = |place: &AtomicU64, value| place.store(value, Ordering::Relaxed);
        live.allow_aes_cbc
            .store(tuning.allow_aes_cbc, Ordering::Relaxed);
        set(&live.stop_timeout_millis, to_millis(tuning.stop_timeout));
        set(&live.mailbox_size_max, tuning.mailbox_size_max);
        set(&live.foreign_grace_millis, to_millis(tuning.foreign_grace));
    }
}

#[cfg(test)]
mod tests {
    use cepa_swarm::rate::Prefix;
    use cepa_wire::Timestamp;

    use super::*;

    fn tuning() -> Tuning {
        Tuning {
            rate_limit: Some(RateLimit {
                per_second: 1,
                burst: 1,
            }),
            stats_keys: Vec::new(),
            monitor_count_max: 0,
            allow_aes_cbc: false,
            stop_timeout: Duration::from_secs(1),
            mailbox_size_max: 7,
            foreign_grace: Duration::from_secs(2),
        }
    }

    #[test]
    fn what_is_tuned_is_what_shards_read() {
        let tuner = Tuner(Arc::new(Live::new(tuning())));
        let live = &tuner.0;
        let take = || {
            let prefix = Prefix::of([192, 0, 2, 1].into());
            live.rate.load().take(prefix, Timestamp::from_millis(9))
        };
        assert!(take() && !take());
        assert!(!live.monitor_bound.has_room() && !live.allows_aes_cbc());
        let new = Tuning {
            stats_keys: vec![X25519PublicKey([7; 32])],
            monitor_count_max: 1,
            allow_aes_cbc: true,
            stop_timeout: Duration::from_millis(1500),
            mailbox_size_max: 8,
            foreign_grace: Duration::from_hours(3),
            ..tuning()
        };
        tuner.set(new.clone());
        assert!(!take(), "who is over a limit that did not change stays so");
        assert_eq!(**live.stats_keys.load(), new.stats_keys);
        assert!(live.monitor_bound.has_room() && live.allows_aes_cbc());
        assert_eq!(live.stop_timeout(), new.stop_timeout);
        assert_eq!(live.store_limits(), (8, new.foreign_grace));
        tuner.set(Tuning {
            rate_limit: None,
            ..new
        });
        assert!(take() && take());
    }
}
