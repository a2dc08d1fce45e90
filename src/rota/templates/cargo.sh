#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: cargo, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# image = "rust:@rust_image@"  #: container !matrix
# image = "rust:{rust}"  #: container matrix
# timeout = "45m"
# caches = [ { key = "cargo-{hash:@in@Cargo.lock}", restore = ["cargo-"], paths = ["~/.cargo/registry", "~/.cargo/git", "@in@target"] } ]  #: lock !matrix
# caches = [ { key = "cargo-{hash:@in@**/Cargo.toml}", restore = ["cargo-"], paths = ["~/.cargo/registry", "~/.cargo/git", "@in@target"] } ]  #: !lock !matrix
# caches = [ { key = "cargo-{rust}-{hash:@in@**/Cargo.toml}", restore = ["cargo-{rust}-"], paths = ["~/.cargo/registry", "~/.cargo/git", "@in@target"] } ]  #: matrix
# tests = ["@in@tests.tap"]  #: !nextest
# tests = ["@in@target/nextest/@profile@/junit.xml"]  #: nextest
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of cargo, such as --all-features" }
#
# [tool.rota.matrix]  #: matrix
# rust = ["@rust_axis@"]  #: matrix !container
# rust = ["@rust_image_axis@"]  #: matrix container
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# Where rustup puts cargo, unless it is installed for all.  #: !container
PATH="$HOME/.cargo/bin:$PATH"  #: !container
#  #: !container
# rustup fetches a toolchain that is not there yet.  #: matrix !container
rustup toolchain install --profile minimal "$rust"  #: matrix !container
export RUSTUP_TOOLCHAIN=$rust  #: matrix !container
#  #: matrix !container
# The caches are in $HOME, wherever the image keeps its own.  #: container
export CARGO_HOME="$HOME/.cargo"  #: container
#  #: container
export CARGO_TERM_COLOR=never
cargo --version
cargo build --workspace --all-targets --locked $args  #: lock
cargo build --workspace --all-targets $args  #: !lock

cargo nextest run --workspace --no-fail-fast --profile @profile@ --locked $args  #: nextest lock
cargo nextest run --workspace --no-fail-fast --profile @profile@ $args  #: nextest !lock
# nextest runs no examples in comments.  #: nextest
cargo test --workspace --doc $args  #: nextest library
cargo test --workspace --no-fail-fast --locked $args 2>&1 | tee tests.out || failed=$?  #: !nextest lock
cargo test --workspace --no-fail-fast $args 2>&1 | tee tests.out || failed=$?  #: !nextest !lock
#  #: !nextest
# cargo's own runner writes no file that others read: its lines as TAP, each test under its crate.  #: !nextest
awk '$1 == "Running" { crate = $NF; sub(/.*\//, "", crate); sub(/-[0-9a-f]+\)?$/, "", crate) }  #: !nextest
  $1 == "Doc-tests" { crate = $2 }  #: !nextest
  /^test .* \.\.\. (ok|FAILED|ignored)/ {  #: !nextest
    word = $0; sub(/.* \.\.\. /, "", word)  #: !nextest
    name = $0; sub(/^test /, "", name); sub(/ \.\.\. .*/, "", name)  #: !nextest
    print (word ~ /^FAILED/ ? "not ok - " : "ok - ") crate "::" name (word ~ /^ignored/ ? " # SKIP" : "")  #: !nextest
    n++  #: !nextest
  }  #: !nextest
  END { print "1.." n + 0 }' tests.out >tests.tap  #: !nextest
exit "${failed:-0}"  #: !nextest
