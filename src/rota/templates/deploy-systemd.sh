#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: a program replaced, and its systemd unit restarted"
# # What that build has to have left is in the workspace when the script begins.
# needs = [ { job = "@build@", artifacts = ["@program@"] } ]
# # Two at once would undo each other.
# concurrency = 1
# timeout = "15m"
# # The key of who deploys, if the agents' own will not do: rota secret set DEPLOY_KEY --file id_ed25519
# secrets = [ { name = "DEPLOY_KEY", file = true, optional = true } ]
# # Nobody deploys alone: rota approve
# # approve = { text = "Restart {unit} on {host}?" }
#
# [tool.rota.params]
# host = { default = "@host@", description = "where, as user@host; nothing is this machine" }
# unit = { default = "@unit@", description = "the unit to restart" }
# target = { default = "@target@", description = "the path of the program there" }
# settle = { default = 10, description = "for how many seconds it has to stay up" }
# ///
# shellcheck disable=SC2154  # parameters are variables
set -euo pipefail

# Nobody is there to type a password, or to look at a new host's key: put it into known_hosts.
ssh=(ssh -o BatchMode=yes -o ConnectTimeout=15 ${DEPLOY_KEY:+-i "$DEPLOY_KEY"})

# Runs a script, from standard input, with arguments, where the unit is.
there() {
  if [ -n "$host" ]; then
    "${ssh[@]}" -- "$host" "bash -s -- $(printf '%q ' "$@")"
  else
    bash -s -- "$@"
  fi
}

rsync --compress --chmod=755 --rsh="${ssh[*]}" \
  -- @program@ "${host:+$host:}$target.new"

# The former program stays beside the new one until that has been up for a while.
there "$unit" "$target" "$settle" <<'RESTART'
  set -eu
  unit=$1 target=$2
  [ ! -e "$target" ] || cp -p "$target" "$target.former"
  mv "$target.new" "$target"
  if systemctl restart "$unit"; then
    sleep "$3"
    if systemctl is-active --quiet "$unit"; then
      rm -f "$target.former"
      systemctl --no-pager --lines 0 status "$unit" || true
      exit 0
    fi
  fi
  journalctl --no-pager --unit "$unit" --lines 50 || true
  if [ -e "$target.former" ]; then
    mv "$target.former" "$target"
    systemctl restart "$unit"
    echo "::error::$unit did not stay up; the program before is back"
  else
    echo "::error::$unit did not stay up, and there is no program before"
  fi
  exit 1
RESTART
