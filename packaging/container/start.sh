# The first process of an agent's container: founds a cluster or joins one, and passes signals on.
#
#   ROTA_NAME    the agent's name, by which the others reach it too; the container's host name by default
#   ROTA_LISTEN  where it serves REST and git; NAME:7070 by default
#   ROTA_JOIN    a folder that all agents share: each puts a join token there, and a new one takes another's
#   ROTA_FOUND   "yes" for the one agent that founds the cluster, where nobody has left a token yet
#   ROTA_FOUNDER the name of that agent, where all are given the same
#   ROTA_JOIN_SECRET  in Kubernetes: the Secret that ROTA_JOIN shows, into which tokens are put
#
# What is given to the container as its command is given to `rota agent`, such as --slots 4.

data=$ROTA_DATA
name=${ROTA_NAME:-$(uname -n)}
listen=${ROTA_LISTEN:-$name:7070}
join=${ROTA_JOIN:-}
[ "${ROTA_FOUNDER:-}" != "$name" ] || ROTA_FOUND=yes
agent=

# What runs in containers beside this one is given this agent's own code, for its `rota`: so that is to lie
# where the engine sees it. Each image has a folder of its own there: who uses the last one keeps it.
package=$data/package/$(cat /opt/rota/id)
if [ ! -d "$package" ]; then
  mkdir -p "$data/package"
  find "$data/package" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
  rm -rf "$package.new"
  mkdir "$package.new" && cp -Rp /opt/rota/lib/python3*/site-packages/rota "$package.new/" \
    && mv "$package.new" "$package"
fi
export PYTHONPATH="$package"

say() { echo "start: $*" >&2; }

# A signal ends a wait: so it is waited for again until the agent is gone.
trap 'stopped=yes; [ -z "$agent" ] || kill -TERM "$agent" 2>/dev/null' TERM INT
stopped=

from=/dev/null  # what the agent reads; in the background it has no input otherwise
run() {
  rota agent --name "$name" --listen "$listen" "$@" <"$from" &
  agent=$!
  while :; do
    wait "$agent"
    code=$?
    kill -0 "$agent" 2>/dev/null || return "$code"
  done
}

# Once this agent answers: a token for those that come later. It holds for a month, and is made anew
# by a start in the last third of that.
invite() {
  [ -n "$join" ] || return 0
  if [ -n "${ROTA_JOIN_SECRET:-}" ]; then
    until rota status >/dev/null 2>&1; do sleep 1; done
    until rota token create --expires 30d | python3 /opt/rota/publish.py "$name"; do sleep 10; done
    return 0
  fi
  [ -z "$(find "$join/$name" -mtime -20 2>/dev/null)" ] || return 0
  until rota status >/dev/null 2>&1; do sleep 1; done
  umask 077
  rota token create --expires 30d >"$join/.$name" && mv "$join/.$name" "$join/$name"
}

# In Kubernetes its own name may be known a little later than it begins.
until [ -z "${ROTA_JOIN_SECRET:-}" ] || python3 -c 'import socket, sys; socket.getaddrinfo(sys.argv[1], None)' "${listen%:*}" 2>/dev/null; do
  say "waiting until ${listen%:*} is known"
  sleep 1
done

# It is known here once it has been a member.
if [ -e "$data/index.db" ]; then
  invite &
  run "$@"
  exit
fi

said=
while [ -z "$stopped" ]; do
  others=
  for token in "$join"/*; do
    if [ -n "$join" ] && [ -f "$token" ] && [ "$token" != "$join/$name" ]; then
      others=yes
      say "joining by the token of ${token##*/}"
      invite &
      inviting=$!
      from=$token
      run "$@" --join -
      # Of one that was a member for a while, this is how it ended.
      [ ! -e "$data/index.db" ] || exit "$code"
      kill "$inviting" 2>/dev/null
    fi
  done
  if [ -z "$others" ] && { [ -z "$join" ] || [ "${ROTA_FOUND:-}" = yes ]; }; then
    say "founding a cluster"
    invite &
    run "$@"
    exit
  fi
  [ -n "$said" ] || say "waiting for a join token of another agent in $join"
  said=yes
  sleep 1
done
