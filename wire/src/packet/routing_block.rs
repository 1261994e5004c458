//! What one hop is told to do.
//!
//! ```text
//! command 1 | flags 1 | reserved 2 | delay in ms, little endian 4 | id 16
//! ```

use core::time::Duration;

use thiserror::Error;

use super::geometry::{DELAY_MAX, RELAY_ID_SIZE, ROUTING_BLOCK_SIZE};
use super::{ClientId, RelayId};

/// Flags that version 1 knows: none. A client that sets one asks for what we do not do.
const FLAGS_KNOWN: u8 = 0;

/// What becomes of the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It goes on to this relay.
    Forward(RelayId),
    /// It ends here: the payload is for us.
    Deliver,
    /// It is an answer, and goes to this client over the link that it holds with us.
    Reply(ClientId),
}

/// A hop's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RoutingBlock {
    /// What becomes of the packet.
    pub command: Command,
    /// Zero in version 1.
    pub flags: u8,
    /// How long the packet is held before: at most [`DELAY_MAX`], in milliseconds.
    pub delay_ms: u32,
}

/// Why 24 bytes are no routing block. The client wrote them, nobody else could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RoutingBlockError {
    /// No such command.
    #[error("unknown command")]
    Command,
    /// A flag or a reserved byte is set.
    #[error("unknown flag")]
    Flags,
    /// The delay is above [`DELAY_MAX`].
    #[error("delay is too long")]
    Delay,
    /// Deliver with an id.
    #[error("an id where none is due")]
    Id,
}

const FORWARD: u8 = 1;
const DELIVER: u8 = 2;
const REPLY: u8 = 3;

impl RoutingBlock {
    /// A block without flags.
    pub const fn new(command: Command, delay_ms: u32) -> Self {
        Self {
            command,
            flags: 0,
            delay_ms,
        }
    }

    /// The delay.
    pub const fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms as u64)
    }

    /// Reads a block. Strict: one meaning has one encoding.
    pub fn parse(bytes: &[u8; ROUTING_BLOCK_SIZE]) -> Result<Self, RoutingBlockError> {
        let [
            command,
            flags,
            reserved_0,
            reserved_1,
            d0,
            d1,
            d2,
            d3,
            id @ ..,
        ] = *bytes;
        let command = match command {
            FORWARD => Command::Forward(RelayId(id)),
            DELIVER if id == [0; RELAY_ID_SIZE] => Command::Deliver,
            DELIVER => return Err(RoutingBlockError::Id),
            REPLY => Command::Reply(ClientId(id)),
            _ => return Err(RoutingBlockError::Command),
        };
        if flags & !FLAGS_KNOWN != 0 || reserved_0 != 0 || reserved_1 != 0 {
            return Err(RoutingBlockError::Flags);
        }
        let block = Self {
            command,
            flags,
            delay_ms: u32::from_le_bytes([d0, d1, d2, d3]),
        };
        if block.delay() > DELAY_MAX {
            return Err(RoutingBlockError::Delay);
        }
        Ok(block)
    }

    /// Writes what [`Self::parse`] reads.
    pub fn encode(&self) -> [u8; ROUTING_BLOCK_SIZE] {
        let (command, id) = match self.command {
            Command::Forward(next) => (FORWARD, next.0),
            Command::Deliver => (DELIVER, [0; RELAY_ID_SIZE]),
            Command::Reply(client) => (REPLY, client.0),
        };
        let [d0, d1, d2, d3] = self.delay_ms.to_le_bytes();
        let mut bytes = [0; ROUTING_BLOCK_SIZE];
        let (begin, rest) = super::geometry::split_mut::<8, RELAY_ID_SIZE, _>(&mut bytes);
        *begin = [command, self.flags, 0, 0, d0, d1, d2, d3];
        *rest = id;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let commands = [
            Command::Forward(RelayId([7; 16])),
            Command::Deliver,
            Command::Reply(ClientId([9; 16])),
        ];
        for command in commands {
            for delay_ms in [0, 1, 60_000] {
                let block = RoutingBlock::new(command, delay_ms);
                let parsed = RoutingBlock::parse(&block.encode());
                assert!(parsed == Ok(block));
            }
        }
        let bytes = RoutingBlock::new(commands[0], 258).encode();
        assert_eq!(bytes[..8], [1, 0, 0, 0, 2, 1, 0, 0]);
        assert_eq!(bytes[8..], [7; 16]);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let good = RoutingBlock::new(Command::Deliver, 0).encode();
        let cases = [
            (0, 0, RoutingBlockError::Command),
            (0, 4, RoutingBlockError::Command),
            (1, 1, RoutingBlockError::Flags),
            (2, 1, RoutingBlockError::Flags),
            (3, 128, RoutingBlockError::Flags),
            (7, 1, RoutingBlockError::Delay),
            (8, 1, RoutingBlockError::Id),
            (23, 1, RoutingBlockError::Id),
        ];
        for (at, byte, error) in cases {
            let mut bytes = good;
            bytes[at] = byte;
            assert!(RoutingBlock::parse(&bytes) == Err(error), "{at}");
        }
        let late = RoutingBlock::new(Command::Deliver, 60_001).encode();
        assert!(RoutingBlock::parse(&late) == Err(RoutingBlockError::Delay));
    }
}
