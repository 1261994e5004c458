//! How often one address may ask: a bucket of tokens for each, in a table of fixed size.
//!
//! A prefix that the table does not know always gets a bucket, a full one: the fullest of its set gives
//! way, which is who asked least. So a flood of addresses makes the table forgetful, but never makes it
//! refuse somebody new; and whoever is over the limit is forgotten last.

use core::hash::Hasher as _;
use core::net::IpAddr;
use core::num::NonZeroU32;

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

/// How much one prefix may ask of one executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second, for ever.
    pub per_second: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

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
/// Sets of a table: 16,384 prefixes are more than ask one executor in the two seconds that a bucket
/// takes to fill, and 24 bytes each are 384 KiB.
const SET_COUNT: usize = 4096;
const _: () = assert!(SET_COUNT.is_power_of_two());

/// Parts of a token: a millisecond brings `per_second` of them.
const PARTS: u64 = 1000;

#[derive(Clone, Copy)]
struct Bucket {
    prefix: Prefix,
    /// What was in it when it was looked at last, in parts of tokens.
    parts: u64,
    looked_at: Timestamp,
}

/// The buckets of all prefixes.
pub struct RateLimiter {
    /// Parts that a millisecond brings; none: there is no limit.
    rate: Option<NonZeroU32>,
    parts_max: u64,
    key: [u8; 16],
    sets: Box<[[Bucket; WAY_COUNT]]>,
}

impl RateLimiter {
    /// A table in which every bucket is full. Without a limit, or with a rate of 0, it lets everybody
    /// through and holds no memory. `key` is secret and random: nobody may choose whom they share a set
    /// with.
    pub fn new(limit: Option<RateLimit>, key: [u8; 16]) -> Self {
        Self::with_sets(limit, key, SET_COUNT)
    }

    /// Bytes of memory that a table with a limit takes.
    pub const fn memory_size() -> usize {
        SET_COUNT * size_of::<[Bucket; WAY_COUNT]>()
    }

    fn with_sets(limit: Option<RateLimit>, key: [u8; 16], set_count: usize) -> Self {
        let rate = limit.and_then(|limit| NonZeroU32::new(limit.per_second));
        let parts_max = limit.map_or(0, |limit| u64::from(limit.burst.max(1)) * PARTS);
        let full = Bucket {
            prefix: Prefix(0),
            parts: parts_max,
            looked_at: Timestamp::from_millis(0),
        };
        let set_count = if rate.is_some() { set_count } else { 0 };
        Self {
            rate,
            parts_max,
            key,
            sets: vec![[full; WAY_COUNT]; set_count].into(),
        }
    }

    /// Takes a token; false when there is none: the request is over the limit. `now` is of a clock that
    /// does not go back, whatever its beginning.
    pub fn take(&mut self, prefix: Prefix, now: Timestamp) -> bool {
        let Some(rate) = self.rate else { return true };
        let parts_max = self.parts_max;
        let refill = |bucket: &Bucket| {
            let passed = now.saturating_since(bucket.looked_at).as_millis();
            let brought = u64::try_from(passed)
                .unwrap_or(u64::MAX)
                .saturating_mul(u64::from(rate.get()));
            bucket.parts.saturating_add(brought).min(parts_max)
        };
        let index = self.set_index(prefix);
        let Some(set) = self.sets.get_mut(index) else {
            return true;
        };
        let known = set.iter().position(|bucket| bucket.prefix == prefix);
        let (at, mut parts) = if let Some(at) = known {
            (at, refill(&set[at]))
        } else {
            let fullest = (0..WAY_COUNT).max_by_key(|at| refill(&set[*at]));
            (fullest.unwrap_or_default(), parts_max)
        };
        let is_allowed = parts >= PARTS;
        if is_allowed {
            parts -= PARTS;
        }
        set[at] = Bucket {
            prefix,
            parts,
            looked_at: now,
        };
        is_allowed
    }

    fn set_index(&self, prefix: Prefix) -> usize {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(prefix.0);
        let mask = self.sets.len().saturating_sub(1);
        usize::try_from(hasher.finish()).unwrap_or_default() & mask
    }
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
    fn allowed(limiter: &mut RateLimiter, prefix: Prefix, now: u64, count: usize) -> usize {
        (0..count).filter(|_| limiter.take(prefix, at(now))).count()
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_at_its_rate() {
        let mut limiter = RateLimiter::new(Some(LIMIT), [1; 16]);
        assert_eq!(allowed(&mut limiter, Prefix(7), 5, 10), 3);
        assert_eq!(allowed(&mut limiter, Prefix(7), 104, 10), 0, "99 ms");
        assert_eq!(allowed(&mut limiter, Prefix(7), 105, 10), 1, "100 ms");
        assert_eq!(
            allowed(&mut limiter, Prefix(7), 1_000_000, 10),
            3,
            "no more than it holds"
        );
        assert_eq!(
            allowed(&mut limiter, Prefix(8), 105, 10),
            3,
            "another's is its own"
        );
        assert_eq!(
            allowed(&mut limiter, Prefix(0), 105, 10),
            3,
            "0.0.0.0 is one like others"
        );
        // A clock that goes back brings nothing and breaks nothing.
        assert_eq!(allowed(&mut limiter, Prefix(7), 0, 10), 0);
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let none = RateLimit {
            per_second: 0,
            burst: 1,
        };
        for limit in [None, Some(none)] {
            let mut limiter = RateLimiter::new(limit, [1; 16]);
            assert_eq!(allowed(&mut limiter, Prefix(7), 0, 1000), 1000);
            assert!(limiter.sets.is_empty());
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
        let mut limiter = RateLimiter::with_sets(Some(LIMIT), [1; 16], 1);
        assert_eq!(allowed(&mut limiter, Prefix(1), 0, 10), 3);
        for stranger in 100..200 {
            assert!(limiter.take(Prefix(stranger), at(0)), "{stranger}");
            assert!(!limiter.take(Prefix(1), at(0)), "the fullest gives way");
        }
        assert_eq!(limiter.sets.len(), 1);
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
            let mut limiter = RateLimiter::with_sets(Some(limit), [3; 16], set_count);
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
            let mut limiter = RateLimiter::with_sets(Some(limit), [3; 16], 1);
            let (mut model, mut now) = (Model::default(), 0);
            for (prefix, pause) in asked {
                now += pause;
                let expected = model.take(limit, prefix, now);
                prop_assert_eq!(limiter.take(Prefix(prefix), at(now)), expected);
            }
        }
    }
}
