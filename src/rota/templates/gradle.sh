#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Gradle, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "java>=@java@ && gradle"  #: !container !matrix !wrapper
# labels = "java>=@java@"  #: !container !matrix wrapper
# labels = "java={java} && gradle"  #: !container matrix !wrapper
# labels = "java={java}"  #: !container matrix wrapper
# image = "gradle:jdk@java_image@"  #: container !matrix !wrapper
# image = "gradle:jdk{java}"  #: container matrix !wrapper
# image = "eclipse-temurin:@java_image@"  #: container !matrix wrapper
# image = "eclipse-temurin:{java}"  #: container matrix wrapper
# timeout = "45m"
# caches = [ { key = "gradle-{hash:@in@**/*.gradle* @in@**/gradle-wrapper.properties}", restore = ["gradle-"], paths = ["~/.gradle/caches", "~/.gradle/wrapper"] } ]  #: wrapper
# caches = [ { key = "gradle-{hash:@in@**/*.gradle*}", restore = ["gradle-"], paths = ["~/.gradle/caches"] } ]  #: !wrapper
# tests = ["@in@**/build/test-results/**/TEST-*.xml"]
# coverage = ["@in@**/build/reports/jacoco/**/*.xml"]  #: jacoco
# artifacts = ["@in@**/build/libs/*.[jwe]ar"]
#
# [tool.rota.params]
# tasks = { default = "build", description = "what Gradle is to do" }
# args = { default = "", description = "further arguments, such as -Prelease or --info" }
#
# [tool.rota.matrix]  #: matrix
# java = ["@java_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# The cache is in $HOME, whatever the image says.  #: container
export GRADLE_USER_HOME="$HOME/.gradle"  #: container
#  #: container
# --continue: tests that fail in one project hide no failures of another.
gradle --no-daemon --console=plain --continue $tasks $args  #: !wrapper
./gradlew --no-daemon --console=plain --continue $tasks $args  #: wrapper executable
sh gradlew --no-daemon --console=plain --continue $tasks $args  #: wrapper !executable
