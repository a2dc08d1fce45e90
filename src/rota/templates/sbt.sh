#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: sbt, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "java>=@java@ && sbt"  #: !container
# # sbt itself is fetched in the version that project/build.properties asks for.  #: container
# image = "sbtscala/scala-sbt:eclipse-temurin-17.0.4_1.7.1_3.2.0"  #: container
# timeout = "1h"
# caches = [ { key = "sbt-{hash:@in@**/*.sbt @in@project/build.properties}", restore = ["sbt-"], paths = ["~/.cache/coursier", "~/.ivy2/cache", "~/.sbt/boot"] } ]
# tests = ["@in@**/target/**/test-reports/*.xml"]
# coverage = ["@in@**/target/**/coverage-report/cobertura.xml"]  #: scoverage
# artifacts = ["@in@**/target/scala-*/*.jar"]
#
# [tool.rota.params]
# args = { default = "", description = "further commands of sbt, such as scalafmtCheckAll" }
#
# [tool.rota.matrix]  #: matrix
# scala = ["@scala_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# Java asks the image's list of users where home is; the cache is in $HOME.  #: container
export SBT_OPTS="${SBT_OPTS:-} -Duser.home=$HOME"  #: container
#  #: container
# Plain lines: no progress bars, no colour.
sbt -Dsbt.supershell=false -Dsbt.color=false -Dsbt.log.noformat=true $args test package  #: !scoverage !matrix
sbt -Dsbt.supershell=false -Dsbt.color=false -Dsbt.log.noformat=true $args coverage test coverageReport coverageOff package  #: scoverage !matrix
sbt -Dsbt.supershell=false -Dsbt.color=false -Dsbt.log.noformat=true $args "++$scala" test package  #: matrix
