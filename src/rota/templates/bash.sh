#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "a shell script, with every setting explained"
#
# # Which agents may take it: words and key=value pairs that agents carry, with && || ! and ().
# # labels = "linux && docker"
#
# # End it when it runs longer than this, or prints nothing for that long.
# timeout = "20m"
# # idle_timeout = "5m"
# # How long it may tidy up after being asked to end, before it is killed.
# # grace = "10s"
#
# # Try again when it was not the script's fault. Also: "script", "timeout", "oom-killed", …
# # retry = { times = 2, on = ["lost", "agent-error"], delay = "30s" }
#
# # Higher goes first: -100 to 100.
# # priority = 10
# # Let `rota send` write to its standard input.
# # stdin = true
# # Files to keep when it has ended, found from the workspace.
# # artifacts = ["dist/*"]
# # env = { LANG = "C.UTF-8" }
#
# # What may be given at the start: rota run NAME who=Anna. The script sees it as $who.
# [tool.rota.params]
# who = { default = "world", description = "whom to greet" }
# ///
set -euo pipefail

echo "::group::where this runs"
echo "job $ROTA_JOB, build $ROTA_NUMBER, in $PWD"
echo "::endgroup::"
echo "hello, $who"
