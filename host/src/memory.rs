//! Memory that strangers' bytes take on one executor, with a bound for all and one for each prefix.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use cepa_swarm::rate::Prefix;

/// A bound and what is held of it.
pub(crate) struct Pool {
    size_max: usize,
    per_prefix_size_max: usize,
    size: Cell<usize>,
    /// Only prefixes that hold something.
    by_prefix: RefCell<BTreeMap<Prefix, usize>>,
}

impl Pool {
    pub(crate) fn new(size_max: usize, per_prefix_size_max: usize) -> Rc<Self> {
        Rc::new(Self {
            size_max,
            per_prefix_size_max,
            size: Cell::new(0),
            by_prefix: RefCell::default(),
        })
    }

    /// Holds nothing yet. Without a prefix only the bound of all counts.
    pub(crate) fn hold(self: &Rc<Self>, prefix: Option<Prefix>) -> HeldBytes {
        HeldBytes {
            pool: Rc::clone(self),
            prefix,
            size: 0,
        }
    }

    /// Bytes that are held.
    pub(crate) const fn size(&self) -> usize {
        self.size.get()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.size.get() == 0 && self.by_prefix.borrow().is_empty()
    }
}

/// Bytes that are held for as long as this lives.
pub(crate) struct HeldBytes {
    pool: Rc<Pool>,
    prefix: Option<Prefix>,
    size: usize,
}

impl HeldBytes {
    /// Holds `size` bytes from now on; false when there is no room for more, and all is as it was.
    pub(crate) fn resize(&mut self, size: usize) -> bool {
        if size == self.size {
            return true;
        }
        let pool = &self.pool;
        let total = (pool.size.get() - self.size).saturating_add(size);
        if size > self.size && total > pool.size_max {
            return false;
        }
        if let Some(prefix) = self.prefix {
            let mut by_prefix = pool.by_prefix.borrow_mut();
            let own = by_prefix.get(&prefix).copied().unwrap_or(0) - self.size + size;
            if size > self.size && own > pool.per_prefix_size_max {
                return false;
            }
            if own == 0 {
                by_prefix.remove(&prefix);
            } else {
                by_prefix.insert(prefix, own);
            }
        }
        pool.size.set(total);
        self.size = size;
        true
    }

    #[cfg(test)]
    fn grow(&mut self, size: usize) -> bool {
        self.resize(self.size.saturating_add(size))
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        // Less is always granted.
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn neither_all_nor_one_prefix_hold_more_than_their_bounds() {
        let [one, other] = [1, 2].map(|last| Prefix::of(Ipv4Addr::new(192, 0, 2, last).into()));
        let pool = Pool::new(100, 60);
        let (mut a, mut b) = (pool.hold(Some(one)), pool.hold(Some(one)));
        assert!(a.grow(30) && a.grow(10) && b.grow(20));
        assert!(!b.grow(1), "a prefix has 60");
        let mut c = pool.hold(Some(other));
        assert!(c.grow(40));
        assert!(!c.grow(1), "all have 100");
        assert!(!pool.hold(None).grow(1));
        assert!(b.resize(10), "less is always granted");
        assert!(pool.hold(None).grow(10));
        assert!(a.grow(0));
        drop((a, b, c));
        assert!(pool.is_empty());
        assert!(pool.hold(None).grow(100));
        assert!(!pool.hold(None).grow(usize::MAX));
        assert!(pool.is_empty());
    }
}
