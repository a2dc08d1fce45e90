#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: a container image"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "docker"
# timeout = "45m"
# env = { IMAGE = "@image@" }
# # The image of this build goes when it is over; deploy-image pushes one.
# finally = 'docker image rm --force "$IMAGE:build-$ROTA_NUMBER" >/dev/null'
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of docker build, such as --no-cache" }
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

docker build --pull --file @dockerfile@ --tag "$IMAGE:build-$ROTA_NUMBER" $args .
docker image inspect --format '{{.Id}}, {{.Size}} bytes' "$IMAGE:build-$ROTA_NUMBER"

# Does what is in it start? A program that ends by itself is the simplest test.
# docker run --rm "$IMAGE:build-$ROTA_NUMBER" --version
