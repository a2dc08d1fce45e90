#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Python by tox"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "python"  #: !container !matrix
# labels = "python={python}"  #: !container matrix
# image = "python:@python@"  #: container !matrix
# image = "python:{python}"  #: container matrix
# timeout = "45m"
# caches = [ { key = "tox-{hash:@in@tox.ini @in@pyproject.toml}", restore = ["tox-"], paths = ["~/.cache/pip"] } ]
# tests = ["@in@reports/*.xml"]  #: pytest
# coverage = ["@in@coverage.xml"]  #: coverage
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of tox, such as -e lint" }
#
# [tool.rota.matrix]  #: matrix
# python = ["@python_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

# tox of its own, for agents that have none.
python3 -m venv "$TMPDIR/tox"
"$TMPDIR/tox/bin/pip" install --quiet --disable-pip-version-check tox
PATH="$TMPDIR/tox/bin:$PATH"

# Each environment's pytest leaves a report, whether or not tox.ini hands arguments on.  #: pytest
export TOX_OVERRIDE="testenv.pass_env+=PYTEST_ADDOPTS"  #: pytest
# shellcheck disable=SC2016  #: pytest
export PYTEST_ADDOPTS='--junitxml=reports/${TOX_ENV_NAME}.xml'  #: pytest
# Environments whose Python is not on this machine are passed over.  #: !matrix
tox run --skip-missing-interpreters true $args  #: !matrix
tox run -e "py${python/./}" $args  #: matrix
