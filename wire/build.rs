//! Says in one line what is missing on the machine: without it, glommio's and ring's own build scripts
//! fail with a stack trace. It stands in the crate that all others wait for, so that it is told first.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    let target = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target != "linux" {
        println!("cargo::error=Cepa runs on Linux only: it is built on io_uring");
    }
    if env::var_os("GLOMMIO_LIBURING_DIR").is_none() && !is_there("git") {
        println!("cargo::error=git is missing, and glommio's build asks for it: install git");
    }
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    if !is_there(&compiler) {
        println!(
            "cargo::error=a C compiler is missing ({compiler}): install one, as with \
             apt-get install build-essential, or name it in CC"
        );
    }
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
