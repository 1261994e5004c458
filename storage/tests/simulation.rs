//! Worlds with a seed: a shard on a disk that delays, reorders, fails, tears and loses, against a
//! model of what was promised. A failure prints its seed and its weather.
//!
//! `CEPA_SEEDS=100000 cargo test -p cepa-storage --release --test simulation` runs that many of each
//! weather; `CEPA_SEED=7` runs one, and with `CEPA_TRACE=1` tells what happens.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/world.rs"]
mod world;

use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, resume_unwind};

use disk::FaultRates;
use world::{Events, Weather, World};

/// Of each of the eight weathers: more than ten thousand in all.
const SEED_COUNT: u64 = 1500;
const STEP_COUNT: usize = 160;

/// A world that lives longer, for what takes long to come.
const LONG_SEED_COUNT: u64 = 12;
const LONG_STEP_COUNT: usize = 3000;

/// Worlds that failed once, in some weather: they are run in every one.
const KEPT: [(u64, usize); 15] = [
    // What was being read had expired, but for an Expire that came meanwhile.
    (13058, STEP_COUNT),
    // A dump and a compaction read on in a segment that had died.
    (79, LONG_STEP_COUNT),
    (8656, STEP_COUNT),
    // Of two Expires in one segment the older one was held when they were copied.
    (8953, STEP_COUNT),
    (8067, STEP_COUNT),
    // Copies waited for an end of doubt that nobody brought.
    (10, LONG_STEP_COUNT),
    // A dump gave out what had expired while it read.
    (20, STEP_COUNT),
    // A trailer that left out what failed was gone with the power.
    (61, STEP_COUNT),
    (482, STEP_COUNT),
    // An Expire could not be read while its message was copied.
    (316, STEP_COUNT),
    // A trailer that left out what failed could not be read.
    (4064, STEP_COUNT),
    // A record could not be read, but each of its blocks could.
    (29418, STEP_COUNT),
    // The model: one that came later may fail earlier.
    (9669, STEP_COUNT),
    // The model: who knows when a Store that failed arrived?
    (76, STEP_COUNT),
    // The model: what failed counts in the order in which it failed.
    (2154, STEP_COUNT),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "a failure prints its seed")]
fn run_seed(weather: Weather, seed: u64, step_count: usize) -> Events {
    let run = AssertUnwindSafe(|| {
        let mut world = World::new(seed, weather);
        world.run(step_count);
        world.events
    });
    match catch_unwind(run) {
        Ok(events) => events,
        Err(panic) => {
            println!("CEPA_SEED={seed} with {step_count} steps of {weather:?} fails");
            resume_unwind(panic);
        }
    }
}

#[expect(clippy::print_stdout, reason = "says how much was tried")]
fn run(weather: Weather) -> Events {
    let mut sum = Events::default();
    if let Some(seed) = number("CEPA_SEED") {
        for step_count in [STEP_COUNT, LONG_STEP_COUNT] {
            sum += run_seed(weather, seed, step_count);
        }
        return sum;
    }
    for (seed, step_count) in KEPT {
        sum += run_seed(weather, seed, step_count);
    }
    let count = number("CEPA_SEEDS").unwrap_or(SEED_COUNT);
    for seed in 0..count {
        sum += run_seed(weather, seed, STEP_COUNT);
    }
    let long_count = LONG_SEED_COUNT.max(count / 100).min(count);
    for seed in 0..long_count {
        sum += run_seed(weather, seed, LONG_STEP_COUNT);
    }
    println!("{count} short and {long_count} long worlds of {weather:?}: {sum:?}");
    sum
}

fn assert_lively(sum: Events) {
    if number("CEPA_SEED").is_some() {
        return;
    }
    assert!(sum.commits > sum.crashes, "{sum:?}");
    assert!(sum.torn_tails > 0, "{sum:?}");
    assert!(sum.sealed_segments > 0, "{sum:?}");
    assert!(sum.compacted_segments > 0, "{sum:?}");
    assert!(sum.removed_segments > 0, "{sum:?}");
    assert!(sum.expired > 0 && sum.dumped > 0, "{sum:?}");
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
            shorten: 0,
            ..FaultRates::all(300)
        },
        ..Weather::default()
    }));
}

#[test]
fn short_reads_lose_nothing() {
    assert_lively(run(Weather {
        faults: FaultRates {
            shorten: 200,
            ..FaultRates::NONE
        },
        ..Weather::default()
    }));
}

#[test]
fn a_disk_that_is_hardly_read_for_a_while_loses_nothing() {
    let sum = run(Weather {
        goes_blind: true,
        faults: FaultRates {
            write: 100,
            sync: 50,
            ..FaultRates::NONE
        },
        ..Weather::default()
    });
    assert_lively(sum);
    assert!(
        sum.blind_lives > 0 || number("CEPA_SEED").is_some(),
        "{sum:?}"
    );
}

#[test]
fn little_room() {
    let sum = run(Weather {
        small_quota: true,
        small_capacity: true,
        fills_up: true,
        faults: FaultRates {
            create: 50,
            remove: 50,
            ..FaultRates::NONE
        },
        ..Weather::default()
    });
    assert!(sum.refused > 0, "{sum:?}");
}

#[test]
fn relaxed_and_only_the_process_dies() {
    run(Weather {
        relaxed: true,
        faults: FaultRates {
            create: 20,
            remove: 50,
            ..FaultRates::NONE
        },
        ..Weather::default()
    });
}

#[test]
fn flipped_bits_invent_nothing() {
    run(Weather {
        flips_bits: true,
        faults: FaultRates::all(20),
        ..Weather::default()
    });
}

/// How many of these worlds fail, as they should.
fn failing_count(weather: Weather, seeds: core::ops::Range<u64>, step_count: usize) -> usize {
    seeds
        .filter(|seed| {
            let run = AssertUnwindSafe(|| World::new(*seed, weather).run(step_count));
            catch_unwind(run).is_err()
        })
        .count()
}

#[test]
fn the_checker_finds_a_disk_that_ignores_syncs() {
    let weather = Weather {
        ignores_sync: true,
        ..Weather::default()
    };
    let found_count = failing_count(weather, 0..20, 500);
    assert!(found_count > 14, "most meet it, not {found_count} of 20");
}

#[test]
fn the_checker_finds_a_shard_that_ignores_voids() {
    let weather = Weather {
        ignores_voids: true,
        faults: FaultRates {
            write: 300,
            ..FaultRates::NONE
        },
        ..Weather::default()
    };
    let found_count = failing_count(weather, 0..60, 1000);
    assert!(found_count > 5, "some meet it, not {found_count} of 60");
}
