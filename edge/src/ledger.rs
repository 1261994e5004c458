//! Who holds how many bytes: memory that strangers can make us keep is charged before it is kept.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// What may be held at once, in bytes.
pub(crate) struct Ledger {
    held: AtomicUsize,
    max: usize,
    /// What is charged here is charged there too.
    parent: Option<Arc<Self>>,
}

impl Ledger {
    /// One that stands alone.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            max,
            parent: None,
        })
    }

    /// A part of `parent`.
    pub(crate) fn below(parent: &Arc<Self>, max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            max,
            parent: Some(Arc::clone(parent)),
        })
    }

    /// Charges `size` bytes; `None` when they are too many.
    pub(crate) fn charge(self: &Arc<Self>, size: usize) -> Option<Charge> {
        self.add(size).then(|| Charge {
            ledger: Arc::clone(self),
            size,
        })
    }

    fn add(&self, size: usize) -> bool {
        let add = |held: usize| held.checked_add(size).filter(|sum| *sum <= self.max);
        let added = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok();
        if added && !self.parent.as_ref().is_none_or(|parent| parent.add(size)) {
            self.held.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        added
    }

    fn subtract(&self, size: usize) {
        self.held.fetch_sub(size, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.subtract(size);
        }
    }
}

/// Bytes that are held until this is dropped.
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    size: usize,
}

impl Charge {
    /// Charges `size` bytes more; false, and nothing charged, when they are too many.
    pub(crate) fn grow(&mut self, size: usize) -> bool {
        let added = self.ledger.add(size);
        if added {
            self.size += size;
        }
        added
    }

    /// Takes `size` bytes of it into a charge of their own.
    pub(crate) fn split(&mut self, size: usize) -> Self {
        let size = size.min(self.size);
        self.size -= size;
        Self {
            ledger: Arc::clone(&self.ledger),
            size,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.subtract(self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_in_both() {
        let all = Ledger::new(10);
        let (one, other) = (Ledger::below(&all, 8), Ledger::below(&all, 8));
        assert!(one.charge(9).is_none());
        let mut held = one.charge(6).unwrap();
        assert!(other.charge(5).is_none());
        assert!(!held.grow(3) && held.grow(2));
        let part = held.split(3);
        drop(held);
        assert!(other.charge(8).is_none() && other.charge(7).is_some());
        drop(part);
        assert!(other.charge(8).is_some());
        assert_eq!(all.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_size_wraps() {
        let ledger = Ledger::new(usize::MAX);
        let _all = ledger.charge(usize::MAX).unwrap();
        assert!(ledger.charge(1).is_none() && ledger.charge(usize::MAX).is_none());
    }
}
