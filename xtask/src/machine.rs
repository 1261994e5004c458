//! Where tasks run: the project's directories, the host's name, its commands.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fault::{Fault, Outcome};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where everything is built.
pub(crate) fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root().join("target"),
        |given| root().join(PathBuf::from(given)),
    )
}

/// cargo of a toolchain, or the one that the project pins. What cargo told this task about itself is not
/// passed on.
pub(crate) fn cargo(toolchain: Option<&str>) -> Command {
    let mut command = match toolchain {
        Some(toolchain) => {
            let mut command = Command::new("rustup");
            command.args(["run", toolchain, "cargo"]);
            command.env_remove("RUSTUP_TOOLCHAIN");
            command
        }
        None => Command::new("cargo"),
    };
    for (name, _) in std::env::vars_os() {
        let is_cargos = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|start| name.starts_with(start))
        });
        if is_cargos || name == "CARGO" {
            command.env_remove(name);
        }
    }
    command.current_dir(root());
    command
}

/// Runs a command that speaks for itself.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let status = command.status().map_err(|error| of(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(of(command, &status))
}

/// What a command prints; what it says to standard error is shown only when it fails.
pub(crate) fn output_of(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| of(command, &error))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(of(command, &format!("{}\n{complaint}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of(command: &Command, what: &dyn core::fmt::Display) -> Fault {
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let program = command.get_program().to_string_lossy();
    Fault(format!("{program} {}: {what}", arguments.join(" ")))
}

/// The triple that rustc of a toolchain builds for.
pub(crate) fn host_triple() -> Outcome<String> {
    let told = output_of(Command::new("rustc").arg("-vV").current_dir(root()))?;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Fault("rustc -vV does not tell its host".to_owned()))
}

/// Whether a command can be run.
pub(crate) fn has_command(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(name).is_file())
}

/// Whether this is CI, where what is missing is installed.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Makes sure of a command that a Debian package brings: in CI by installing it.
pub(crate) fn need_package(command: &str, package: &str, why: &str) -> Outcome<()> {
    if has_command(command) {
        return Ok(());
    }
    if is_ci() && has_command("apt-get") {
        // The lists of a new machine are empty.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        return run(install.args(["install", "-y", "-qq", package]));
    }
    let advice = format!("missing: {command} ({why}: for example apt-get install {package})");
    Err(Fault(advice))
}

/// A file's text.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| Fault::of(path, error))
}
