# Confines what it then becomes: an attempt's script, whose process this is already.
#
#   sh confine.sh STEP...
#
# Steps, each a word and what belongs to it. One that fails ends the attempt before its script begins.
#
#   begin FILE EXIT     from here on, what goes wrong is told in FILE; descriptor 3 is the output, and in EXIT sh
#                       tells of deaths by signal
#   tools MOUNT UMOUNT IP
#   join FOLDER         into the control group FOLDER, with all that is started from here
#   tmpfs TO MODE       an empty folder in memory at TO, which is made
#   bind FROM TO        what is at FROM is at TO as well; TO is made
#   place FROM TO       the same, with all that is mounted below FROM, and instead of what is there
#   unplace FROM
#   loopback            the one network device that is left
#   cd FOLDER
#   then PROGRAM...     become PROGRAM, which becomes this again
#   read                the environment from descriptor 4: nothing that ran before, with other rights, saw it
#   unset NAMES         the variables that sh added
#   run PROGRAM...      become the script
#   init PROGRAM...     run the script as the first process of its namespace: on one of its own, signals
#                       that it does not expect would be lost
#
# No variable is set here but rota_*: one of the same name in the script's environment would change.

while :; do
  case $1 in
    begin)
      exec 3>&2 2>>"$2" 5>>"$3"
      shift 3
      ;;
    tools)
      rota_mount=$2 rota_umount=$3 rota_ip=$4
      shift 4
      ;;
    join)
      # Whoever moves but one thread, and that its own, waits for no other processor: 20 ms less. This has one.
      if [ -e "$2/tasks" ]; then
        echo 0 >"$2/tasks" || exit 126
      else
        echo 0 >"$2/cgroup.procs" || exit 126
      fi
      shift 2
      ;;
    tmpfs)
      "$rota_mount" -n -t tmpfs -o "nosuid,nodev,x-mount.mkdir,mode=$3" rota "$2" || exit 126
      shift 3
      ;;
    bind)
      "$rota_mount" -n -o bind,x-mount.mkdir -- "$2" "$3" || exit 126
      shift 3
      ;;
    place)
      "$rota_mount" -n --rbind -- "$2" "$3" || exit 126
      shift 3
      ;;
    unplace)
      "$rota_umount" -n -l -- "$2" || exit 126
      shift 2
      ;;
    loopback)
      "$rota_ip" link set lo up || exit 126
      shift
      ;;
    cd)
      cd -- "$2" || exit 126
      shift 2
      ;;
    then)
      shift
      exec "$@"
      ;;
    unset)
      unset rota_mount rota_umount rota_ip $2
      shift 2
      ;;
    read)
      . /dev/fd/4 || exit 126
      exec 4<&-
      shift
      ;;
    run)
      echo ok >&2
      shift
      exec "$@" 2>&3 3>&- 5>&-
      ;;
    init)
      echo ok >&2
      exec 2>&5 5>&-
      trap : HUP INT QUIT TERM USR1 USR2 ALRM PIPE
      shift
      (exec "$@" 2>&3 3>&-)
      exit
      ;;
    *)
      echo "confine.sh does not know the step '$1'" >&2
      exit 126
      ;;
  esac
done
