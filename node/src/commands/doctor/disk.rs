//! The data directory, and the disk below it.

use core::time::Duration;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cepa_control::Config;
use cepa_host::probe::{
    DirectoryFacts, WriteTimes, directory_facts, filesystem_name, time_durable_writes,
};

use super::Context;
use super::finding::Finding;

/// Sizes of durable writes: the least that a commit is, and one of a busy moment.
const WRITES: [(&str, usize); 2] = [("write_4k", 4 << 10), ("write_64k", 64 << 10)];
/// How long each is tried.
const WRITE_DURATION: Duration = Duration::from_millis(700);
/// A store waits for one such write, or two: slower ones are seen by who sends a message.
const WRITE_WARN: Duration = Duration::from_millis(10);
/// A shard that is held up so long refuses clients.
const WRITE_FAIL: Duration = Duration::from_millis(50);
/// Segments that a log has at least (`control::config`).
const SEGMENT_COUNT_MIN: u64 = 8;
/// Files whose mode matters: who reads them is this node.
const SECRETS: [&str; 2] = ["key_ed25519", "key_link"];
/// Entries of the data directory that are looked at for segments.
const ENTRY_COUNT_MAX: usize = 100_000;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let Some(config) = context.config else {
        return vec![Finding::skip(
            "data_dir",
            "the directory is that of a config",
        )];
    };
    let data_dir = &config.data_dir;
    let place = place_of(data_dir);
    let facts = match directory_facts(&place) {
        Ok(facts) => facts,
        Err(fault) => return vec![judge_place(data_dir, &place, &Err(fault), our_uid())],
    };
    let mut findings = vec![
        judge_filesystem(facts.filesystem),
        judge_space(facts.free_size, used_size(data_dir), config),
    ];
    findings.insert(0, judge_place(data_dir, &place, &Ok(facts), our_uid()));
    findings.extend(SECRETS.iter().filter_map(|name| {
        let mode = fs::metadata(data_dir.join(name)).ok()?.mode() & 0o777;
        Some(judge_secret(name, mode))
    }));
    for (name, size) in WRITES {
        let times = time_durable_writes(&place, size, WRITE_DURATION);
        findings.push(judge_writes(name, times, context.is_running));
    }
    findings
}

/// The directory, or the nearest above it that is there: the node makes those between.
fn place_of(data_dir: &Path) -> PathBuf {
    let there = data_dir
        .ancestors()
        .find(|path| path.try_exists().unwrap_or(true));
    there.unwrap_or(data_dir).to_owned()
}

fn our_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|of_us| of_us.uid())
}

fn judge_place(
    data_dir: &Path,
    place: &Path,
    facts: &io::Result<DirectoryFacts>,
    us: Option<u32>,
) -> Finding {
    const NAME: &str = "data_dir";
    let shown = data_dir.display();
    let facts = match facts {
        Ok(facts) => facts,
        Err(fault) => {
            return Finding::fail(
                NAME,
                format!("{}: {fault}", place.display()),
                "give a directory that the node's user may write to as data_dir",
            );
        }
    };
    if place != data_dir {
        let found = format!("{shown} is not there yet, and will be made");
        return Finding::pass(NAME, found);
    }
    let DirectoryFacts { owner, mode, .. } = facts;
    if us.is_some_and(|us| us != *owner) {
        return Finding::warn(
            NAME,
            format!("{shown} belongs to user {owner}, and we are another"),
            "ask as the node's user: `sudo -u USER cepa doctor ...`; or give it the directory by chown",
        );
    }
    if mode & 0o022 != 0 {
        return Finding::warn(
            NAME,
            format!("others may write to {shown} (mode {mode:o})"),
            format!("chmod 700 {shown}"),
        );
    }
    Finding::pass(NAME, format!("{shown} (mode {mode:o})"))
}

fn judge_secret(name: &str, mode: u32) -> Finding {
    let found = format!("mode {mode:o}");
    if mode & 0o077 != 0 {
        return Finding::fail(
            name,
            format!("others may read it ({found}): the node refuses to start"),
            "chmod 600, and think about who has read it",
        );
    }
    Finding::pass(name, found)
}

fn judge_filesystem(kind: i64) -> Finding {
    const NAME: &str = "filesystem";
    match filesystem_name(kind) {
        Some(name @ ("tmpfs" | "overlayfs")) => Finding::warn(
            NAME,
            format!("{name}: messages are gone with the machine or the container"),
            "put data_dir on a disk, or mount a volume there",
        ),
        Some(name @ ("nfs" | "fuse")) => Finding::warn(
            NAME,
            format!("{name}: each durable write goes through the network or another process"),
            "put data_dir on a local disk",
        ),
        Some(name) => Finding::pass(NAME, name),
        None => Finding::pass(NAME, format!("of kind {kind:#x}")),
    }
}

/// Bytes of the segments that are there; the node makes no others beyond its capacity.
fn used_size(data_dir: &Path) -> u64 {
    let mut size: u64 = 0;
    let mut directories = vec![data_dir.to_owned()];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            count += 1;
            if count > ENTRY_COUNT_MAX {
                return size;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => size = size.saturating_add(metadata.blocks().saturating_mul(512)),
                Err(_) => {}
            }
        }
    }
    size
}

fn judge_space(free: u64, used: u64, config: &Config) -> Finding {
    const NAME: &str = "free_space";
    let mib = |size: u64| size >> 20;
    let capacity = config.store_capacity_mib.saturating_mul(1 << 20);
    let shards = u64::try_from(config.shard_cpus.len()).unwrap_or(u64::MAX);
    let least = SEGMENT_COUNT_MIN
        .saturating_mul(shards)
        .saturating_mul(config.segment_size_mib << 20)
        .min(capacity);
    let found = format!(
        "{} MiB free and {} MiB used, of a log of {} MiB",
        mib(free),
        mib(used),
        mib(capacity)
    );
    let there = free.saturating_add(used);
    if there < least {
        let advice = format!(
            "make room for at least {} MiB, or lower segment_size_mib",
            mib(least)
        );
        Finding::fail(NAME, found, advice)
    } else if there < capacity {
        Finding::warn(
            NAME,
            found,
            format!(
                "the log fills the disk: make room, or set store_capacity_mib = {}",
                mib(there) * 9 / 10
            ),
        )
    } else {
        Finding::pass(NAME, found)
    }
}

fn judge_writes(name: &str, times: io::Result<WriteTimes>, is_running: bool) -> Finding {
    let times = match times {
        Ok(times) => times,
        Err(fault) if fault.kind() == ErrorKind::Unsupported => {
            return Finding::warn(
                name,
                "the file system has no direct writes (O_DIRECT)",
                "put data_dir on ext4 or xfs: through the page cache each store costs more",
            );
        }
        Err(fault) if fault.kind() == ErrorKind::PermissionDenied => {
            return Finding::fail(
                name,
                format!("we may not write there: {fault}"),
                "ask as the node's user, or give it the directory by chown",
            );
        }
        Err(fault) => {
            return Finding::fail(
                name,
                format!("cannot write there: {fault}"),
                "see the disk: `dmesg`, `df`, `df -i`",
            );
        }
    };
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let found = format!(
        "durable in {:.2} ms, 1 of 100 later than {:.2} ms ({} writes)",
        millis(times.median),
        millis(times.p99),
        times.count
    );
    let beside = if is_running {
        "; the node that runs there writes too"
    } else {
        ""
    };
    if times.p99 > WRITE_FAIL {
        Finding::fail(
            name,
            found,
            format!(
                "each store waits for that: take an SSD that keeps what it acknowledged{beside}"
            ),
        )
    } else if times.p99 > WRITE_WARN {
        Finding::warn(
            name,
            found,
            format!("each store waits for that: a faster disk makes stores faster{beside}"),
        )
    } else {
        Finding::pass(name, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Pass, Warn};
    use super::super::tests::config;
    use super::*;

    fn facts(owner: u32, mode: u32) -> DirectoryFacts {
        DirectoryFacts {
            owner,
            mode,
            filesystem: 0xef53,
            free_size: 1,
        }
    }

    #[test]
    fn the_directory_is_ours_alone_or_to_be_made() {
        let (there, above) = (Path::new("/a/data"), Path::new("/a"));
        let denied = || Err(ErrorKind::PermissionDenied.into());
        let table = [
            (there, Ok(facts(7, 0o700)), Pass),
            (there, Ok(facts(7, 0o755)), Pass),
            (there, Ok(facts(7, 0o777)), Warn),
            (there, Ok(facts(8, 0o700)), Warn),
            (above, Ok(facts(8, 0o755)), Pass),
            (there, denied(), Fail),
            (above, denied(), Fail),
        ];
        for (place, facts, expected) in table {
            let finding = judge_place(there, place, &facts, Some(7));
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn the_place_is_the_nearest_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(place_of(&path.join("a/b")), path);
        assert_eq!(place_of(path), path);
    }

    #[test]
    fn secrets_are_their_owners() {
        assert_eq!(judge_secret("key_ed25519", 0o600).verdict, Pass);
        assert_eq!(judge_secret("key_ed25519", 0o640).verdict, Fail);
        assert_eq!(judge_secret("key_ed25519", 0o604).verdict, Fail);
    }

    #[test]
    fn some_file_systems_are_warned_of() {
        let table = [
            (0xef53, Pass),
            (0x5846_5342, Pass),
            (0x0102_1994, Warn),
            (0x794c_7630, Warn),
            (0x6969, Warn),
            (1, Pass),
        ];
        for (kind, expected) in table {
            assert_eq!(judge_filesystem(kind).verdict, expected, "{kind:x}");
        }
    }

    #[test]
    fn the_log_has_room_to_grow() {
        let mut config = config();
        config.shard_cpus = vec![0, 1];
        let mib = 1 << 20;
        // 10 GiB in all, of which 1 GiB at least.
        let table = [
            (10_240, 0, Pass),
            (240, 10_000, Pass),
            (10_239, 0, Warn),
            (1024, 0, Warn),
            (1023, 0, Fail),
            (0, 1023, Fail),
        ];
        for (free, used, expected) in table {
            let finding = judge_space(free * mib, used * mib, &config);
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn slow_disks_are_told() {
        let times = |micros| {
            Ok(WriteTimes {
                count: 100,
                median: Duration::from_micros(micros / 2),
                p99: Duration::from_micros(micros),
                max: Duration::from_micros(micros * 2),
            })
        };
        let kind = |kind: ErrorKind| Err(io::Error::from(kind));
        let table = [
            (times(800), Pass),
            (times(10_000), Pass),
            (times(10_001), Warn),
            (times(50_001), Fail),
            (kind(ErrorKind::Unsupported), Warn),
            (kind(ErrorKind::PermissionDenied), Fail),
            (kind(ErrorKind::StorageFull), Fail),
        ];
        for (times, expected) in table {
            let finding = judge_writes("write_4k", times, false);
            assert_eq!(finding.verdict, expected, "{finding:?}");
            assert_eq!(finding.advice.is_some(), expected != Pass);
        }
    }
}
