//! What can go wrong, in words for a person: one line that says what and, where one can, what to do.

use std::path::PathBuf;

use cepa_crypto::message::MessageError;
use thiserror::Error;

/// Why something the client was asked for did not happen.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The seed can't be reached.
    #[error("cannot reach the seed {url}: {reason}")]
    Seed {
        /// Which seed.
        url: String,
        /// Why.
        reason: String,
    },
    /// A file can't be read or written.
    #[error("cannot use {path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There are too few nodes for a path.
    #[error(
        "the network has too few usable nodes for a path of three relays to another node ({0})"
    )]
    TooFewNodes(usize),
    /// Nobody answered after several tries.
    #[error("the network did not answer after {attempts} tries; the last one: {reason}")]
    NoAnswer {
        /// How many tries.
        attempts: usize,
        /// What went wrong in the last.
        reason: String,
    },
    /// The packet lane was asked for, and does not lead there or does not answer.
    #[error("the packet lane: {0}")]
    PacketLane(String),
    /// The destination refused the request.
    #[error("the node refused the request with {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        text: String,
    },
    /// The clock of this machine is off.
    #[error("the clock of this machine differs too much from the network's: set it")]
    Clock,
    /// An answer is not what the protocol says.
    #[error("a node's answer is malformed: {0}")]
    Malformed(&'static str),
    /// Not enough members of the swarm proved that they did what was asked.
    #[error("only {signed} of {members} members of the swarm proved that they did it")]
    Unproven {
        /// Members with a good signature.
        signed: usize,
        /// Members of the swarm.
        members: usize,
    },
    /// The message can't be made.
    #[error("cannot write this message: {0}")]
    Message(MessageError),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
}
