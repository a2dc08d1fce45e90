#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: make, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "make && (gcc || clang)"  #: !container !matrix
# labels = "make && {cc}"  #: !container matrix
# image = "gcc:14"  #: container !matrix
# image = "debian:12"  #: container matrix
# timeout = "30m"
# artifacts = ["@in@config.log"]  #: autotools
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of make, such as V=1" }
#
# [tool.rota.matrix]  #: matrix
# cc = ["@cc_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

apt-get -qq update && apt-get -qq install -y --no-install-recommends build-essential autoconf automake "$cc" >/dev/null  #: container matrix
export CC=$cc  #: matrix
autoreconf --force --install  #: autoreconf
./configure  #: autotools configure|autoreconf executable
sh configure  #: autotools configure !executable !autoreconf
make -j"$(nproc)" $args
make check $args  #: check
make test $args  #: test !check
