//! The phases of an engine that does one thing at a time.

use std::path::Path;

use cepa_wire::{Mailbox, MessageHash, Timestamp};

use crate::Arguments;
use crate::meter::{self, Meter};
use crate::report::{EngineReport, Phase, histogram, record};
use crate::workload::{Message, Op, PAGE, Workload};

/// What went wrong, in the engine's words.
pub(crate) type Fault = Box<dyn core::error::Error>;

/// An engine that is called.
pub(crate) trait Baseline: Sized {
    /// Opens what stands in `dir`, or begins there.
    fn open(dir: &Path, is_durable: bool) -> Result<Self, Fault>;
    /// Stores messages that nobody waits for.
    fn preload(&mut self, messages: &[Message]) -> Result<(), Fault>;
    /// Stores messages together, as it does best: how many, [`Self::GROUP`] says.
    fn store(&mut self, messages: &[Message]) -> Result<(), Fault>;
    /// Gives how many messages were read.
    fn retrieve(
        &mut self,
        mailbox: &Mailbox,
        after: Option<&MessageHash>,
        limit: usize,
    ) -> Result<usize, Fault>;
    fn delete(&mut self, mailbox: &Mailbox, hash: &MessageHash) -> Result<(), Fault>;
    fn expire(
        &mut self,
        mailbox: &Mailbox,
        hash: &MessageHash,
        expiry: Timestamp,
    ) -> Result<(), Fault>;
    /// So many operations that wait are made durable together.
    const GROUP: usize;
    /// Makes the changes of a group durable.
    fn end_group(&mut self) -> Result<(), Fault>;
}

const PRELOAD_GROUP: usize = 1000;

/// Runs every phase.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn run<B: Baseline>(
    name: &str,
    is_durable: bool,
    arguments: &Arguments,
    dir: &Path,
) -> Result<EngineReport, Fault> {
    let mut workload = Workload::new(arguments.seed, arguments.accounts, arguments.payload);
    workload.reserve(arguments.preload + arguments.stores);
    let before = meter::resident();
    let mut engine = B::open(dir, is_durable)?;
    let bar = crate::progress(name, arguments.preload);
    let mut left = arguments.preload;
    while left > 0 {
        let count = left.min(PRELOAD_GROUP);
        let messages: Vec<_> = (0..count).map(|_| workload.store()).collect();
        engine.preload(&messages)?;
        bar.inc(count as u64);
        left -= count;
    }
    bar.finish_and_clear();
    drop(engine);
    let disk = meter::disk_bytes(dir) as f64 / arguments.preload.max(1) as f64;
    let begin = meter::now();
    let mut engine = B::open(dir, is_durable)?;
    let Op::Retrieve(mailbox, _) = first_retrieve(&mut workload) else {
        return Err("no retrieve".into());
    };
    engine.retrieve(&mailbox, None, PAGE)?;
    let restart_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let phases = vec![
        store_phase(&mut engine, &mut workload, arguments)?,
        mixed_phase(&mut engine, &mut workload, arguments)?,
    ];
    let memory = meter::resident().saturating_sub(before) as f64 / arguments.preload.max(1) as f64;
    let durability = if is_durable { "when durable" } else { "before" };
    Ok(EngineReport {
        engine: name.to_owned(),
        durability: durability.to_owned(),
        phases,
        disk_bytes_per_message: disk,
        memory_bytes_per_message: memory,
        restart_ms,
        notes: Vec::new(),
    })
}

fn first_retrieve(workload: &mut Workload) -> Op {
    loop {
        if let op @ Op::Retrieve(..) = workload.mixed() {
            return op;
        }
    }
}

fn store_phase<B: Baseline>(
    engine: &mut B,
    workload: &mut Workload,
    arguments: &Arguments,
) -> Result<Phase, Fault> {
    let mut latencies = histogram();
    let mut count = 0;
    let meter = Meter::start();
    while count < arguments.stores as u64 && meter.read().wall < arguments.phase_time() {
        let messages: Vec<_> = (0..B::GROUP).map(|_| workload.store()).collect();
        let begin = meter::now();
        engine.store(&messages)?;
        for _ in &messages {
            record(&mut latencies, begin.elapsed());
        }
        count += messages.len() as u64;
    }
    let payload = count * arguments.payload as u64;
    Ok(Phase::new(
        "store",
        count,
        payload,
        meter.read(),
        &latencies,
    ))
}

fn mixed_phase<B: Baseline>(
    engine: &mut B,
    workload: &mut Workload,
    arguments: &Arguments,
) -> Result<Phase, Fault> {
    let mut latencies = histogram();
    let (mut count, mut stored) = (0, 0);
    let meter = Meter::start();
    while count < arguments.ops as u64 && meter.read().wall < arguments.phase_time() {
        let begin = meter::now();
        for _ in 0..B::GROUP {
            match workload.mixed() {
                Op::Store(message) => {
                    stored += message.data.len() as u64;
                    engine.preload(core::slice::from_ref(&message))?;
                }
                Op::Retrieve(mailbox, after) => {
                    engine.retrieve(&mailbox, after.as_ref(), PAGE)?;
                }
                Op::Delete(mailbox, hash) => engine.delete(&mailbox, &hash)?,
                Op::Expire(mailbox, hash, expiry) => engine.expire(&mailbox, &hash, expiry)?,
            }
        }
        engine.end_group()?;
        for _ in 0..B::GROUP {
            record(&mut latencies, begin.elapsed());
        }
        count += B::GROUP as u64;
    }
    Ok(Phase::new("mixed", count, stored, meter.read(), &latencies))
}
