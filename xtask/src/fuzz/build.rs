//! Builds the targets with coverage that libFuzzer can follow: what cargo-fuzz does, on stable too.

use std::path::PathBuf;

use crate::fault::{Fault, Outcome};
use crate::machine;

/// What builds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// The pinned toolchain: coverage only.
    Stable,
    /// Coverage and `AddressSanitizer`.
    Nightly,
}

/// What cargo-fuzz passes without a sanitizer.
const FLAGS: [&str; 7] = [
    "--cfg fuzzing",
    "-Ccodegen-units=4",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

impl Engine {
    fn toolchain(self) -> Option<&'static str> {
        (self == Self::Nightly).then_some("nightly")
    }

    fn flags(self) -> String {
        let flags = FLAGS.join(" ");
        match self {
            Self::Stable => flags,
            Self::Nightly => format!("{flags} -Zsanitizer=address"),
        }
    }

    /// Each has a directory of its own: other flags would rebuild what stands in a shared one.
    fn directory(self) -> PathBuf {
        let name = match self {
            Self::Stable => "fuzz",
            Self::Nightly => "fuzz-address",
        };
        machine::target_directory().join(name)
    }
}

/// Builds the targets of these names, or all, and the canary; gives the directory of the binaries.
pub(super) fn build(engine: Engine, names: &[String]) -> Outcome<PathBuf> {
    machine::need_package("c++", "g++", "libFuzzer is written in C++")?;
    if engine == Engine::Nightly && !machine::has_command("rustup") {
        let advice = "--engine nightly needs rustup and its toolchain `nightly`";
        return Err(Fault(advice.to_owned()));
    }
    let host = machine::host_triple()?;
    let directory = engine.directory();
    let mut command = machine::cargo(engine.toolchain());
    command
        .current_dir(machine::root().join("fuzz"))
        .env("RUSTFLAGS", engine.flags())
        .env("CARGO_TARGET_DIR", &directory)
        .args([
            "build",
            "--quiet",
            "--release",
            "--workspace",
            "--target",
            &host,
        ]);
    if names.is_empty() {
        command.arg("--bins");
    } else {
        command.args(["--bin", "canary"]);
        for name in names {
            command.args(["--bin", name]);
        }
    }
    machine::run(&mut command)?;
    Ok(directory.join(host).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nightly_has_a_sanitizer() {
        assert!(Engine::Nightly.flags().contains("-Zsanitizer=address"));
        assert!(!Engine::Stable.flags().contains("-Z"));
        assert_ne!(Engine::Stable.directory(), Engine::Nightly.directory());
    }
}
