#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Ruby by Bundler, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "ruby>=@ruby@"  #: !container !matrix
# labels = "ruby={ruby}"  #: !container matrix
# image = "ruby:@ruby_image@"  #: container !matrix
# image = "ruby:{ruby}"  #: container matrix
# timeout = "30m"
# caches = [ { key = "gems-{hash:@in@Gemfile.lock}", restore = ["gems-"], paths = ["@in@vendor/bundle"] } ]  #: lock
# caches = [ { key = "gems-{hash:@in@Gemfile}", restore = ["gems-"], paths = ["@in@vendor/bundle"] } ]  #: !lock
# tests = ["@in@junit.xml"]  #: rspec_junit
# artifacts = ["@in@pkg/*.gem"]  #: gem
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of the tests" }
#
# [tool.rota.matrix]  #: matrix
# ruby = ["@ruby_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

ruby --version
export BUNDLE_PATH=vendor/bundle BUNDLE_JOBS=4
export BUNDLE_FROZEN=true  #: lock
bundle install

bundle exec rspec --format documentation --format RspecJunitFormatter --out junit.xml $args  #: rspec rspec_junit
# Add the gem rspec_junit_formatter, and rota shows each test.  #: rspec !rspec_junit
bundle exec rspec --format documentation $args  #: rspec !rspec_junit
bundle exec rake $args  #: rake !rspec
bundle exec rake build  #: gem
