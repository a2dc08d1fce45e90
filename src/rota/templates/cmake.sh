#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: CMake, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "cmake>=@cmake@ && (gcc || clang)"  #: !container
# image = "@image@"  #: container
# timeout = "45m"
# tests = ["@in@build/junit.xml"]
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of cmake, such as -DWITH_TLS=ON" }
#
# [tool.rota.matrix]  #: matrix
# build_type = ["@build_type_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# The image has compilers, and no CMake.  #: container
apt-get -qq update && apt-get -qq install -y --no-install-recommends cmake >/dev/null  #: container
#  #: container
cmake --version
cmake -S . -B build -DCMAKE_BUILD_TYPE=@build_type@ $args  #: !matrix
cmake -S . -B build -DCMAKE_BUILD_TYPE="$build_type" $args  #: matrix
cmake --build build --parallel "$(nproc)"

cd build
# ctest writes JUnit since 3.21.
report=()
if [[ $(ctest --help) == *--output-junit* ]]; then report=(--output-junit junit.xml); fi
ctest --output-on-failure "${report[@]}"
