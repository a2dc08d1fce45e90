# The supervisor of one attempt: it outlives the daemon, and writes down how the script ended.
#
#   sh supervise.sh HOME CWD SETSID UNSET START SCRIPT [ARGUMENT...]
#
# Plain POSIX sh, builtins only: the one program it starts besides the script is setsid, because sh
# cannot give a child its own session (`set -m` needs a terminal in dash). With a session of its own
# the script can kill its whole process group, by SIGKILL even, and the supervisor lives.
#
# No variable is set here but rota_*: one of the same name in the script's environment would change.
# What is to be kept stands in the positional parameters.
#
#   HOME/pid    START, then the lines of /proc/PID/stat of the supervisor and of the script, written
#               before the script begins: pids and start times, which together name a process
#   HOME/exit   what sh says of a death by signal, "code N", two lines of times, "end"
#
# What the script prints goes into a pipe. Descriptor 6 is both ends of it: should nobody read just now, the
# script waits, and is not ended by SIGPIPE. Only this one has it.

# sh reports "Killed" and the like on its standard error. In HOME/exit that tells a script that died
# of a signal from one that said `exit 137`; in the log it would be a line nobody printed. Appended to, since
# another sh may have a word on it before this one has.
exec 2>>"$1/exit"

# The lease ran out before the script began: from now on nobody would end it. The guard first renames,
# then looks whom to kill, so that one of the two always sees the other.
[ ! -p "$1/expired" ] || exit 126

# When memory runs out, builds go before their agent and its engine.
{ echo 500 >/proc/self/oom_score_adj; } 2>/dev/null

# The script runs in the foreground: so a trap waits until it has ended (there is no interrupted
# `wait` to resume), and it does not start with SIGINT and SIGQUIT ignored, as it would after `&`.
trap : HUP INT QUIT TERM USR1 USR2 ALRM PIPE

# With a standard input, a holder keeps the writing end open until a line arrives in HOME/stdin.eof:
# from the daemon (end of input) or from below (the script has ended). Descriptor 7 stays open here
# so that a line waits for its reader, and so that the holder ends should the supervisor be killed.
if [ -p "$1/stdin" ]; then
  exec 7<>"$1/stdin.eof" 9<>"$1/stdin" 8>"$1/stdin" 9<&-
  (
    exec >/dev/null 2>&1 7<&-
    read -r rota_line
  ) <"$1/stdin.eof" &
  exec 8>&-
fi

(
  if [ -p "$1/stdin" ]; then exec <"$1/stdin" 7<&-; fi
  # $$ is the supervisor; /proc/self is this subshell, and through both execs becomes the script
  read -r rota_supervisor <"/proc/$$/stat"
  read -r rota_script </proc/self/stat
  echo "$5
$rota_supervisor
$rota_script" >"$1/pid"
  exec 2>&1 6<&-
  cd -- "$2" || exit 126
  # what sh added to the environment it was given
  unset rota_supervisor rota_script $4
  rota_setsid=$3
  shift 5
  exec "$rota_setsid" -- "$@"
)

set -- "$1" $?
if [ -n "$!" ]; then
  echo >&7
  wait "$!"
fi
{
  echo "code $2"
  times
  echo end
} >&2
exit "$2"
