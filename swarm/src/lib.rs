//! What a swarm member does, sans-IO: authorise a request, store and retrieve, fan out to the other
//! members, answer.
//!
//! An [`Exchange`] is one client request (or one that a member forwarded) from its arrival to its
//! answer. It gives [`Action`]s and takes [`Event`]s; who carries them out is not its concern.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod handover;
pub mod health;
pub mod limits;
pub mod load;
pub mod missed;
pub mod monitor;
pub mod oxend;
pub mod rate;
pub mod transfer;
pub mod view;

mod answers;
mod fan_out;

pub use exchange::{Action, Event, Exchange, Local, Origin};
pub use fan_out::is_refused_for_now;
pub use health::Health;
pub use view::{Chain, View};
