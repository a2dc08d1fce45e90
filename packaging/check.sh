#!/bin/sh
# Installs each thing in a folder of packages as a user would, and runs a build by it: sh packaging/check.sh dist
set -eu
dist=$(cd "${1:?which folder}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset ROTA_URL ROTA_DATA ROTA_FILE PYTHONPATH || :
printf '#!/bin/sh\nrota --version\n' >"$work/job"

tried() {  # NAME PROGRAM: an agent, a build, whose rota is the same one; stopped again
  name=$1 rota=$2
  export ROTA_DATA="$work/data-$name"
  "$rota" agent --daemon >/dev/null
  "$rota" add check "$work/job" >/dev/null
  "$rota" run check --wait >/dev/null
  said=$("$rota" log check)
  "$rota" stop >/dev/null
  [ "$said" = "$("$rota" --version)" ] || { echo "$name: a build's rota says '$said'"; exit 1; }
  echo "$name: $said"
}

python3 -m venv "$work/wheel"
"$work/wheel/bin/pip" install --quiet "$dist"/*.whl 2>/dev/null
tried wheel "$work/wheel/bin/rota"
[ -e "$work/wheel/share/man/man1/rota-run.1" ] || { echo "the wheel has no manual"; exit 1; }

python3 -m venv "$work/sdist"
"$work/sdist/bin/pip" install --quiet "$dist"/*.tar.gz 2>/dev/null
tried sdist "$work/sdist/bin/rota"
[ "$("$work/sdist/bin/rota" --version)" = "$("$work/wheel/bin/rota" --version)" ] || { echo "the sdist is another version"; exit 1; }

export ROTA_UNPACK="$work/unpacked"
tried file "$dist/rota"

# It reads all 7,400 files: half a minute of CPU, which a busy machine makes many minutes of.
if command -v lintian >/dev/null; then
  code=0
  timeout "${LINTIAN_LIMIT:-1800}" lintian --fail-on error,warning "$dist"/*.deb || code=$?
  [ "$code" != 124 ] || echo "deb: lintian was not through after ${LINTIAN_LIMIT:-1800} s; LINTIAN_LIMIT=SECONDS gives it more"
  [ "$code" = 0 ] || exit "$code"
  echo "deb: lintian has nothing to say"
fi
