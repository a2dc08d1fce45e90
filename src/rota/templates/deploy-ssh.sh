#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: what a build left, by rsync over ssh"
# # What that build has to have left is in the workspace when the script begins.
# needs = [ { job = "@build@", artifacts = ["@files@"] } ]
# # Two at once would leave a mixture.
# concurrency = 1
# timeout = "15m"
# # The key of who deploys, if the agents' own will not do: rota secret set DEPLOY_KEY --file id_ed25519
# secrets = [ { name = "DEPLOY_KEY", file = true, optional = true } ]
# # Nobody deploys alone: rota approve
# # approve = { text = "Deploy to {host}?" }
#
# [tool.rota.params]
# host = { default = "@host@", description = "where to, as user@host" }
# folder = { default = "@folder@", description = "the folder there" }
# after = { default = "", description = "a command to run there when all files are" }
# ///
# shellcheck disable=SC2154  # parameters are variables
set -euo pipefail

# Nobody is there to type a password, or to look at a new host's key: put it into known_hosts.
ssh=(ssh -o BatchMode=yes -o ConnectTimeout=15 ${DEPLOY_KEY:+-i "$DEPLOY_KEY"})

# Files change names at the end of it all, so that a transfer that breaks off changes nothing there.
rsync --archive --compress --delete-after --delay-updates --stats --rsh="${ssh[*]}" \
  -- @source@/ "$host:$folder/"

if [ -n "$after" ]; then
  "${ssh[@]}" -- "$host" "$after"
fi
