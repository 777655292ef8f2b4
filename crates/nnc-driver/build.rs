//! Builds `nnc-stub`, the program that `nnc build` makes executables from, and leaves it in `OUT_DIR` for
//! `src/executable` to embed: once for numbers and images alone, and once with all decoders. So a plain `cargo build`
//! suffices, and a built `nnc` needs no toolchain.
//!
//! The stub is built by a cargo of its own: it needs another profile, other features of the shared
//! crates, and must not unwind. Its target directory is its own, so the two cargos wait for no lock
//! of each other; the job server is shared through the environment.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables of the outer build that must not reach the stub. Flags meant for `nnc` (such as
/// `target-cpu=native` or coverage) would make executables that run only here; clippy's wrapper
/// would be a second linting; the others move the output.
const NOT_INHERITED: [&str; 7] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
];

/// What the stub is made of, seen from this crate.
const SOURCES: [&str; 8] = [
    "../nnc-stub/src",
    "../nnc-stub/Cargo.toml",
    "../nnc-runtime/src",
    "../nnc-runtime/Cargo.toml",
    "../nnc-data/src",
    "../nnc-data/Cargo.toml",
    "../../Cargo.toml",
    "build.rs",
];

/// The programs and the features they are built with.
const STUBS: [(&str, &str); 2] = [("nnc-stub", ""), ("nnc-stub-full", "sound,text")];

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    for (name, features) in STUBS {
        let built = build_stub(&stub_target(&out), features);
        if let Err(error) = std::fs::copy(&built, out.join(name)) {
            panic!("{}: {error}", built.display());
        }
    }
}

/// Where the stub is built: beside the profiles of this build, so that all of them share it. Cargo
/// marks the root of a target directory with a tag; where there is none, in `OUT_DIR`.
fn stub_target(out: &Path) -> PathBuf {
    let root = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    root.unwrap_or(out).join("nnc-stub-target")
}

fn build_stub(target_dir: &Path, features: &str) -> PathBuf {
    let (host, target) = (variable("HOST"), variable("TARGET"));
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--package", "nnc-stub", "--bin", "nnc-stub", "--profile", "stub", "--manifest-path"]);
    cargo.args(["../nnc-stub/Cargo.toml", "--no-default-features", "--features", features]);
    cargo.arg("--target-dir").arg(target_dir);
    let mut built = target_dir.to_owned();
    if host != target {
        cargo.args(["--target", &target]);
        built.push(&target);
    }
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    match cargo.status() {
        Ok(status) if status.success() => built.join("stub").join("nnc-stub"),
        Ok(status) => panic!("building nnc-stub failed ({status})"),
        Err(error) => panic!("cargo could not be started to build nnc-stub: {error}"),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
