//! Real nodes on loopback, spoken to by hand-made HTTPS and OMQ: what the protocol pages promise.

mod https;
mod kill;
mod network;
mod omq;
mod swarm;
