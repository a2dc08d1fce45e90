#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: JavaScript, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "node>=@node@ && npm"  #: !container !matrix
# labels = "node={node} && npm"  #: !container matrix
# image = "node:@node_image@"  #: container !matrix
# image = "node:{node}"  #: container matrix
# timeout = "30m"
# caches = [ { key = "npm-{hash:@in@package-lock.json}", restore = ["npm-"], paths = ["~/.npm"] } ]  #: npm lock
# caches = [ { key = "npm-{hash:@in@package.json}", restore = ["npm-"], paths = ["~/.npm"] } ]  #: npm !lock
# caches = [ { key = "yarn-{hash:@in@yarn.lock}", restore = ["yarn-"], paths = ["~/.cache/yarn"] } ]  #: yarn
# caches = [ { key = "yarn-{hash:@in@yarn.lock}", restore = ["yarn-"], paths = ["~/.yarn/berry/cache"] } ]  #: berry
# caches = [ { key = "pnpm-{hash:@in@pnpm-lock.yaml}", restore = ["pnpm-"], paths = ["~/.local/share/pnpm/store"] } ]  #: pnpm
# tests = ["@in@junit.xml"]  #: vitest|jest|node_test
# tests = ["@in@tests.tap"]  #: tap
# coverage = ["@in@coverage/lcov.info"]  #: coverage
# artifacts = ["@in@@output@/**/*"]  #: build
#
# [tool.rota.matrix]  #: matrix
# node = ["@node_axis@"]  #: matrix
#  #: matrix
# ///
set -euo pipefail
cd @path@  #: path

echo "node $(node --version), npm $(npm --version)"

echo "::group::install"
# The package manager that the project asks for, for this build alone.  #: !npm
npm install --silent --no-audit --no-fund --prefix "$TMPDIR/manager" @package@  #: !npm
PATH="$TMPDIR/manager/node_modules/.bin:$PATH"  #: !npm
export YARN_CACHE_FOLDER="$HOME/.cache/yarn"  #: yarn
export YARN_ENABLE_GLOBAL_CACHE=true YARN_GLOBAL_FOLDER="$HOME/.yarn/berry"  #: berry
export npm_config_store_dir="$HOME/.local/share/pnpm/store"  #: pnpm
npm ci --no-audit --no-fund  #: npm lock
npm install --no-audit --no-fund  #: npm !lock
yarn install --frozen-lockfile --non-interactive  #: yarn
yarn install --immutable  #: berry
pnpm install --frozen-lockfile  #: pnpm
# The reporter that writes jest's results for rota: beside the project, not in it.  #: jest !jest_junit
npm install --no-audit --no-fund --prefix "$TMPDIR/reporter" jest-junit@16  #: jest !jest_junit
echo "::endgroup::"

npm run build  #: build npm
yarn run build  #: build yarn|berry
pnpm run build  #: build pnpm

npm test -- --reporter=default --reporter=junit --outputFile=junit.xml  #: vitest npm
yarn test --reporter=default --reporter=junit --outputFile=junit.xml  #: vitest yarn|berry
pnpm test --reporter=default --reporter=junit --outputFile=junit.xml  #: vitest pnpm
export JEST_JUNIT_OUTPUT_FILE=junit.xml  #: jest
npm test -- --ci --reporters=default --reporters=jest-junit  #: jest jest_junit npm
yarn test --ci --reporters=default --reporters=jest-junit  #: jest jest_junit yarn|berry
pnpm test --ci --reporters=default --reporters=jest-junit  #: jest jest_junit pnpm
npm test -- --ci --reporters=default --reporters="$TMPDIR/reporter/node_modules/jest-junit"  #: jest !jest_junit npm
yarn test --ci --reporters=default --reporters="$TMPDIR/reporter/node_modules/jest-junit"  #: jest !jest_junit yarn|berry
pnpm test --ci --reporters=default --reporters="$TMPDIR/reporter/node_modules/jest-junit"  #: jest !jest_junit pnpm
# What node's own test runner prints for people, and a file for rota.  #: node_test
export NODE_OPTIONS="--test-reporter=spec --test-reporter-destination=stdout --test-reporter=junit --test-reporter-destination=junit.xml"  #: node_test
npm test -- --reporter tap | tee tests.tap  #: mocha npm
yarn test --reporter tap | tee tests.tap  #: mocha yarn|berry
pnpm test --reporter tap | tee tests.tap  #: mocha pnpm
npm test -- --tap | tee tests.tap  #: ava npm
yarn test --tap | tee tests.tap  #: ava yarn|berry
pnpm test --tap | tee tests.tap  #: ava pnpm
npm test | tee tests.tap  #: tape npm
yarn test | tee tests.tap  #: tape yarn|berry
pnpm test | tee tests.tap  #: tape pnpm
npm test  #: test npm
yarn test  #: test yarn|berry
pnpm test  #: test pnpm
#  #: lint
# Last, so that it keeps no test from being run.  #: lint
npm run lint  #: lint npm
yarn run lint  #: lint yarn|berry
pnpm run lint  #: lint pnpm
