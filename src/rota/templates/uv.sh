#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: Python by uv, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# image = "ghcr.io/astral-sh/uv:python@python@-bookworm"  #: container !matrix
# image = "ghcr.io/astral-sh/uv:python{python}-bookworm"  #: container matrix
# timeout = "30m"
# caches = [ { key = "uv-{hash:@in@uv.lock}", restore = ["uv-"], paths = ["~/.cache/uv"] } ]  #: lock
# caches = [ { key = "uv-{hash:@in@pyproject.toml}", restore = ["uv-"], paths = ["~/.cache/uv"] } ]  #: !lock
# tests = ["@in@junit.xml"]  #: pytest
# coverage = ["@in@coverage.xml"]  #: coverage
# artifacts = ["@in@dist/*.whl", "@in@dist/*.tar.gz"]  #: package
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

# Where uv's installer puts it, unless it is installed for all.  #: !container
PATH="$HOME/.local/bin:$PATH"  #: !container
export UV_PYTHON=$python  #: matrix
# The image has its Python; nobody fetches another.  #: container
export UV_PYTHON_DOWNLOADS=never  #: container

uv sync --locked --all-extras  #: lock
uv sync --all-extras  #: !lock
uv run pytest --junitxml=junit.xml $args  #: pytest !coverage
uv run pytest --junitxml=junit.xml --cov --cov-report=term --cov-report=xml:coverage.xml $args  #: pytest coverage
uv run python -m unittest discover --verbose $args  #: !pytest
uv build  #: package
