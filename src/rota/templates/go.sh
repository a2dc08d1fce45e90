#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Go, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "go>=@go@"  #: !container !matrix
# labels = "go={go}"  #: !container matrix
# image = "golang:@go_image@"  #: container !matrix
# image = "golang:{go}"  #: container matrix
# timeout = "30m"
# caches = [ { key = "go-{hash:@in@**/go.sum}", restore = ["go-"], paths = ["~/go/pkg/mod", "~/.cache/go-build"] } ]
# tests = ["@in@tests.tap"]
# coverage = ["@in@coverage.out"]
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of go test, such as -race or -short" }
#
# [tool.rota.matrix]  #: matrix
# go = ["@go_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# Where the caches above are, also in images that keep them elsewhere.  #: container
export GOPATH="$HOME/go" GOCACHE="$HOME/.cache/go-build"  #: container
#  #: container
go version

# All modules of go.work.  #: workspace
mapfile -t packages < <(go list -m -f '{{.Dir}}/...')  #: workspace
go build "${packages[@]}"  #: workspace
go vet "${packages[@]}"  #: workspace
go build ./...  #: !workspace
go vet ./...  #: !workspace

# go test writes no file that others read; its lines are easily put into TAP.
tap='s/^ *--- PASS: ([^ ]+).*/ok - \1/p; s/^ *--- FAIL: ([^ ]+).*/not ok - \1/p; s/^ *--- SKIP: ([^ ]+).*/ok - \1 # SKIP/p'
go test -v -coverprofile=coverage.out $args "${packages[@]}" 2>&1 | tee tests.out || failed=$?  #: workspace
go test -v -coverprofile=coverage.out $args ./... 2>&1 | tee tests.out || failed=$?  #: !workspace
sed -nE "$tap" tests.out >tests.tap
echo "1..$(wc -l <tests.tap)" >>tests.tap
exit "${failed:-0}"
