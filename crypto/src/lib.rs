//! Keys and layers: accounts, messages, onion layers, request signatures and CURVE links.
//!
//! Nothing here draws randomness or reads a clock: nonces and ephemeral keys are arguments, so a
//! test can repeat what production does. Secrets are zeroized when dropped and never printed.
#![deny(unsafe_code)]

pub mod account;
pub mod curve;
pub mod key;
pub mod link;
pub mod message;
pub mod mnemonic;
pub mod node_keys;
pub mod onion_v2;
pub mod packet;
pub mod primitive;
pub mod request_signature;
pub mod swarm_space;
pub mod x25519;

pub use account::Account;
pub use key::{Ed25519SecretKey, X25519SecretKey};
pub use node_keys::{NodeKeys, SecretKeys};
