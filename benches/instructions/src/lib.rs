//! Inputs of the benchmarks whose instructions are counted: always the same bytes.
#![forbid(unsafe_code)]

#[path = "../../src/memory_disk.rs"]
pub mod memory_disk;
pub mod onion;
#[path = "../../src/packet_lane.rs"]
pub mod packet_lane;
pub mod storage;
