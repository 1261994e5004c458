//! Worlds with a seed: a shard on a disk that delays, reorders, fails, tears and loses, against a
//! model of what was promised. A failure prints its seed.
//!
//! `CEPA_SEEDS=1000` runs more of them; `CEPA_SEED=7` runs one.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/world.rs"]
mod world;

use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, resume_unwind};

use disk::FaultRates;
use world::{Events, Weather, World};

const SEED_COUNT: u64 = 80;
const STEP_COUNT: usize = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "a failure prints its seed")]
fn run(weather: Weather) -> Events {
    let seeds = match number("CEPA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CEPA_SEEDS").unwrap_or(SEED_COUNT),
    };
    let mut sum = Events::default();
    for seed in seeds {
        let run = AssertUnwindSafe(|| {
            let mut world = World::new(seed, weather);
            world.run(STEP_COUNT);
            world
        });
        match catch_unwind(run) {
            Ok(world) => {
                sum += world.events;
            }
            Err(panic) => {
                println!("CEPA_SEED={seed} with {weather:?} fails");
                resume_unwind(panic);
            }
        }
    }
    sum
}

fn assert_lively(sum: Events) {
    assert!(sum.commits > sum.crashes, "{sum:?}");
    assert!(sum.torn_tails > 0, "{sum:?}");
    assert!(sum.removed_segments > 0, "{sum:?}");
}

#[test]
fn crashes_alone() {
    assert_lively(run(Weather::default()));
}

#[test]
fn crashes_and_faults() {
    assert_lively(run(Weather {
        faults: FaultRates::all(100),
        fills_up: true,
        ..Weather::default()
    }));
}

#[test]
fn crashes_and_faults_of_writing_alone() {
    assert_lively(run(Weather {
        faults: FaultRates {
            list: 0,
            read: 0,
            ..FaultRates::all(300)
        },
        ..Weather::default()
    }));
}

#[test]
fn flipped_bits_invent_nothing() {
    run(Weather {
        flips_bits: true,
        faults: FaultRates::all(20),
        ..Weather::default()
    });
}

#[test]
fn the_checker_finds_a_disk_that_ignores_syncs() {
    let weather = Weather {
        ignores_sync: true,
        ..Weather::default()
    };
    let found_count = (0..20)
        .filter(|seed| {
            let run = AssertUnwindSafe(|| World::new(*seed, weather).run(STEP_COUNT));
            catch_unwind(run).is_err()
        })
        .count();
    assert!(
        found_count > 14,
        "most seeds meet it, not {found_count} of 20"
    );
}
