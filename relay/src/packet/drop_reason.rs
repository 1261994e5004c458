//! Why a datagram or a packet ended here.

/// Placeholder until links bring theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// weak
    WeakKey,
    /// tag
    BadTag,
    /// block
    BadRoutingBlock,
    /// payload
    PayloadTampered,
    /// replayed
    Replayed,
    /// epoch
    WrongEpoch,
    /// fragment
    BadFragment,
    /// dup
    DuplicateFragment,
}
