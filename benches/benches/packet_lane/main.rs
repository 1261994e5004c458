//! The packet lane, end to end: in the making.
#![forbid(unsafe_code)]

fn main() {}
