//! The XDP program, assembled by hand: datagrams to our address and port go to our socket, all else goes to
//! the kernel's stack.

use core::net::{IpAddr, SocketAddr};

/// An instruction: operation (8 bits), destination (4) and source register (4), offset (16) and
/// immediate (32).
pub(super) type Instruction = u64;

/// Loads of 8, 16 and 32 bits from memory: `dst = *(src + off)`.
const LOAD_8: u8 = 0x71;
const LOAD_16: u8 = 0x69;
const LOAD_32: u8 = 0x61;
/// `dst = src`, `dst = imm`, `dst += imm`, `dst &= imm`.
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const ADD_CONSTANT: u8 = 0x07;
const AND_CONSTANT: u8 = 0x57;
/// Jumps: if `dst > src`; if the lower 32 bits of `dst` are not `imm`.
const JUMP_GREATER: u8 = 0x2d;
const JUMP_NOT_CONSTANT: u8 = 0x56;
/// `dst = imm`, of 64 bits: two instructions. With source 1, the immediate is a map's descriptor.
const LOAD_64: u8 = 0x18;
const IS_MAP: u8 = 1;
/// Calls the kernel's function of this number; ends.
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `bpf_redirect_map(map, key, flags)`; the lower bits of the flags are what is returned where the map has
/// nothing.
const REDIRECT_MAP: i32 = 51;
const XDP_PASS: i32 = 2;

/// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;

/// Bytes of an Ethernet header.
const ETHERNET: i16 = 14;

const fn instruction(
    operation: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    let registers = (destination | (source << 4)) as u64;
    let offset = offset.cast_unsigned() as u64;
    let immediate = immediate.cast_unsigned() as u64;
    operation as u64 | (registers << 8) | (offset << 16) | (immediate << 32)
}

/// A field of a frame that must have a value: its place, its size, what of it counts.
struct Check {
    offset: i16,
    load: u8,
    mask: Option<u16>,
    value: i32,
}

impl Check {
    const fn byte(offset: i16, value: u8) -> Self {
        Self {
            offset,
            load: LOAD_8,
            mask: None,
            value: value as i32,
        }
    }

    fn short(offset: i16, value: u16) -> Self {
        Self {
            offset,
            load: LOAD_16,
            mask: None,
            value: i32::from(value.to_be()),
        }
    }

    fn word(offset: i16, value: u32) -> Self {
        Self {
            offset,
            load: LOAD_32,
            mask: None,
            value: value.to_be().cast_signed(),
        }
    }
}

/// What makes a frame ours, and how long it must be for that to be read.
fn checks(address: SocketAddr) -> (i32, Vec<Check>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            let checks = vec![
                Check::short(12, 0x0800),
                // Version 4, no options.
                Check::byte(ETHERNET, 0x45),
                // No fragment: neither "more fragments" nor an offset.
                Check {
                    mask: Some(0x3fff),
                    ..Check::short(ETHERNET + 6, 0)
                },
                Check::byte(ETHERNET + 9, 17),
                Check::word(ETHERNET + 16, ip.to_bits()),
                Check::short(ETHERNET + 22, address.port()),
            ];
            (14 + 20 + 8, checks)
        }
        IpAddr::V6(ip) => {
            let mut checks = vec![
                Check::short(12, 0x86dd),
                // No extension headers: UDP comes next.
                Check::byte(ETHERNET + 6, 17),
                Check::short(ETHERNET + 42, address.port()),
            ];
            let words = ip.octets();
            let (words, _) = words.as_chunks::<4>();
            let places = (ETHERNET + 24..).step_by(4);
            checks.extend(
                places
                    .zip(words)
                    .map(|(place, word)| Check::word(place, u32::from_be_bytes(*word))),
            );
            (14 + 40 + 8, checks)
        }
    }
}

/// The program for an address, with a map of sockets by the queue that they take from.
pub(super) fn assemble(address: SocketAddr, map: i32) -> Vec<Instruction> {
    let (size, checks) = checks(address);
    // How many instructions come after the jump at `at`, up to where it passes.
    let length: usize = checks
        .iter()
        .map(|check| 2 + usize::from(check.mask.is_some()))
        .sum();
    let pass = HEAD + length + TAIL;
    let to_pass = |at: usize| i16::try_from(pass - at - 1).unwrap_or_default();
    let mut program = vec![
        // r6 = context; r2 = data, r3 = its end
        instruction(MOVE, 6, 1, 0, 0),
        instruction(LOAD_32, 2, 1, DATA, 0),
        instruction(LOAD_32, 3, 1, DATA_END, 0),
        // Too short for the headers: pass. (The verifier asks for this.)
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_CONSTANT, 4, 0, 0, size),
        instruction(JUMP_GREATER, 4, 3, to_pass(HEAD - 1), 0),
    ];
    for check in &checks {
        program.push(instruction(check.load, 5, 2, check.offset, 0));
        if let Some(mask) = check.mask {
            program.push(instruction(AND_CONSTANT, 5, 0, 0, i32::from(mask.to_be())));
        }
        let jump = to_pass(program.len());
        program.push(instruction(JUMP_NOT_CONSTANT, 5, 0, jump, check.value));
    }
    program.extend([
        // return bpf_redirect_map(map, context->rx_queue_index, XDP_PASS)
        instruction(LOAD_32, 2, 6, RX_QUEUE_INDEX, 0),
        instruction(LOAD_64, 1, IS_MAP, 0, map),
        instruction(0, 0, 0, 0, 0),
        instruction(MOVE_CONSTANT, 3, 0, 0, XDP_PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        // pass: return XDP_PASS
        instruction(MOVE_CONSTANT, 0, 0, 0, XDP_PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}

/// Instructions before the checks, and after them up to where it passes.
const HEAD: usize = 6;
const TAIL: usize = 6;

// The order of the registers in an instruction is the machine's.
const _: () = assert!(cfg!(target_endian = "little"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_goes_to_where_it_passes() {
        for address in ["192.0.2.1:4660", "[2001:db8::1]:4660"] {
            let program = assemble(address.parse().unwrap(), 7);
            let target = program.len() - 2;
            let mut jumps = 0;
            for (at, instruction) in program.iter().enumerate() {
                let operation = u8::try_from(instruction & 0xff).unwrap();
                if [JUMP_GREATER, JUMP_NOT_CONSTANT].contains(&operation) {
                    let offset = usize::try_from((instruction >> 16) & 0xffff).unwrap();
                    assert_eq!(at + 1 + offset, target);
                    jumps += 1;
                }
            }
            assert_eq!(jumps, if address.starts_with('[') { 8 } else { 7 });
        }
    }
}
