//! How much a mailbox may hold: less, the fuller the store is. The largest stop first, and the others
//! go on storing.

use super::change::StoreChange;
use super::judge::BOX_COUNT_MAX;
use crate::Settings;
use crate::index::Index;

/// What every mailbox may hold as long as there is room at all.
const FAIR_SIZE: u64 = 256 << 10;

/// Whether a new message of so many bytes is within its mailbox's limits. What is on its way is not
/// counted: a mailbox may exceed its limits by that.
pub(super) fn admits(
    index: &Index,
    settings: &Settings,
    store: &StoreChange,
    record_size: u64,
) -> bool {
    let tally = index.mailbox_tally(store.mailbox);
    let size_max = mailbox_size_max(settings, index.total().size);
    tally.message_count < settings.mailbox_message_count_max
        && tally.size + record_size <= size_max
        && (tally.box_count < BOX_COUNT_MAX || index.has_box(store.mailbox, store.namespace))
}

/// The limit of a mailbox when the live messages of all take `used` bytes: full up to half of the
/// capacity, and sinking in proportion from there to what is fair at seven eighths.
fn mailbox_size_max(settings: &Settings, used: u64) -> u64 {
    let Settings {
        capacity,
        mailbox_size_max: most,
        ..
    } = *settings;
    let (begin, end) = (capacity / 2, capacity / 8 * 7);
    let least = FAIR_SIZE.min(most);
    if used <= begin || end <= begin {
        return most;
    }
    let rest = end.saturating_sub(used);
    let span = u128::from(most - least) * u128::from(rest) / u128::from(end - begin);
    least + u64::try_from(span).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_sinks_as_the_store_fills() {
        let settings = Settings {
            capacity: 8 << 30,
            mailbox_size_max: 64 << 20,
            ..Settings::default()
        };
        let limit = |used: u64| mailbox_size_max(&settings, used);
        assert_eq!(limit(0), 64 << 20);
        assert_eq!(limit(4 << 30), 64 << 20);
        assert!(limit(5 << 30) < 48 << 20 && limit(5 << 30) > 40 << 20);
        assert_eq!(limit(7 << 30), FAIR_SIZE);
        assert_eq!(limit(u64::MAX), FAIR_SIZE);
    }
}
