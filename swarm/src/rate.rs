//! How often one address may ask: a bucket of tokens for each, in a table of fixed size that all
//! threads of a node share.
//!
//! A prefix that the table does not know always gets a bucket, a full one: the fullest of its set gives
//! way, which is who asked least. So a flood of addresses makes the table forgetful, but never makes it
//! refuse somebody new; and whoever is over the limit is forgotten last.
//!
//! A bucket is one word, changed by compare-and-swap alone, so that nobody waits for anybody: when it
//! will be full again, and a fingerprint of whose it is. Both say less than the whole, which may be
//! seen in three ways, none of which refuses somebody new:
//! - Two prefixes of one set with one fingerprint (one pair of a million) share a bucket.
//! - Two threads that meet a prefix at once may each give it a bucket: it may have one burst too many.
//! - The time wraps around, after hundreds of years at the default rate. Who asked as long ago, to the
//!   second, may find the bucket as it was left.

use core::hash::Hasher as _;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cepa_wire::Timestamp;
use siphasher::sip::SipHasher13;

/// What one subscriber has: an IPv4 address, or the first half of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(u64);

impl Prefix {
    /// The prefix that an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 prefix that is given out begins with so many zeros.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

/// How much one prefix may ask of a node. More than [`RATE_MAX`] counts as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second, for ever.
    pub per_second: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

/// The largest rate and burst: more than a node serves.
pub const RATE_MAX: u32 = 1_000_000;

impl Default for RateLimit {
    /// 300 a second and 600 at once: what the reference grants a client, and a phone never needs. Many
    /// phones stand behind one address of a mobile network.
    fn default() -> Self {
        Self {
            per_second: 300,
            burst: 600,
        }
    }
}

/// Buckets of a set: those that one hash may lie in.
const WAY_COUNT: usize = 4;
/// Sets of a table: 65,536 prefixes are more than ask one node in the two seconds that a bucket takes to
/// fill, and 8 bytes each are 512 KiB.
const SET_COUNT: usize = 16_384;
const _: () = assert!(SET_COUNT.is_power_of_two());

/// Bits of a bucket that are a time; the others are the fingerprint.
const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Milliseconds in a second: a token has as many parts, of which a millisecond brings `per_second`,
/// before both are divided by what they have in common.
const MILLIS: u32 = 1000;
/// How far behind another's a thread's time may be, in milliseconds.
const LATENESS_MAX: u64 = 10_000;
// A bucket that is empty is never taken for one that wrapped around.
const _: () = assert!((LATENESS_MAX + MILLIS as u64) * (RATE_MAX as u64) < TIME_MASK / 2);

type Set = [AtomicU64; WAY_COUNT];

/// The buckets of all prefixes.
pub struct RateLimiter {
    limit: Option<Limit>,
    key: [u8; 16],
    sets: Box<[Set]>,
}

/// A limit in parts of tokens: whole numbers, so that nothing is ever rounded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Limit {
    /// Parts that a millisecond brings. Time is counted in them: it is the sum of what came.
    per_millisecond: u64,
    /// Parts of a token.
    token: u64,
    /// Parts of a full bucket.
    parts_max: u64,
}

impl Limit {
    fn new(limit: RateLimit) -> Option<Self> {
        let per_second = limit.per_second.min(RATE_MAX);
        let divisor = greatest_common_divisor(per_second, MILLIS);
        let token = u64::from(MILLIS.checked_div(divisor)?);
        (per_second > 0).then(|| Self {
            per_millisecond: u64::from(per_second / divisor),
            token,
            parts_max: u64::from(limit.burst.clamp(1, RATE_MAX)) * token,
        })
    }

    /// A moment, in parts.
    const fn time(self, now: Timestamp) -> u64 {
        now.as_millis().wrapping_mul(self.per_millisecond) & TIME_MASK
    }

    /// What a bucket lacks of being full: the parts that come until it is.
    const fn lacking(self, bucket: u64, time: u64) -> u64 {
        let lacking = bucket.wrapping_sub(time) & TIME_MASK;
        let late = LATENESS_MAX * self.per_millisecond;
        if lacking <= self.parts_max + late {
            lacking
        } else {
            // It was full before now.
            0
        }
    }
}

const fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

impl RateLimiter {
    /// A table in which every bucket is full. Without a limit, or with a rate of 0, it lets everybody
    /// through and holds no memory. `key` is secret and random: nobody may choose whom they share a set
    /// with.
    pub fn new(limit: Option<RateLimit>, key: [u8; 16]) -> Self {
        Self::with_sets(limit, key, SET_COUNT)
    }

    fn with_sets(limit: Option<RateLimit>, key: [u8; 16], set_count: usize) -> Self {
        let limit = limit.and_then(Limit::new);
        let set_count = if limit.is_some() { set_count } else { 0 };
        Self {
            limit,
            key,
            sets: (0..set_count).map(|_| Set::default()).collect(),
        }
    }

    /// Whether this is the limit of the table.
    pub fn has_limit(&self, limit: Option<RateLimit>) -> bool {
        self.limit == limit.and_then(Limit::new)
    }

    /// Takes a token; false when there is none: the request is over the limit. `now` is of a clock that
    /// all threads share, whatever its beginning.
    pub fn take(&self, prefix: Prefix, now: Timestamp) -> bool {
        let Some(limit) = self.limit else { return true };
        let time = limit.time(now);
        let (index, fingerprint) = self.place(prefix);
        let Some(set) = self.sets.get(index) else {
            return true;
        };
        // Whoever comes in between has got a token: somebody always does.
        loop {
            let (bucket, held) = find(set, fingerprint, |held| limit.lacking(held, time));
            let lacking = if held >> TIME_BITS == fingerprint {
                limit.lacking(held, time)
            } else {
                0
            };
            if lacking + limit.token > limit.parts_max {
                return false;
            }
            let full_at = time.wrapping_add(lacking + limit.token) & TIME_MASK;
            let taken = fingerprint << TIME_BITS | full_at;
            // A bucket is all that it tells of: no other memory hangs on its order.
            if bucket
                .compare_exchange_weak(held, taken, Relaxed, Relaxed)
                .is_ok()
            {
                return true;
            }
        }
    }

    /// The set of a prefix, and its fingerprint there, which is never 0.
    fn place(&self, prefix: Prefix) -> (usize, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(prefix.0);
        let hash = hasher.finish();
        let mask = self.sets.len().saturating_sub(1);
        let index = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default() & mask;
        (index, (hash >> TIME_BITS).max(1))
    }
}

/// The bucket with a fingerprint, or else the fullest, and what is in it.
fn find(set: &Set, fingerprint: u64, lacking: impl Fn(u64) -> u64) -> (&AtomicU64, u64) {
    let [first, ..] = set;
    let mut fullest = (first, first.load(Relaxed));
    for bucket in set {
        let held = bucket.load(Relaxed);
        if held >> TIME_BITS == fingerprint {
            return (bucket, held);
        }
        // One that nobody has is as full as can be.
        let is_free = held == 0;
        if fullest.1 != 0 && (is_free || lacking(held) < lacking(fullest.1)) {
            fullest = (bucket, held);
        }
    }
    fullest
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: RateLimit = RateLimit {
        per_second: 10,
        burst: 3,
    };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// How many of `count` requests at one moment are allowed.
    fn allowed(limiter: &RateLimiter, prefix: Prefix, now: u64, count: usize) -> usize {
        (0..count).filter(|_| limiter.take(prefix, at(now))).count()
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_at_its_rate() {
        let limiter = RateLimiter::new(Some(LIMIT), [1; 16]);
        assert_eq!(allowed(&limiter, Prefix(7), 5, 10), 3);
        assert_eq!(allowed(&limiter, Prefix(7), 104, 10), 0, "99 ms");
        assert_eq!(allowed(&limiter, Prefix(7), 105, 10), 1, "100 ms");
        assert_eq!(
            allowed(&limiter, Prefix(7), 1_000_000, 10),
            3,
            "no more than it holds"
        );
        assert_eq!(
            allowed(&limiter, Prefix(8), 105, 10),
            3,
            "another's is its own"
        );
        assert_eq!(
            allowed(&limiter, Prefix(0), 105, 10),
            3,
            "0.0.0.0 is one like others"
        );
        // A thread whose time is behind another's brings nothing and breaks nothing.
        assert_eq!(allowed(&limiter, Prefix(7), 995_000, 10), 0);
        assert_eq!(allowed(&limiter, Prefix(7), 1_000_100, 10), 1);
    }

    #[test]
    fn the_table_is_as_large_as_architecture_says() {
        assert_eq!(SET_COUNT * WAY_COUNT, 65_536);
        assert_eq!(SET_COUNT * size_of::<Set>(), 512 << 10);
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let none = RateLimit {
            per_second: 0,
            burst: 1,
        };
        for limit in [None, Some(none)] {
            let limiter = RateLimiter::new(limit, [1; 16]);
            assert_eq!(allowed(&limiter, Prefix(7), 0, 1000), 1000);
            assert!(limiter.sets.is_empty());
            assert!(limiter.has_limit(None) && !limiter.has_limit(Some(LIMIT)));
        }
    }

    #[test]
    fn prefixes_are_what_a_subscriber_has() {
        let v4 = Prefix::of(Ipv4Addr::new(192, 0, 2, 1).into());
        assert_ne!(v4, Prefix::of(Ipv4Addr::new(192, 0, 2, 2).into()));
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert_eq!(v4, Prefix::of(mapped.into()));
        let v6 = |text: &str| Prefix::of(text.parse::<Ipv6Addr>().unwrap().into());
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    }

    #[test]
    fn a_full_table_refuses_nobody_new_and_forgets_no_flood() {
        let limiter = RateLimiter::with_sets(Some(LIMIT), [1; 16], 1);
        assert_eq!(allowed(&limiter, Prefix(1), 0, 10), 3);
        for stranger in 100..200 {
            assert!(limiter.take(Prefix(stranger), at(0)), "{stranger}");
            assert!(!limiter.take(Prefix(1), at(0)), "the fullest gives way");
        }
        assert_eq!(limiter.sets.len(), 1);
    }

    #[test]
    fn the_time_that_wraps_around_grants_and_takes_nothing() {
        for per_second in [1, 7, 300, 1000, RATE_MAX - 1] {
            let limit = RateLimit {
                per_second,
                burst: 3,
            };
            let parts = Limit::new(limit).unwrap().per_millisecond;
            let wrap = (TIME_MASK + 1) / parts;
            let limiter = RateLimiter::new(Some(limit), [1; 16]);
            assert_eq!(allowed(&limiter, Prefix(7), wrap, 10), 3, "{per_second}");
            assert_eq!(allowed(&limiter, Prefix(7), wrap, 10), 0, "{per_second}");
            let later = wrap + 1 + 1000 / u64::from(per_second);
            assert!(limiter.take(Prefix(7), at(later)), "{per_second}");
            // Whoever comes back after half the way around finds a full bucket.
            assert_eq!(allowed(&limiter, Prefix(7), later + wrap / 2, 10), 3);
        }
    }

    #[test]
    fn more_than_the_largest_limit_is_the_largest() {
        let limit = RateLimit {
            per_second: u32::MAX,
            burst: u32::MAX,
        };
        let limiter = RateLimiter::new(Some(limit), [1; 16]);
        let granted = allowed(&limiter, Prefix(7), 5, 1_000_010);
        assert_eq!(granted, 1_000_000);
        assert_eq!(allowed(&limiter, Prefix(7), 6, 1010), 1000);
    }

    /// Runs `ask` on four threads that begin together; gives the sum of what it gives.
    fn on_threads(ask: impl Fn() -> usize + Sync) -> usize {
        const COUNT: usize = 4;
        let barrier = std::sync::Barrier::new(COUNT);
        std::thread::scope(|scope| {
            let asking = || {
                barrier.wait();
                ask()
            };
            let threads = [(); COUNT].map(|()| scope.spawn(asking));
            threads.map(|one| one.join().unwrap()).iter().sum()
        })
    }

    #[test]
    fn threads_share_one_bucket() {
        const SECONDS: u64 = 5;
        let limit = RateLimit {
            per_second: 1000,
            burst: 50,
        };
        for round in 0..20 {
            let limiter = RateLimiter::new(Some(limit), [round; 16]);
            // All at one moment: the burst, to the request.
            let granted = on_threads(|| allowed(&limiter, Prefix(7), 0, 100));
            assert_eq!(granted, 50);
            // Each at its own pace: what the time brings, and no more.
            let granted = on_threads(|| {
                let times = (0..=SECONDS * 1000).flat_map(|now| [now, now.saturating_sub(1)]);
                times
                    .filter(|now| limiter.take(Prefix(7), at(*now)))
                    .count()
            });
            assert_eq!(granted, 5000);
        }
    }

    #[test]
    fn threads_refuse_nobody_within_the_limit() {
        for _ in 0..20 {
            // A table that is too small for all of them forgets, and grants. With this key no two of
            // them look the same.
            let limiter = RateLimiter::with_sets(Some(LIMIT), [2; 16], 2);
            let next = AtomicU64::new(0);
            let granted = on_threads(|| {
                let prefixes = (0..100).map(|_| Prefix(next.fetch_add(1, Relaxed)));
                prefixes.map(|prefix| allowed(&limiter, prefix, 0, 3)).sum()
            });
            assert_eq!(granted, 4 * 100 * 3);
        }
    }

    /// A bucket for each prefix, for ever, in fractions.
    #[derive(Default)]
    struct Model(BTreeMap<u64, (f64, u64)>);

    impl Model {
        fn take(&mut self, limit: RateLimit, prefix: u64, now: u64) -> bool {
            let burst = f64::from(limit.burst);
            let (tokens, seen) = self.0.entry(prefix).or_insert((burst, now));
            let passed = f64::from(u32::try_from(now - *seen).unwrap());
            *tokens = (*tokens + passed * f64::from(limit.per_second) / 1000.0).min(burst);
            *seen = now;
            // Sums of decimal fractions: a token is a token a millionth before it.
            let is_allowed = *tokens > 1.0 - 1e-6;
            *tokens -= if is_allowed { 1.0 } else { 0.0 };
            is_allowed
        }
    }

    proptest! {
        #[test]
        fn nobody_within_the_limit_is_refused(
            per_second in 1_u32..2000,
            burst in 1_u32..20,
            set_count in (0_u32..4).prop_map(|power| 1_usize << power),
            asked in prop::collection::vec((0_u64..40, 0_u64..30), 1..400),
        ) {
            let limit = RateLimit { per_second, burst };
            let limiter = RateLimiter::with_sets(Some(limit), [3; 16], set_count);
            let (mut model, mut now) = (Model::default(), 0);
            let mut counts = BTreeMap::<u64, (u32, u32)>::new();
            for (prefix, pause) in asked {
                now += pause;
                let (granted, due) = counts.entry(prefix).or_default();
                *due += u32::from(model.take(limit, prefix, now));
                *granted += u32::from(limiter.take(Prefix(prefix), at(now)));
                // Whatever the table forgot, it forgot in favour of who asks: it may have granted early
                // what the model grants later, but never less.
                prop_assert!(granted >= due);
                prop_assert_eq!(limiter.sets.len(), set_count);
            }
        }

        #[test]
        fn whoever_is_over_the_limit_is_refused(
            per_second in 1_u32..2000,
            burst in 1_u32..20,
            asked in prop::collection::vec((0_u64..4, 0_u64..30), 1..400),
        ) {
            // As many prefixes as one set holds: nothing is forgotten.
            let limit = RateLimit { per_second, burst };
            let limiter = RateLimiter::with_sets(Some(limit), [3; 16], 1);
            let (mut model, mut now) = (Model::default(), 0);
            for (prefix, pause) in asked {
                now += pause;
                let expected = model.take(limit, prefix, now);
                prop_assert_eq!(limiter.take(Prefix(prefix), at(now)), expected);
            }
        }
    }
}
