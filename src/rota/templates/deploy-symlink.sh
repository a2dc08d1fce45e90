#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: a release beside the one that is served, and a link that changes over"
# # What that build has to have left is in the workspace when the script begins.
# needs = [ { job = "@build@", artifacts = ["@files@"] } ]
# # Two at once would undo each other.
# concurrency = 1
# timeout = "15m"
# # The key of who deploys, if the agents' own will not do: rota secret set DEPLOY_KEY --file id_ed25519
# secrets = [ { name = "DEPLOY_KEY", file = true, optional = true } ]
# # Nobody deploys alone: rota approve
# # approve = { text = "{action} on {host}?" }
#
# [tool.rota.params]
# action = { default = "deploy", choices = ["deploy", "rollback"] }
# host = { default = "@host@", description = "where to, as user@host; nothing is this machine" }
# folder = { default = "@folder@", description = "the folder there: releases/, and current, which is what is served" }
# check = { default = "true", description = "a command, run in that folder, that says whether what is served is well" }
# keep = { default = 5, description = "how many releases stay" }
# ///
# shellcheck disable=SC2154  # parameters are variables
set -euo pipefail

# Nobody is there to type a password, or to look at a new host's key: put it into known_hosts.
ssh=(ssh -o BatchMode=yes -o ConnectTimeout=15 ${DEPLOY_KEY:+-i "$DEPLOY_KEY"})

# Runs a script, from standard input, with arguments, where the releases are.
there() {
  if [ -n "$host" ]; then
    "${ssh[@]}" -- "$host" "bash -s -- $(printf '%q ' "$@")"
  else
    bash -s -- "$@"
  fi
}

if [ "$action" = deploy ]; then
  release=$ROTA_NUMBER
  there "$folder" "$release" <<'MAKE'
    mkdir -p "$1/releases/$2"
MAKE
  rsync --archive --compress --delete --rsh="${ssh[*]}" \
    -- @source@/ "${host:+$host:}$folder/releases/$release/"
else
  release=
fi

# The link is made beside and renamed onto the former one: somebody is served at every moment, by the
# one or by the other. If what is served then is not well, it is changed back.
there "$folder" "$release" "$check" "$keep" <<'SWITCH'
  set -eu
  cd "$1"
  former=$(readlink current || true)
  former=${former#releases/}
  release=$2
  if [ -z "$release" ]; then
    release=$(ls -v releases | grep -x -B 1 -e "$former" | head -n 1)
    if [ -z "$release" ] || [ "$release" = "$former" ]; then
      echo "::error::there is no release before ${former:-the first}"
      exit 1
    fi
  fi
  change_to() {
    ln -sfn "releases/$1" .current.new
    mv -T .current.new current
  }
  change_to "$release"
  if ! bash -c "$3"; then
    if [ -n "$former" ]; then
      change_to "$former"
      [ -z "$2" ] || rm -rf "releases/$release"
      echo "::error::release $release is not well; $former is served again"
    else
      echo "::error::release $release is not well, and there is none before it"
    fi
    exit 1
  fi
  echo "release $release is served${former:+, before it was $former}"
  # The newest stay, and whatever is served or was until now.
  ls -v releases | head -n "-$4" | grep -vx -e "$release" -e "${former:-$release}" |
    while read -r old; do rm -rf "releases/$old"; done || true
SWITCH
