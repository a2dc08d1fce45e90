#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Maven, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "java>=@java@ && mvn"  #: !container !matrix !wrapper
# labels = "java>=@java@"  #: !container !matrix wrapper
# labels = "java={java} && mvn"  #: !container matrix !wrapper
# labels = "java={java}"  #: !container matrix wrapper
# image = "maven:3-eclipse-temurin-@java_image@"  #: container !matrix
# image = "maven:3-eclipse-temurin-{java}"  #: container matrix
# timeout = "45m"
# caches = [ { key = "maven-{hash:@in@**/pom.xml}", restore = ["maven-"], paths = ["~/.m2/repository"] } ]
# tests = ["@in@**/target/surefire-reports/TEST-*.xml"]  #: !failsafe
# tests = ["@in@**/target/surefire-reports/TEST-*.xml", "@in@**/target/failsafe-reports/TEST-*.xml"]  #: failsafe
# coverage = ["@in@**/target/site/jacoco*/jacoco.xml"]  #: jacoco
# artifacts = ["@in@**/target/*.[jwe]ar"]
#
# [tool.rota.params]
# args = { default = "", description = "further arguments, such as -Pfast or -DskipTests" }
#
# [tool.rota.matrix]  #: matrix
# java = ["@java_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# Not a line for each file that is fetched. (Maven before 3.6.1 knows no --no-transfer-progress.)
export MAVEN_OPTS="${MAVEN_OPTS:-} -Dorg.slf4j.simpleLogger.log.org.apache.maven.cli.transfer.Slf4jMavenTransferListener=warn"

# Java asks the image's list of users where home is; the cache is in $HOME.  #: container
MAVEN_OPTS+=" -Duser.home=$HOME"  #: container
#  #: container
# A module whose tests fail keeps no other from being built, unless that one needs it.
mvn --batch-mode --show-version --fail-at-end verify $args  #: !wrapper
./mvnw --batch-mode --show-version --fail-at-end verify $args  #: wrapper executable
sh mvnw --batch-mode --show-version --fail-at-end verify $args  #: wrapper !executable
