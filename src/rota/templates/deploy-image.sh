#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: a container image, built and pushed"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# labels = "docker"
# concurrency = 1
# timeout = "45m"
# env = { IMAGE = "@image@", REGISTRY_USER = "rota" }
# # Agents that are logged in (docker login) need none: rota secret set REGISTRY_PASSWORD
# secrets = [ { name = "REGISTRY_PASSWORD", optional = true } ]
# finally = 'docker image rm --force "$IMAGE:$version" >/dev/null'
#
# [tool.rota.params]
# version = { description = "the tag, such as 1.4" }
# latest = { default = true, description = "whether it is pushed as latest, too" }
# ///
# shellcheck disable=SC2154  # parameters are variables
set -euo pipefail
cd @path@  #: path

if [ -n "${REGISTRY_PASSWORD:-}" ]; then
  # Not in the agent's own configuration: it goes with this build.
  export DOCKER_CONFIG=$TMPDIR/docker
  docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE%%/*}" <<<"$REGISTRY_PASSWORD"
fi

docker build --pull --file @dockerfile@ --tag "$IMAGE:$version" \
  --label "org.opencontainers.image.version=$version" \
  --label "org.opencontainers.image.revision=${ROTA_GIT_COMMIT:-}" .

docker push "$IMAGE:$version"
if [ "$latest" = true ]; then
  docker tag "$IMAGE:$version" "$IMAGE:latest"
  docker push "$IMAGE:latest"
fi
echo "::notice title=pushed::$IMAGE:$version"
