#!/bin/sh
# rota @VERSION@ in one file: it needs Python 3.11 to 3.14, and git. It unpacks itself once: into
# $ROTA_UNPACK, for root into /var/cache/rota, else into ~/.cache/rota. Whatever runs of an older one goes
# on there. What follows the script is an archive.
set -eu
fail() { printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2; exit 3; }
case $0 in */*) ROTA_FILE=$0 ;; *) ROTA_FILE=$(command -v -- "$0") || ROTA_FILE=$0 ;; esac
top=${ROTA_UNPACK:-}
if [ -z "$top" ] && [ -w /var/cache ]; then
  top=/var/cache/rota  # where builds of other users reach it, and systemd's root has no HOME
elif [ -z "$top" ]; then
  top=${XDG_CACHE_HOME:-${HOME:-}/.cache}/rota
fi
tree=$top/@DIGEST@
if [ ! -x "$tree/bin/python3" ]; then
  case $top in /.cache/*) fail "no folder to unpack into: HOME is not set" "name one: ROTA_UNPACK=/var/cache/rota rota ..." ;; esac
  [ "$(uname -m)" = @MACHINE@ ] || fail "this file is for @MACHINE@, this machine is $(uname -m)" "pip install rota works on more"
  python=
  for name in ${ROTA_PYTHON:-python3 @PYTHONS@}; do
    python=$("$name" -c 'import os, sys
if (3, 11) <= sys.version_info < (3, 15): print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2>/dev/null) || python=
    [ -z "$python" ] || break
  done
  [ -n "$python" ] || fail "no Python from 3.11 to 3.14 on the path${ROTA_PYTHON:+: ROTA_PYTHON is $ROTA_PYTHON}" "install one, or say where it is: ROTA_PYTHON=/opt/python/bin/python3"
  # In a folder of its own beside: whoever comes second finds it whole, or makes one as well.
  umask 022
  { mkdir -p "$top" && aside=$(mktemp -d "$top/.new.XXXXXX") && chmod 755 "$aside"; } 2>/dev/null || fail "cannot write to $top, into which rota unpacks itself" "name another folder: ROTA_UNPACK=/var/cache/rota rota ..."
  "$python" -I - "$ROTA_FILE" "$aside" <<'END' || { rm -rf "$aside"; exit 3; }
import hashlib, io, os, pathlib, sys, tarfile
file, aside = map(pathlib.Path, sys.argv[1:])
def fail(what, hint):
    sys.exit(f"error: {what}\n\nhint: {hint}")
data = file.read_bytes()
data = data[data.index(b"\n# archive\n") + len(b"\n# archive\n"):]
if hashlib.sha256(data).hexdigest() != "@SHA256@":
    fail(f"{file} is damaged: its archive is not the one that was packed", "fetch it again")
try:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(aside, **({"filter": "tar"} if hasattr(tarfile, "data_filter") else {}))
    (aside / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    home = os.path.dirname(os.path.realpath(sys.executable))
    (aside / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
except OSError as error:
    fail(f"cannot unpack into {aside}: {error.strerror}", "it takes 170 MB; name another folder: ROTA_UNPACK=DIR")
END
  [ ! -e "$tree" ] || rm -rf "$tree"  # its Python is gone
  mv -T "$aside" "$tree" 2>/dev/null || rm -rf "$aside"
  # What older files unpacked, unless something of it runs.
  for old in "$top"/*/ "$top"/.new.*/; do
    old=${old%/}
    [ "$old" != "$tree" ] && [ -n "$(find "$old" -maxdepth 0 -mmin +60 2>/dev/null)" ] || continue
    grep -qsF "$old/" /proc/[0-9]*/cmdline || rm -rf "$old"
  done
fi
export ROTA_FILE
exec "$tree/bin/python3" -m rota "$@"
# archive
