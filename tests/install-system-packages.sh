#!/bin/sh
# The tests run real git, curl and scripts in several languages. Where we are root on a
# Debian system, install what is missing; elsewhere say so: those tests then skip with the reason.
set -eu
missing=
for pair in git:git curl:curl perl:perl ruby:ruby node:nodejs tmux:tmux ip:iproute2 nsenter:util-linux flock:util-linux iptables:iptables git-lfs:git-lfs \
    mvn:maven gradle:gradle go:golang-go npm:npm make:make gcc:gcc cmake:cmake bundle:ruby-bundler rspec:ruby-rspec rsync:rsync shellcheck:shellcheck /usr/sbin/sshd:openssh-server age:age pass:pass mandoc:mandoc zsh:zsh fish:fish lintian:lintian fakeroot:fakeroot chromium:chromium prosody:prosody promtool:prometheus ngircd:ngircd inspircd:inspircd atheme-services:atheme-services; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# for tests in containers, where images are made from these packages too
for pair in dockerd:docker.io podman:podman runc:runc conmon:conmon busybox:busybox-static setpriv:util-linux python3:python3; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -x /usr/lib/podman/netavark ] || [ -x /usr/libexec/podman/netavark ] || missing="$missing netavark aardvark-dns"
# What Maven and Gradle would otherwise fetch from a repository of libraries.
[ -e /usr/share/maven-repo/junit/junit ] && [ -e /usr/share/maven-repo/org/apache/maven/plugins/maven-surefire-plugin ] \
    || missing="$missing junit4 libsurefire-java libmaven-resources-plugin-java libmaven-compiler-plugin-java libmaven-jar-plugin-java"
[ -e /usr/lib/python3/dist-packages/pip ] && [ -e /usr/share/python-wheels ] || missing="$missing python3-venv python3-pip"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests:$missing"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } >/tmp/rota-apt.log 2>&1 \
        || { tail -n 5 /tmp/rota-apt.log; echo "note: could not install$missing; tests that need them skip"; }
else
    echo "note: not installed:$missing; tests that need them skip"
fi
