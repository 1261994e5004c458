//! The config: read as `cepa run` reads it, and judged as `cepa run` judges it.

use std::path::Path;

use cepa_control::Config;

use super::finding::Finding;
use crate::commands::run::advice;
use crate::logging;

/// Reads the config; it is none where it is not given, or can't be read.
pub(super) fn read(file: Option<&Path>) -> (Option<Config>, Vec<Finding>) {
    const NAME: &str = "file";
    let Some(file) = file else {
        let found = "none: only the machine is looked at (--config FILE)";
        return (None, vec![Finding::skip(NAME, found)]);
    };
    match Config::read(file) {
        Err(fault) => {
            let advice = "mend it; config/cepa.toml explains every key";
            let finding = Finding::fail(NAME, one_line(&fault.to_string()), advice);
            (None, vec![finding])
        }
        Ok(config) => {
            let mut findings = vec![Finding::pass(NAME, file.display().to_string())];
            findings.extend(judge(&config));
            (Some(config), findings)
        }
    }
}

/// What `cepa run` would refuse or warn of. Whether the node runs as root is not known here.
fn judge(config: &Config) -> Vec<Finding> {
    const NAME: &str = "sense";
    let mut refusals = advice::refusals(config);
    let level = logging::check_level("log_level", &config.log_level);
    refusals.extend(level.err().map(|refused| refused.to_string()));
    if !refusals.is_empty() {
        let advice = refusals.join("; ");
        return vec![Finding::fail(NAME, "the node refuses to start", advice)];
    }
    let remarks = advice::remarks(config, cepa_host::clock::now(), false);
    let numbered = remarks.into_iter().zip(1..);
    numbered
        .map(|(remark, number)| Finding::warn(format!("remark_{number}"), "looks odd", remark))
        .collect()
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use cepa_control::NetworkSource;

    use super::super::finding::Verdict::{Fail, Pass, Skip, Warn};
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_config_that_is_none_is_told_with_its_key() {
        let (none, findings) = read(None);
        assert!(none.is_none());
        assert_eq!(findings[0].verdict, Skip);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cepa.toml");
        let (absent, findings) = read(Some(&file));
        assert!(absent.is_none());
        assert_eq!(findings[0].verdict, Fail);
        std::fs::write(&file, "bind_ip = 7").unwrap();
        let (_, findings) = read(Some(&file));
        assert!(findings[0].found.contains("`bind_ip`"), "{findings:?}");
        std::fs::write(&file, config().to_toml()).unwrap();
        let (there, findings) = read(Some(&file));
        assert!(there.is_some());
        assert_eq!(findings[0].verdict, Pass, "{findings:?}");
    }

    #[test]
    fn what_run_refuses_fails_here() {
        let mut config = config();
        assert!(judge(&config).is_empty());
        config.testnet = true;
        assert_eq!(judge(&config)[0].verdict, Warn);
        config.testnet = false;
        config.bind_ip = [127, 0, 0, 1].into();
        config.network = NetworkSource::Oxend("ipc:///run/oxend.sock".to_owned());
        assert_eq!(judge(&config)[0].verdict, Fail);
        let loud = Config {
            log_level: "loud".to_owned(),
            ..self::config()
        };
        assert_eq!(judge(&loud)[0].verdict, Fail);
    }
}
