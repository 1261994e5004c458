//! Which admin endpoint is asked.

use std::path::{Path, PathBuf};

use cepa_control::Config;

use crate::failure::Failure;

/// Where a node's config stands when nothing is said: where packages put it, or here.
const CONFIG_FILES: [&str; 2] = ["/etc/cepa/cepa.toml", "cepa.toml"];

/// The address that the command line names, or that a config has.
pub(super) fn find(admin: Option<&str>, config: Option<&Path>) -> Result<String, Failure> {
    if let Some(address) = admin {
        return Ok(address.to_owned());
    }
    let file = match config {
        Some(file) => file.to_owned(),
        None => installed_config()?,
    };
    let config = Config::read(&file).map_err(|fault| {
        Failure::new(format!(
            "{fault}; or give the address with --admin 127.0.0.1:PORT"
        ))
    })?;
    match config.admin_listen {
        Some(address) => Ok(address.to_string()),
        None => Err(Failure::new(format!(
            "{} has no key `admin_listen`: set admin_listen = \"127.0.0.1:9100\" there and start the \
             node again",
            file.display()
        ))),
    }
}

fn installed_config() -> Result<PathBuf, Failure> {
    let mut files = CONFIG_FILES.iter().map(PathBuf::from);
    let found = files.find(|file| file.is_file());
    found.ok_or_else(|| {
        let [first, second] = CONFIG_FILES;
        Failure::new(format!(
            "there is no {first} and no {second} here: give --config FILE, or --admin 127.0.0.1:PORT \
             with the node's admin_listen"
        ))
    })
}

/// `HOST:PORT`, for the command line.
pub(super) fn parse_address(text: &str) -> Result<String, String> {
    let is_one = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        !host.is_empty()
            && host.chars().all(is_plain)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("it must be HOST:PORT, as admin_listen in the node's config".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:9100", "localhost:1", "[::1]:9100"] {
            assert_eq!(parse_address(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "9100",
            ":9100",
            "a:",
            "a:0",
            "a:70000",
            "http://a:1",
            "a b:1",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
