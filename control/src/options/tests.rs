use cepa_wire::X25519PublicKey;

use super::*;

const FILE: &str = "/data/storage-server.conf";

/// Options of a command line (`name=value` each) and of a file's text.
fn read(line: &[&str], text: &str) -> Result<Options, OptionsError> {
    let mut options = Options::default();
    for option in line {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        options.add(name, value)?;
    }
    options.add_file(text, Path::new(FILE))?;
    Ok(options)
}

fn config(line: &[&str], text: &str) -> Config {
    let options = read(line, text).unwrap();
    options.config(Path::new("/home/x")).unwrap()
}

fn refusal(line: &[&str], text: &str) -> String {
    let outcome = read(line, text).and_then(|options| options.config(Path::new("/home/x")));
    outcome.unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let oxend = |socket: &str| NetworkSource::Oxend(format!("ipc://{socket}/oxend.sock"));
    let table = [
        ("/home/x", "", "/home/x/.oxen", PORTS),
        ("/var/lib/oxen", "", "/var/lib/oxen", PORTS),
        ("/var/lib/loki", "", "/var/lib/loki", PORTS),
        ("/home/x", "testnet", "/home/x/.oxen/testnet", TESTNET_PORTS),
        (
            "/var/lib/oxen",
            "testnet = 1",
            "/var/lib/oxen/testnet",
            TESTNET_PORTS,
        ),
    ];
    for (home, text, base, ports) in table {
        let options = read(&[], text).unwrap();
        let config = options.config(Path::new(home)).unwrap();
        assert_eq!(config.bind_ip, Ipv4Addr::UNSPECIFIED);
        assert_eq!([config.https_port, config.omq_port], ports);
        assert_eq!(config.data_dir, Path::new(base).join("storage"));
        assert_eq!(config.network, oxend(base));
        assert_eq!(config.testnet, !text.is_empty());
        assert!(config.stats_access_keys.is_empty());
        assert!(options.warnings().is_empty() && options.log_level().is_none());
    }
}

#[test]
fn what_is_given_is_taken_and_the_command_line_counts_first() {
    let (a, b) = ("0a".repeat(32), "0b".repeat(32));
    let text = format!(
        "# mine\nomq-port = 1111\nhttps-port=1112\nbind-ip=10.0.0.1\nlog-level = warning\n\
         oxend-rpc = tcp://127.0.0.1:22025\ndata-dir=\"/srv/a b\"\n\
         stats-access-key = {a}\nstats-access-key = {b}\n"
    );
    let from_file = config(&[], &text);
    assert_eq!([from_file.https_port, from_file.omq_port], [1112, 1111]);
    assert_eq!(from_file.bind_ip, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(from_file.data_dir, Path::new("/srv/a b"));
    let oxend = NetworkSource::Oxend("tcp://127.0.0.1:22025".to_owned());
    assert_eq!(from_file.network, oxend);
    let keys = [X25519PublicKey([10; 32]), X25519PublicKey([11; 32])];
    assert_eq!(from_file.stats_access_keys, keys);

    let key = format!("stats-access-key={b}");
    let line = [
        "omq-port=2222",
        key.as_str(),
        "log-level=trace",
        "oxend-rpc=ipc:///o",
    ];
    let both = config(&line, &text);
    assert_eq!([both.https_port, both.omq_port], [1112, 2222]);
    assert_eq!(
        both.stats_access_keys,
        keys[1..],
        "a list counts as a whole"
    );
    assert_eq!(both.network, NetworkSource::Oxend("ipc:///o".to_owned()));
    let level = |line: &[&str]| {
        let options = read(line, &text).unwrap();
        let (place, level) = options.log_level().unwrap();
        (place.to_string(), level.to_owned())
    };
    assert_eq!(level(&line), ("--log-level".to_owned(), "trace".to_owned()));
    let place = format!("{FILE}, line 5: `log-level`");
    assert_eq!(level(&[]), (place, "warning".to_owned()));

    let lists = [
        format!("stats-access-key=[\"{a}\", \"{b}\"]"),
        format!("stats-access-key={a} {b}"),
    ];
    for list in lists {
        assert_eq!(config(&[], &list).stats_access_keys, keys, "{list}");
    }
    let lab = config(&["network-file=net.json"], "");
    assert_eq!(lab.network, NetworkSource::File("net.json".into()));
}

#[test]
fn old_names_are_taken_with_a_warning_each() {
    let options = read(
        &["lmq-port=7", "force-start", "force-start"],
        "port = 8\nip=1.2.3.4\n",
    );
    let options = options.unwrap();
    let config = options.config(Path::new("/home/x")).unwrap();
    assert_eq!([config.https_port, config.omq_port], [8, 7]);
    assert_eq!(config.bind_ip, Ipv4Addr::UNSPECIFIED, "it never meant more");
    let expected = [
        "--lmq-port is the old name of --omq-port: use that".to_owned(),
        "--force-start has no effect: a node always starts, and serves when it is in a swarm"
            .to_owned(),
        format!("{FILE}, line 1: `port` is the old name of --https-port: use that"),
        format!("{FILE}, line 2: `ip` has no effect: the address to listen on is --bind-ip"),
    ];
    assert_eq!(options.warnings(), expected);

    for known in names::NAMES {
        let options = read(&[&format!("{}=1", known.name)], "").unwrap();
        let count = usize::from(known.meaning != Meaning::Option);
        assert_eq!(options.warnings().len(), count, "{}", known.name);
        if let Meaning::Alias(of) = known.meaning {
            assert_eq!(names::find(of).unwrap().meaning, Meaning::Option);
        }
    }
}

#[test]
fn what_is_wrong_is_told_by_its_name() {
    let many = format!(
        "stats-access-key={}",
        ["0a".repeat(32).as_str(); 65].join(",")
    );
    let table: [(&[&str], &str, &str); 18] = [
        (
            &["fast"],
            "",
            "--fast is unknown: the options are data-dir, log-level",
        ),
        (&[], "omq_port=1", "line 1: `omq_port` is unknown"),
        (&[], "a.b=1", "line 1: `a.b` is unknown"),
        (&[], "\n[server]", "line 2: this must be `key = value`"),
        (
            &["omq-port=0"],
            "",
            "--omq-port must be a port from 1 to 65535, not \"0\"",
        ),
        (&["omq-port=70000"], "", "--omq-port must be a port"),
        (&[], "lmq-port=x", "line 1: `lmq-port` must be a port"),
        (
            &["omq-port=1", "lmq-port=1"],
            "",
            "--lmq-port is given a second time",
        ),
        (
            &[],
            "omq-port=1\nomq-port=2",
            "line 2: `omq-port` is given a second time",
        ),
        (
            &["omq-port=7", "https-port=7"],
            "",
            "can't both listen on port 7",
        ),
        (&["bind-ip=::1"], "", "--bind-ip must be an IPv4 address"),
        (
            &["bind-ip=localhost"],
            "",
            "--bind-ip must be an IPv4 address",
        ),
        (
            &["oxend-rpc=/run/oxend.sock"],
            "",
            "--oxend-rpc must be ipc:///PATH",
        ),
        (
            &["data-dir="],
            "",
            "--data-dir must be the path of a directory, not \"\"",
        ),
        (&["testnet=maybe"], "", "--testnet must be true or false"),
        (
            &["stats-access-key=07"],
            "",
            "--stats-access-key must be an X25519 key",
        ),
        (&[&many], "", "--stats-access-key must be an X25519 key"),
        (
            &["oxend-rpc=ipc:///o"],
            "network-file=n",
            "line 1: `network-file` and --oxend-rpc both",
        ),
    ];
    for (line, text, expected) in table {
        let refusal = refusal(line, text);
        assert!(refusal.contains(expected), "{refusal}");
        assert!(text.is_empty() || refusal.starts_with(FILE), "{refusal}");
    }
}
