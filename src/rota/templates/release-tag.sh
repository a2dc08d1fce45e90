#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: a release, as a tag in git"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# # No release of what does not build.
# # needs = [ "@build@" ]
# concurrency = 1
# timeout = "10m"
# artifacts = ["release-notes.md"]
# # approve = { text = "Release {version}?" }
#
# [tool.rota.params]
# version = { description = "such as 1.4.0" }
# prefix = { default = "v", description = "what stands before it in the tag" }
# ///
# shellcheck disable=SC2154  # parameters are variables
set -euo pipefail

tag=$prefix$version
if ! [[ $version =~ ^[0-9]+(\.[0-9]+)*([.+-][0-9A-Za-z.+-]+)?$ ]]; then
  echo "::error::$version is no version, such as 1.4.0 or 2.0.0-rc.1"
  exit 1
fi
# The tag may be there already, of another commit or of a former attempt.
there=$(git ls-remote --tags origin "refs/tags/$tag" "refs/tags/$tag^{}" | tail -n 1 | cut -f 1)
if [ -n "$there" ] && [ "$there" != "$(git rev-parse HEAD)" ]; then
  echo "::error::$tag is there already, and it is $there"
  exit 1
fi

git fetch --quiet --tags origin
former=$(git describe --tags --abbrev=0 --match "${prefix}[0-9]*" --exclude "$tag" 2>/dev/null || true)
{
  echo "# $version"
  echo
  git log --no-merges --format='- %s (%h, %an)' "${former:+$former..}HEAD"
} >release-notes.md
cat release-notes.md

[ -z "$there" ] || { echo "$tag is there already"; exit 0; }
export GIT_COMMITTER_NAME="rota" GIT_COMMITTER_EMAIL="rota@${HOSTNAME:-localhost}"
git tag --annotate "$tag" --cleanup=verbatim --file release-notes.md
git push origin "refs/tags/$tag"
echo "::notice title=released::$tag"
