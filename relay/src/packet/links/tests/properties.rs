//! Worlds of chance: whatever is lost, doubled, delayed or changed, links come up, no packet comes twice or
//! changed, and nothing grows.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: u8, byte: u8 },
    Deliver { at: usize },
    Double { at: usize },
    Lose { at: usize },
    Change { at: usize, bit: usize },
    Wait { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..64_usize;
    prop_oneof![
        4 => (0..4_usize, 0..3_u8, any::<u8>())
            .prop_map(|(from, to, byte)| Step::Send { from, to, byte }),
        8 => at.clone().prop_map(|at| Step::Deliver { at }),
        1 => at.clone().prop_map(|at| Step::Double { at }),
        1 => at.clone().prop_map(|at| Step::Lose { at }),
        1 => (at, 0..DATAGRAM_SIZE * 8).prop_map(|(at, bit)| Step::Change { at, bit }),
        2 => prop_oneof![0..50_u64, 0..5000_u64, 0..100_000_u64]
            .prop_map(|millis| Step::Wait { millis }),
    ]
}

/// Carries out a step; gives how many packets were handed to a link.
fn carry_out(world: &mut World, step: &Step) -> usize {
    world.poll();
    let count = world.wire.len();
    let take = |world: &mut World, at: usize| world.wire.remove(at % count.max(1));
    match step {
        Step::Send { from, to, byte } => {
            // Every second node is a client or answers one.
            return usize::from(world.send(*from, World::relay(*to), *byte).is_ok());
        }
        Step::Deliver { at } => {
            if let Some(datagram) = take(world, *at) {
                world.deliver(&datagram);
            }
        }
        Step::Double { at } => {
            if let Some(datagram) = take(world, *at) {
                world.deliver(&datagram);
                world.wire.push_back(datagram);
            }
        }
        Step::Lose { at } => {
            take(world, *at);
        }
        Step::Change { at, bit } => {
            if let Some(mut datagram) = take(world, *at) {
                let bit = bit % (datagram.bytes.len() * 8);
                datagram.bytes[bit / 8] ^= 1 << (bit % 8);
                world.deliver(&datagram);
            }
        }
        Step::Wait { millis } => {
            world.advance_with(Duration::from_millis(*millis), World::poll);
        }
    }
    0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn links_come_up_and_nothing_comes_twice(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = world(3, 1);
        let mut sent = 0;
        for step in &steps {
            sent += carry_out(&mut world, step);
            for node in &world.nodes {
                // Three peers at most, each with three pairs of keys and a handshake.
                prop_assert!(node.table.entry_count() <= 12);
                prop_assert!(node.table.timers.len() <= 3 && node.table.ready.len() <= 3);
            }
        }
        let received: usize = world.nodes.iter().map(|it| it.packets.len()).sum();
        prop_assert!(received <= sent);
        for (_, packet) in world.nodes.iter().flat_map(|it| &it.packets) {
            prop_assert!(packet.iter().all(|byte| *byte == packet[0]));
        }
        // The weather clears: everybody reaches everybody.
        world.wire.clear();
        world.advance(Duration::from_mins(4));
        for node in &mut world.nodes {
            node.packets.clear();
        }
        for (from, to) in [(0, 1), (1, 0), (2, 0), (0, 2), (3, 0)] {
            world.send(from, World::relay(to), 9).unwrap();
            world.settle();
            prop_assert_eq!(world.nodes[usize::from(to)].packets.len(), 1);
            world.nodes[usize::from(to)].packets.clear();
        }
        // And when all are silent, all but the client's link is forgotten.
        world.advance(Duration::from_mins(10));
        for (node, links) in world.nodes.iter().zip([1, 0, 0, 1]) {
            let table = &node.table;
            prop_assert!(table.entry_count() <= 2 * links, "{}", table.entry_count());
            prop_assert_eq!(table.stats().half_open, 0);
            prop_assert_eq!(table.stats().queued, 0);
        }
    }
}
