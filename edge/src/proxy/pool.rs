//! Connections to servers that may be used again, and how many requests are under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cepa_wire::host::Host;
use core::time::Duration;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

/// What a request is written to.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Idle connections kept, all servers together: each is a file and some 10 KiB, with TLS 40.
const IDLE_COUNT_MAX: usize = 256;
/// Idle connections kept to one server: the file server takes most requests.
const IDLE_PER_ORIGIN_MAX: usize = 32;
/// How long an idle connection is used again: below what servers wait before they close one (nginx
/// 75 s, uWSGI and others 15 s and more), since a request that meets a close can't be sent again.
const IDLE_AGE_MAX: Duration = Duration::from_secs(12);

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) is_https: bool,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Origin {
    /// As a `Host` header has it: the port only where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        let host = self.host.to_text();
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// The table of both. Bounded by the number of requests under way and [`IDLE_COUNT_MAX`].
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: BTreeMap<Origin, VecDeque<(Sender, Instant)>>,
    under_way: BTreeMap<Origin, usize>,
    under_way_count: usize,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked in here left whole entries.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request; `None` when too many are under way, in all or to this server.
    pub(super) fn begin(
        self: &Arc<Self>,
        origin: &Origin,
        max: usize,
        per_origin_max: usize,
    ) -> Option<UnderWay> {
        let mut state = self.state();
        if state.under_way_count >= max {
            return None;
        }
        let count = state.under_way.get(origin).copied().unwrap_or_default();
        if count >= per_origin_max {
            return None;
        }
        state.under_way.insert(origin.clone(), count + 1);
        state.under_way_count += 1;
        drop(state);
        Some(UnderWay {
            pool: Arc::clone(self),
            origin: origin.clone(),
        })
    }

    /// Takes the connection that was used last, if one still stands.
    pub(super) fn take(&self, origin: &Origin, now: Instant) -> Option<Sender> {
        let mut state = self.state();
        state.drop_old(now);
        let queue = state.idle.get_mut(origin)?;
        let sender = queue.pop_back().map(|(sender, _)| sender);
        if queue.is_empty() {
            state.idle.remove(origin);
        }
        sender
    }

    /// Keeps a connection, if there is room.
    pub(super) fn put(&self, origin: &Origin, sender: Sender, now: Instant) {
        let mut state = self.state();
        state.drop_old(now);
        let count: usize = state.idle.values().map(VecDeque::len).sum();
        if count >= IDLE_COUNT_MAX || sender.is_closed() {
            return;
        }
        let queue = state.idle.entry(origin.clone()).or_default();
        if queue.len() < IDLE_PER_ORIGIN_MAX {
            queue.push_back((sender, now));
        }
    }
}

impl State {
    fn drop_old(&mut self, now: Instant) {
        self.idle.retain(|_, queue| {
            queue.retain(|(sender, since)| {
                !sender.is_closed() && now.saturating_duration_since(*since) < IDLE_AGE_MAX
            });
            !queue.is_empty()
        });
    }
}

/// A request under way; it is no more when this is dropped.
pub(super) struct UnderWay {
    pool: Arc<Pool>,
    origin: Origin,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.under_way_count -= 1;
        if let Some(count) = state.under_way.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                state.under_way.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        Origin {
            is_https: true,
            host: Host::parse(host).unwrap(),
            port: 443,
        }
    }

    #[test]
    fn requests_under_way_are_bounded_in_all_and_for_each_server() {
        let pool = Arc::new(Pool::default());
        let (a, b) = (origin("a.example"), origin("b.example"));
        let first = pool.begin(&a, 3, 2).unwrap();
        let _second = pool.begin(&a, 3, 2).unwrap();
        assert!(pool.begin(&a, 3, 2).is_none());
        let third = pool.begin(&b, 3, 2).unwrap();
        assert!(pool.begin(&b, 3, 2).is_none());
        drop(first);
        assert!(pool.begin(&a, 3, 2).is_some());
        drop(third);
        assert_eq!(pool.state().under_way.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn an_authority_names_a_port_that_is_not_the_usual() {
        let mut origin = origin("[2606::1]");
        assert_eq!(origin.authority(), "[2606::1]");
        origin.is_https = false;
        assert_eq!(origin.authority(), "[2606::1]:443");
    }
}
