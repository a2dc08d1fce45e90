# The first process of an attempt's container: its supervisor, and all orphans' parent.
#
#   sh contain.sh RUN CWD OUTPUT INTERPRETER PROGRAM UNSET SCRIPT [ARGUMENT...]
#
# It is run by a sh that rota brings along, since an image need have none. Builtins only: nothing else
# is sure to be there. As process 1 it hears no signal that it has no trap for, not even SIGKILL of
# the script; when it ends, the kernel ends all that is left in the container.
#
# RUN is the only folder here that it writes to. What the daemon wrote is in RUN.own, which the container
# may read and not write: its root is not the agent.
#
#   RUN/pid      the script's line of /proc/PID/stat, written before the script begins
#   RUN/refused  what the image lacks; the script did not begin
#   RUN/exit     what sh says of a death by signal, "code N", "peak N", "oom N", two lines of times, "end"
#
# No variable is set here but rota_*: one of the same name in the script's environment would change.

# sh reports "Killed" and the like on its standard error. In RUN/exit that tells a script that died
# of a signal from one that said `exit 137`; in the log it would be a line nobody printed.
exec 2>"$1/exit"

# The lease ran out before the script began: the guard first renames, then kills.
[ ! -p "$1.own/expired" ] || exit 126

# What the script prints goes into a pipe. Both ends of it are open here: should nobody read just now, the
# script waits, and is not ended by SIGPIPE.
[ ! -r "$3" ] || exec 6<>"$3"

# The script runs in the foreground: so a trap waits until it has ended, and it does not start with
# SIGINT and SIGQUIT ignored, as it would after `&`.
trap : HUP INT QUIT TERM USR1 USR2 ALRM PIPE

# With a standard input, a holder keeps the writing end open until a line arrives in stdin.eof:
# from the daemon (end of input) or from below (the script has ended).
if [ -p "$1.own/stdin" ]; then
  exec 7<>"$1.own/stdin.eof" 9<>"$1.own/stdin" 8>"$1.own/stdin" 9<&-
  (
    exec >/dev/null 2>&1 7<&-
    read -r rota_line
  ) <"$1.own/stdin.eof" &
  exec 8>&-
fi

(
  if [ -p "$1.own/stdin" ]; then exec <"$1.own/stdin" 7<&-; else exec </dev/null; fi
  # what would otherwise be a "not found" that blames the script
  if [ -n "$4" ] && ! [ -x "$4" ]; then
    echo "$4" >"$1/refused"
    exit 127
  fi
  if [ -n "$5" ] && ! command -v "$5" >/dev/null 2>&1; then
    echo "$5" >"$1/refused"
    exit 127
  fi
  read -r rota_script </proc/self/stat
  echo "$rota_script" >"$1/pid"
  exec >"$3" 2>&1 6<&-
  cd -- "$2" || exit 126
  unset rota_script $6
  shift 6
  exec "$@"
)

set -- "$1" $?
if [ -n "$!" ]; then
  echo >&7
  wait "$!"
fi
{
  echo "code $2"
  # v1, then v2
  rota_peak=0 rota_oom=0
  read -r rota_peak </sys/fs/cgroup/memory/memory.max_usage_in_bytes ||
    read -r rota_peak </sys/fs/cgroup/memory.peak
  echo "peak ${rota_peak:-0}"
  for rota_file in /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events; do
    while read -r rota_name rota_value; do
      [ "$rota_name" != oom_kill ] || rota_oom=$rota_value
    done <"$rota_file"
  done
  echo "oom $rota_oom"
  times
  echo end
} 2>/dev/null >>"$1/exit"
exit "$2"
