#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Python by pip, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "python>=@python_least@"  #: !container !matrix
# labels = "python={python}"  #: !container matrix
# image = "python:@python@"  #: container !matrix
# image = "python:{python}"  #: container matrix
# timeout = "30m"
# caches = [ { key = "pip-{hash:@in@requirements*.txt @in@pyproject.toml}", restore = ["pip-"], paths = ["~/.cache/pip"] } ]  #: requirements
# caches = [ { key = "pip-{hash:@in@pyproject.toml @in@setup.*}", restore = ["pip-"], paths = ["~/.cache/pip"] } ]  #: !requirements
# tests = ["@in@junit.xml"]  #: pytest
# coverage = ["@in@coverage.xml"]  #: coverage
# artifacts = ["@in@dist/*.whl"]  #: package
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of the tests, such as -k name" }
#
# [tool.rota.matrix]  #: matrix
# python = ["@python_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

python3 -m venv "$TMPDIR/venv"
PATH="$TMPDIR/venv/bin:$PATH"
python --version
export PIP_DISABLE_PIP_VERSION_CHECK=1

echo "::group::install"
pip install --quiet -r requirements.txt  #: requirements_txt
pip install --quiet -r requirements-dev.txt  #: requirements_dev
pip install --quiet --editable @editable@  #: package
pip install --quiet pytest  #: pytest !pytest_named
pip install --quiet --group @group@  #: group
echo "::endgroup::"

python -m pytest --junitxml=junit.xml $args  #: pytest !coverage
python -m pytest --junitxml=junit.xml --cov --cov-report=term --cov-report=xml:coverage.xml $args  #: pytest coverage
python -m unittest discover --verbose $args  #: !pytest

pip wheel --quiet --no-deps --wheel-dir dist .  #: package
