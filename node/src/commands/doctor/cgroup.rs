//! What the control groups of this process let it have, of both versions.

use super::read_text;

/// A limit that is larger stands for none: version 1 has no word for it.
const UNLIMITED_MIN: u64 = 1 << 60;

/// Bytes of memory, if there is a limit.
pub(super) fn memory_limit() -> Option<u64> {
    let groups = read_text("/proc/self/cgroup")?;
    let files = limit_files(&groups, "memory", ["memory.max", "memory.limit_in_bytes"]);
    let limits = files.iter().filter_map(read_text);
    limits
        .filter_map(|text| text.parse().ok())
        .filter(|limit| *limit < UNLIMITED_MIN)
        .min()
}

/// Hundredths of a core, if there is a limit.
pub(super) fn cpu_quota() -> Option<u64> {
    let groups = read_text("/proc/self/cgroup")?;
    let of_v2 = limit_files(&groups, "", ["cpu.max", ""]);
    let of_v1 = limit_files(&groups, "cpu", ["", "cpu.cfs_quota_us"]);
    let of_v2 = of_v2
        .iter()
        .filter_map(|file| parse_quota(&read_text(file)?));
    let of_v1 = of_v1.iter().filter_map(|file| {
        let period = read_text(file.replace("cfs_quota", "cfs_period"))?;
        parse_quota(&format!("{} {period}", read_text(file)?))
    });
    of_v2.chain(of_v1).min()
}

/// `QUOTA PERIOD`, where no quota is `max` or `-1`.
fn parse_quota(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(100)?.checked_div(period)
}

/// The files with a limit, of our group and of all above it: `names` in version 2, and in version 1 below
/// a controller. An empty name is none.
fn limit_files(groups: &str, controller: &str, names: [&str; 2]) -> Vec<String> {
    let [name_v2, name_v1] = names;
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup".to_owned(), name_v2)
        } else if controllers.split(',').any(|one| one == controller) {
            (format!("/sys/fs/cgroup/{controller}"), name_v1)
        } else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            let Some((above, _)) = path.rsplit_once('/') else {
                break;
            };
            path = above;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_all_groups_above() {
        let names = ["memory.max", "memory.limit_in_bytes"];
        assert_eq!(
            limit_files("0::/system.slice/cepa.service\n", "memory", names),
            [
                "/sys/fs/cgroup/system.slice/cepa.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            limit_files("4:memory:/a\n1:cpu,cpuacct:/b\nodd\n", "memory", names),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(
            limit_files("1:cpu,cpuacct:/\n0::/", "cpu", ["", "cpu.cfs_quota_us"]),
            ["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"]
        );
    }

    #[test]
    fn quotas_are_read() {
        let table = [
            ("max 100000", None),
            ("-1 100000", None),
            ("150000 100000", Some(150)),
            ("50000 100000", Some(50)),
            ("1 0", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_quota(text), expected, "{text}");
        }
    }
}
