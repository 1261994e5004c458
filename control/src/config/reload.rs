//! What a running node takes of a config that it reads again.

use super::Config;
use super::keys::{KEYS, Key};

/// Which keys differ between the config of a running node and one that was read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that the node takes.
    pub taken: Vec<&'static str>,
    /// Those that count after a restart.
    pub need_restart: Vec<&'static str>,
}

impl Config {
    /// Takes of `new` what a running node can, and tells which keys differ.
    pub fn take_changes(&mut self, new: &Self) -> Changes {
        let (ours, theirs) = (self.to_table(), new.to_table());
        let is_changed = |key: &&&Key| ours.get(key.name) != theirs.get(key.name);
        let names = |is_reloaded: bool| {
            let changed = KEYS.iter().filter(is_changed);
            let changed = changed.filter(move |key| key.is_reloaded == is_reloaded);
            changed.map(|key| key.name).collect()
        };
        let changes = Changes {
            taken: names(true),
            need_restart: names(false),
        };
        self.allow_aes_cbc = new.allow_aes_cbc;
        self.account_size_max_mib = new.account_size_max_mib;
        self.foreign_grace_hours = new.foreign_grace_hours;
        self.rate_limit_per_second = new.rate_limit_per_second;
        self.rate_limit_burst = new.rate_limit_burst;
        self.monitor_count_max = new.monitor_count_max;
        self.stats_access_keys.clone_from(&new.stats_access_keys);
        self.proxy_exceptions.clone_from(&new.proxy_exceptions);
        self.stop_timeout_seconds = new.stop_timeout_seconds;
        self.log_level.clone_from(&new.log_level);
        self.log_format = new.log_format;
        changes
    }

    /// The config as TOML that can be read again: every key in the order of `config/cepa.toml`, with
    /// whether it is among `set` or has its default. A key without a value stands in a comment.
    pub fn explain(&self, set: &[&str]) -> String {
        let table = self.to_table();
        let lines = KEYS.iter().map(|key| match table.get(key.name) {
            Some(value) if set.contains(&key.name) => format!("{} = {value} # set\n", key.name),
            Some(value) => format!("{} = {value} # default\n", key.name),
            None => format!("# {} is not set\n", key.name),
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::keys::{NETWORK_FILE, OXEND_RPC};
    use super::*;

    fn explained() -> (PathBuf, String) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/cepa.toml");
        let text = fs::read_to_string(&file).unwrap();
        (file, text)
    }

    /// The line that gives a key, with the comment above it.
    fn explanation<'a>(text: &'a str, key: &Key) -> (Vec<&'a str>, &'a str) {
        let is_of = |line: &str| {
            let line = line.strip_prefix('#').unwrap_or(line);
            line.starts_with(&format!("{} = ", key.name))
        };
        let lines: Vec<_> = text.lines().collect();
        let at: Vec<_> = (0..lines.len()).filter(|at| is_of(lines[*at])).collect();
        let [at] = at[..] else {
            panic!("`{}` stands {} times", key.name, at.len());
        };
        let above = lines[..at].iter().rev();
        let comment = above.take_while(|line| line.starts_with("# "));
        let mut comment: Vec<_> = comment.copied().collect();
        comment.reverse();
        (comment, lines[at])
    }

    /// The file with all that is commented out, but for one of the two networks.
    fn everything(text: &str, other: &Key) -> String {
        let starts = |line: &str| KEYS.iter().any(|key| line.starts_with(key.name));
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if starts(rest) => rest,
            _ => line,
        });
        let kept = lines.filter(|line| !line.starts_with(other.name));
        kept.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_explained_config_is_one_with_every_line_of_it() {
        let (file, text) = explained();
        assert!((text.len() as u64) < super::super::FILE_SIZE_MAX / 2);
        Config::read(&file).unwrap();
        for other in [NETWORK_FILE, OXEND_RPC] {
            Config::parse(&everything(&text, &other), &file).unwrap();
        }
    }

    #[test]
    fn every_key_is_explained_with_what_reload_does() {
        let (_, text) = explained();
        let mut last = 0;
        for key in KEYS {
            let (comment, line) = explanation(&text, key);
            let at = text.find(line).unwrap();
            assert!(
                at > last,
                "`{}` stands elsewhere than in the code",
                key.name
            );
            last = at;
            let says = |word: &str| comment.iter().any(|line| line.contains(word));
            assert!(says("Default: "), "`{}` has no default", key.name);
            let reload = if key.is_reloaded {
                "Reload: yes."
            } else {
                "Reload: no."
            };
            assert!(says(reload), "`{}` must say {reload}", key.name);
            assert!(comment.len() >= 2, "`{}` is not explained", key.name);
        }
    }

    #[test]
    fn every_default_is_that_of_the_code() {
        let (file, text) = explained();
        let defaults = Config::read(&file).unwrap().to_table();
        for key in KEYS {
            let (comment, line) = explanation(&text, key);
            let Some(line) = line.strip_prefix('#') else {
                let none = comment.iter().any(|line| line.contains("Default: none"));
                assert!(none, "`{}` has no default", key.name);
                continue;
            };
            let given: toml::Table = line.parse().unwrap();
            let words = [
                "Default: off",
                "Default: none",
                "Default: every",
                "Default: the ",
            ];
            let is_example = words
                .iter()
                .any(|word| comment.iter().any(|line| line.contains(word)));
            if !is_example {
                assert_eq!(
                    given.get(key.name),
                    defaults.get(key.name),
                    "`{}`",
                    key.name
                );
            }
            let is_value = defaults
                .get(key.name)
                .is_some_and(|value| value.as_array().is_none_or(|values| !values.is_empty()));
            assert!(
                is_value || is_example,
                "`{}` must say that it is off",
                key.name
            );
        }
    }

    /// The two configs differ in every key.
    fn two() -> (Config, Config) {
        let (file, text) = explained();
        let all = everything(&text, &OXEND_RPC);
        let mut one: toml::Table = all.parse().unwrap();
        let first = Config::parse(&one.to_string(), &file).unwrap();
        for (name, value) in &mut one {
            *value = match value {
                toml::Value::Boolean(flag) => (!*flag).into(),
                toml::Value::Integer(number) => (*number + 1).into(),
                toml::Value::Array(_) if name == "shard_cpus" => vec![3_i64, 5].into(),
                toml::Value::Array(_) => toml::Value::Array(Vec::new()),
                _ => match name.as_str() {
                    "bind_ip" => "192.0.2.1".into(),
                    "log_format" => "json".into(),
                    "packet_io" => "mmsg".into(),
                    "sandbox" => "off".into(),
                    "x25519" => "scalar".into(),
                    "admin_listen" | "seed_listen" => "127.0.0.1:7".into(),
                    _ => "other".into(),
                },
            };
        }
        one.remove(NETWORK_FILE.name);
        one.insert(OXEND_RPC.name.to_owned(), "ipc:///other".into());
        (first, Config::parse(&one.to_string(), &file).unwrap())
    }

    #[test]
    fn what_is_taken_is_what_the_table_says() {
        let (mut running, new) = two();
        let before = running.to_table();
        let changes = running.take_changes(&new);
        let after = running.to_table();
        for key in KEYS {
            let kind = if key.is_reloaded {
                &changes.taken
            } else {
                &changes.need_restart
            };
            assert!(kind.contains(&key.name), "`{}`", key.name);
            let expected = if key.is_reloaded {
                new.to_table()
            } else {
                before.clone()
            };
            assert_eq!(
                after.get(key.name),
                expected.get(key.name),
                "`{}`",
                key.name
            );
        }
        // What needs a restart is told again, what was taken is not.
        let again = running.take_changes(&new);
        assert!(again.taken.is_empty());
        assert_eq!(again.need_restart, changes.need_restart);
        assert_eq!(running.clone().take_changes(&running), Changes::default());
    }

    #[test]
    fn what_is_explained_is_read_again() {
        let (one, other) = two();
        for config in [one, other] {
            let text = config.explain(&["bind_ip", "quic"]);
            assert_eq!(Config::parse(&text, Path::new("/c.toml")).unwrap(), config);
            let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
            let told = text.lines().map(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.split_whitespace().next().unwrap()
            });
            assert_eq!(told.collect::<BTreeSet<_>>(), names);
            let set = text.lines().filter(|line| line.ends_with(" # set"));
            assert_eq!(set.count(), 2);
        }
    }
}
