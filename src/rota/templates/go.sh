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

go test -v -coverprofile=coverage.out $args "${packages[@]}" 2>&1 | tee tests.out || failed=$?  #: workspace
go test -v -coverprofile=coverage.out $args ./... 2>&1 | tee tests.out || failed=$?  #: !workspace

# go test writes no file that others read: its lines as TAP, each test under its package.
awk '/^ *--- (PASS|FAIL|SKIP): / { word[++n] = $2; name[n] = $3; time[n] = substr($4, 2, length($4) - 2) }
  /^(ok|FAIL)[ \t]+[^ \t]/ {
    for (i = 1; i <= n; i++)
      print (word[i] == "FAIL:" ? "not ok - " : "ok - ") $2 "." name[i] (word[i] == "SKIP:" ? " # SKIP" : " # time=" time[i])
    all += n; n = 0
  }
  END { print "1.." all + 0 }' tests.out >tests.tap
exit "${failed:-0}"
