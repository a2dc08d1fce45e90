#!/bin/sh
# The whole loop in a temporary folder: an agent, two jobs, their logs, their history, and a clean end.
set -eu
here=$(dirname "$0")
ROTA_DATA=$(mktemp -d "${TMPDIR:-/tmp}/rota-demo.XXXXXX")
export ROTA_DATA
unset ROTA_SOCKET ROTA_URL ROTA_TOKEN 2>/dev/null || true
export GIT_PAGER=cat

end() {
    status=$?
    [ -S "$ROTA_DATA/rota.sock" ] && rota stop >/dev/null 2>&1
    rm -rf "$ROTA_DATA"
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT TERM

if [ -t 1 ] || [ -n "${ROTA_DEMO_COLOR-1}" ]; then color=always; else color=never; fi
say() { printf '\n\033[1;34m$ %s\033[0m\n' "$*"; }
try() { say "$@"; "$@"; }

try rota agent --name demo --slots 2 --daemon
try rota add demo/greet "$here/jobs/demo/greet"
try rota add demo/count "$here/jobs/demo/count"
try rota --color "$color" jobs
try rota --color "$color" run demo/greet name=engineer -f
try rota --color "$color" run demo/count -f
try rota artifacts demo/count
try rota --color "$color" builds
until [ "$(git -C "$ROTA_DATA/store.git" ls-tree -r --name-only history builds 2>/dev/null | wc -l)" -ge 2 ]; do sleep 0.1; done
say "git log --stat history      # what ran is a git branch"
git -C "$ROTA_DATA/store.git" log --format='%h %s' --stat history -- builds
say "git log main               # what should run is another"
git -C "$ROTA_DATA/store.git" log --format='%h %an: %s' main
try rota stop
