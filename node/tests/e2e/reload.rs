//! SIGHUP: a running node reads its config again.

use std::fs;

use crate::kill::{Process, rpc};
use crate::network::{account, store};
use crate::supervised::{Supervised, by_config};

/// How many of as many requests are served.
fn served(port: u16, count: usize) -> usize {
    let request = store(account(1).id(), b"again and again");
    (0..count).filter(|_| rpc(port, &request).is_some()).count()
}

fn reload(node: &mut Supervised) {
    node.signal("HUP");
    node.wait_for("RELOADING=1");
    node.wait_for("READY=1");
}

#[test]
fn a_node_takes_what_it_can_and_names_the_rest() {
    let process = Process::new();
    let path = |name: &str| process.dir.path().join(name);
    // On loopback there is no rate limit, nor for who comes from an address of the network.
    let network = fs::read_to_string(path("network.json")).unwrap();
    fs::write(
        path("network.json"),
        network.replace("127.0.0.1", "127.0.0.2"),
    )
    .unwrap();
    let config = fs::read_to_string(path("cepa.toml")).unwrap();
    let config = config.replace("127.0.0.1", "0.0.0.0") + "packet_lane = false\nquic = false\n";
    fs::write(path("cepa.toml"), &config).unwrap();
    let mut node = Supervised::start(process.dir.path(), by_config(&process));
    node.wait_for("READY=1");
    let port = process.port;
    assert_eq!(served(port, 20), 20);

    let slow = format!("{config}rate_limit_per_second = 1\nrate_limit_burst = 1\n");
    fs::write(path("cepa.toml"), &slow).unwrap();
    reload(&mut node);
    assert!(served(port, 40) < 40, "the new limit counts");

    fs::write(
        path("cepa.toml"),
        format!("{slow}stats_access_keys = [\"07secret\"]\n"),
    )
    .unwrap();
    reload(&mut node);
    assert!(served(port, 40) < 40, "what is refused changes nothing");

    let other = config.replace("segment_size_mib = 4", "segment_size_mib = 8");
    fs::write(path("cepa.toml"), &other).unwrap();
    reload(&mut node);
    assert_eq!(served(port, 40), 40);

    node.signal("TERM");
    let (code, log) = node.end();
    assert_eq!(code, Some(0), "{log}");
    let counted = |words: &[&str]| {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(has_all).count()
    };
    let limits = "taken=rate_limit_per_second, rate_limit_burst";
    assert_eq!(counted(&["the config was read again", limits]), 2, "{log}");
    assert_eq!(
        counted(&["the config is wrong", "line=", "stats_access_keys"]),
        1,
        "{log}"
    );
    assert_eq!(counted(&["goes on with what it has"]), 1, "{log}");
    assert_eq!(
        counted(&["after a restart", "keys=segment_size_mib"]),
        1,
        "{log}"
    );
    assert!(!log.contains("07secret"), "{log}");
}
