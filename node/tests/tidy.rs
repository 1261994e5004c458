//! What the compiler does not hold: who imports whom, how large a file may be, where unsafe code
//! stands, and that nothing is left half done.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test ends it"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The import table of ARCHITECTURE.md: what each crate may name of ours.
const MAY_IMPORT: [(&str, &[&str]); 17] = [
    ("meter", &[]),
    ("tls", &[]),
    ("wire", &[]),
    ("crypto", &["wire"]),
    ("relay", &["meter", "wire", "crypto"]),
    ("storage", &["meter", "wire"]),
    ("swarm", &["wire", "crypto", "storage"]),
    (
        "control",
        &[
            "meter", "tls", "wire", "crypto", "relay", "storage", "swarm",
        ],
    ),
    (
        "host",
        &["meter", "wire", "crypto", "relay", "storage", "swarm"],
    ),
    ("client", &["tls", "wire", "crypto"]),
    ("edge", &["meter", "wire", "crypto", "relay", "swarm"]),
    ("load", &["tls", "wire", "crypto", "client"]),
    ("node", ALL),
    ("lab", &["wire", "crypto"]),
    ("benches", ALL),
    (
        "benches/instructions",
        &["wire", "crypto", "relay", "storage"],
    ),
    ("xtask", &[]),
];

const ALL: &[&str] = &[
    "meter", "tls", "wire", "crypto", "relay", "storage", "swarm", "control", "host", "client",
    "edge", "load",
];

/// Crates of others that only some of ours may name.
const MAY_NAME: [(&[&str], &[&str]); 7] = [
    // The reactor of the control plane stays out of the data plane.
    (
        &["tokio", "tokio-rustls", "hyper-util"],
        &["control", "client", "edge", "load", "node", "lab"],
    ),
    (&["quinn", "rustls-native-certs"], &["edge"]),
    (
        &[
            "futures-rustls",
            "glommio",
            "io-uring",
            "landlock",
            "libc",
            "seccompiler",
        ],
        &["host"],
    ),
    // Only node has a screen.
    (&["ratatui"], &["node"]),
    // Messages are kept in our own log: SQLite is read by the import, and measured against.
    (&["rusqlite"], &["node", "benches"]),
    // Who is trusted by which certificate is said in few places.
    (
        &["rustls"],
        &["tls", "control", "host", "client", "edge", "benches"],
    ),
    // Ciphers are chosen in one place.
    (
        &[
            "aes",
            "aws-lc-rs",
            "blake2",
            "blake3",
            "cbc",
            "chacha20",
            "curve25519-dalek",
            "ed25519-dalek",
            "ml-kem",
            "poly1305",
            "polyval",
            "salsa20",
            "snow",
            "x25519-dalek",
        ],
        &["crypto"],
    ),
];

/// Lines of a file without its tests.
const LINE_COUNT_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

fn read_toml(path: &Path) -> toml::Table {
    let parsed = read(path).parse();
    parsed.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// Every file of the project below its root, relative to it.
fn files() -> Vec<PathBuf> {
    // What is built, cloned or found by a fuzzer is not the project's.
    const NOT_OURS: [&str; 7] = [
        "target",
        ".git",
        "devnet",
        "corpus",
        "artifacts",
        "coverage",
        "seeds",
    ];
    let root = root();
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let kind = entry.file_type().unwrap();
            if kind.is_file() {
                files.push(entry.path().strip_prefix(&root).unwrap().to_owned());
            } else if kind.is_dir() && !NOT_OURS.iter().any(|other| name == *other) {
                directories.push(entry.path());
            }
        }
    }
    assert!(
        files.len() > 50,
        "the project is not where it is looked for"
    );
    files
}

/// The Rust files with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let with_text = |path: PathBuf| {
        let text = read(&root().join(&path));
        (path, text)
    };
    files().into_iter().filter(is_rust).map(with_text).collect()
}

/// What a crate builds with, tests aside.
fn dependencies(name: &str) -> Vec<String> {
    let manifest = read_toml(&root().join(name).join("Cargo.toml"));
    assert!(
        !manifest.contains_key("target"),
        "{name}: dependencies of one target escape the table"
    );
    ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .collect()
}

#[test]
fn the_import_table_holds() {
    let workspace = read_toml(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<_> = members.iter().map(|name| name.as_str().unwrap()).collect();
    let table: BTreeSet<_> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, table, "a crate is not in the table");
    for (name, allowed) in MAY_IMPORT {
        for dependency in dependencies(name) {
            if let Some(ours) = dependency.strip_prefix("cepa-") {
                assert!(allowed.contains(&ours), "{name} must not import {ours}");
            }
        }
    }
}

#[test]
fn crates_of_others_are_named_where_they_may_be() {
    for (name, _) in MAY_IMPORT {
        for dependency in dependencies(name) {
            for (others, allowed) in MAY_NAME {
                assert!(
                    !others.contains(&dependency.as_str()) || allowed.contains(&name),
                    "{name} must not name {dependency}"
                );
            }
        }
    }
}

/// A path below `tests/`, or a module of tests in a file of its own.
fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests") || path.ends_with("tests.rs")
}

/// The lines before the tests, which stand last in a file.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().peekable();
    core::iter::from_fn(move || {
        let line = lines.next()?;
        let next = lines.peek().copied().unwrap_or_default();
        let is_end = line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{');
        (!is_end).then_some(line)
    })
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in sources() {
        let count = code(&text).count();
        assert!(
            is_test(&path) || count <= LINE_COUNT_MAX,
            "{} has {count} lines of code, more than {LINE_COUNT_MAX}",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_half_done() {
    const KINDS: [&str; 5] = ["rs", "toml", "md", "sh", "py"];
    // Put together here, so that this file does not find itself.
    let marks = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for path in files() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| KINDS.contains(&extension)) {
            continue;
        }
        let text = read(&root().join(&path));
        for (line, number) in text.lines().zip(1..) {
            for mark in marks {
                assert!(!line.contains(mark), "{}:{number}: {mark}", path.display());
            }
        }
    }
}

/// Where unsafe code may stand: beside the system calls and the memory that the kernel writes to.
const MAY_BE_UNSAFE: [&str; 10] = [
    "crypto/src/x25519/ifma.rs",
    "host/src/packet_io/socket.rs",
    "host/src/packet_io/uring/buffers.rs",
    "host/src/packet_io/uring/ring.rs",
    "host/src/packet_io/xdp/bpf.rs",
    "host/src/packet_io/xdp/link.rs",
    "host/src/packet_io/xdp/mapping.rs",
    "host/src/packet_io/xdp/ring.rs",
    "host/src/packet_io/xdp/umem.rs",
    "host/src/probe/clock.rs",
];

#[test]
fn unsafe_code_stands_where_it_may() {
    const WORD: &str = "unsafe";
    for (name, _) in MAY_IMPORT {
        let source = root().join(name).join("src");
        let crate_root = ["lib.rs", "main.rs"]
            .map(|file| source.join(file))
            .into_iter()
            .find(|file| file.is_file())
            .unwrap_or_else(|| panic!("{name} has no root"));
        let level = if matches!(name, "host" | "crypto") {
            "deny"
        } else {
            "forbid"
        };
        let expected = format!("#![{level}({WORD}_code)]");
        let has_it = read(&crate_root).lines().any(|line| line == expected);
        assert!(has_it, "{name} does not say {expected}");
    }
    for (path, text) in sources() {
        let is_unsafe = |line: &str| {
            let line = line.split("//").next().unwrap_or_default();
            [" {", " fn", " impl", " extern", "("]
                .iter()
                .any(|after| line.contains(&format!("{WORD}{after}")))
        };
        let found = text.lines().position(is_unsafe);
        let may_be = MAY_BE_UNSAFE
            .iter()
            .any(|allowed| path == Path::new(allowed));
        assert!(
            may_be || found.is_none(),
            "{}:{}: unsafe code where there may be none",
            path.display(),
            found.unwrap_or_default() + 1
        );
        assert!(
            !may_be || found.is_some(),
            "{}: has no unsafe code any more; take it from the table",
            path.display()
        );
    }
}

#[test]
fn there_is_no_mod_rs() {
    for path in files() {
        assert!(
            !path.ends_with("mod.rs"),
            "{}: foo.rs and foo/",
            path.display()
        );
    }
}

#[test]
fn every_fuzz_target_is_seeded_and_run() {
    let fuzz = root().join("fuzz");
    let manifest = read_toml(&fuzz.join("Cargo.toml"));
    let dictionaries = read_toml(&fuzz.join("dictionaries/targets.toml"));
    let mut names = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for binary in manifest["bin"].as_array().unwrap() {
        let name = binary["name"].as_str().unwrap();
        names.insert(name);
        paths.insert(fuzz.join(binary["path"].as_str().unwrap()));
        let seeds = fuzz.join("seeds").join(name);
        let count = fs::read_dir(&seeds).map_or(0, Iterator::count);
        assert!(count > 0, "{} has no seed", seeds.display());
        let dictionary = dictionaries.get(name).and_then(|value| value.as_str());
        let dictionary = dictionary.unwrap_or_else(|| panic!("{name} has no dictionary"));
        let file = fuzz.join("dictionaries").join(format!("{dictionary}.dict"));
        check_dictionary(&file);
    }
    for name in dictionaries.keys() {
        assert!(names.contains(name.as_str()), "{name} is no fuzz target");
    }
    for entry in fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        assert!(
            !is_rust || paths.contains(&path),
            "{} is no target",
            path.display()
        );
    }
    // Both take every target that the manifest names; what must crash is none of them.
    let checks = read(&root().join(".ci/run"));
    assert!(checks.contains("cargo xtask fuzz\n"));
    let script = read(&root().join(".clusterfuzzlite/build.sh"));
    assert!(script.contains("cargo fuzz list"));
    assert!(!names.contains("canary"));
}

/// Every line is a comment or `"a token"` with plain escapes.
fn check_dictionary(path: &Path) {
    let text = read(path);
    let mut count = 0;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = line
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let is_plain = token.is_some_and(|token| !token.is_empty() && !token.contains('"'));
        assert!(is_plain, "{}: {line}", path.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", path.display());
}

#[test]
fn the_checks_run_what_is_promised() {
    let checks = read(&root().join(".ci/run"));
    for command in [
        "cargo fmt --all -- --check",
        "cargo clippy --workspace --all-targets -- -D warnings",
        "cargo test --workspace",
        "cargo xtask fuzz",
        "cargo xtask instructions",
        "cargo doc --workspace --no-deps",
        "cargo run --release -- devnet --once",
        "config/check_monitoring.sh \"$CARGO_TARGET_DIR/release/cepa\"",
    ] {
        assert!(
            checks.contains(&format!("{command}\n")),
            ".ci/run does not run {command}"
        );
    }
}
