"""The systemd unit of an agent: one text, for a package's, for root's own and for a user's."""

from __future__ import annotations

from collections.abc import Iterator

#: A user of the system that can do nothing else, its folder, and options that may be given besides agent.toml.
USER = "rota"
STATE = "/var/lib/rota"
OPTIONS = "/etc/default/rota"

_HARDENED = """\
# Nothing here gains rights: neither the agent nor a build, by sudo or otherwise. Where builds need that,
# or rootless containers: a drop-in with NoNewPrivileges=no and empty values for what follows (rota's docs).
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=full
ProtectHome=yes
ProtectHostname=yes
ProtectKernelModules=yes
RestrictRealtime=yes
# Not: PrivateTmp, whose folder goes with the unit while builds go on. What covers parts of /proc or /sys, such
# as ProtectKernelTunables, since builds could have no /proc of their own then. PrivateDevices and ProtectClock,
# which take /dev/kvm and /dev/fuse away; RestrictNamespaces, MemoryDenyWriteExecute, RestrictSUIDSGID,
# LockPersonality and system call filters: compilers, packagers, debuggers and virtual machines need what they forbid.
"""


def unit(command: str, *, is_system: bool, is_packaged: bool = False) -> str:
    """Return the unit's text.

    Args:
        command: The words of ``ExecStart``, quoted.
        is_system: For the machine's systemd, not for that of a user.
        is_packaged: As a package installs it: with a user, folders and limits of its own.
    """
    return "\n".join(_lines(command, is_system=is_system, is_packaged=is_packaged)) + "\n"


def _lines(command: str, *, is_system: bool, is_packaged: bool) -> Iterator[str]:
    yield from (
        "[Unit]",
        "Description=rota agent: builds and schedules jobs",
        "Documentation=man:rota-agent(8) man:rota(1)",
    )
    if is_system:
        yield from ("Wants=network-online.target", "After=network-online.target")
    yield from ("", "[Service]", "Type=notify")
    if is_packaged:
        yield from (
            f"User={USER}",
            f"StateDirectory={STATE.removeprefix('/var/lib/')}",
            "StateDirectoryMode=0700",
            f"Environment=ROTA_DATA={STATE}",
            f"EnvironmentFile=-{OPTIONS}",
        )
    yield from (
        f"ExecStart={command}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "# Whatever ends it but `rota stop`, which means it.",
        "Restart=on-failure",
        "RestartSec=1",
        "# Without a quorum an agent waits for the others before it is ready: as long as that takes.",
        "TimeoutStartSec=infinity",
        "# It says twice a minute that it is alive.",
        "WatchdogSec=60",
        "# Builds have supervisors of their own: they go on while the agent is restarted or upgraded,",
        "KillMode=process",
        "# and whether one of them takes too much memory is no matter of the agent's.",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "LimitNOFILE=65536",
    )
    if is_packaged:
        yield _HARDENED.rstrip("\n")
    target = "multi-user.target" if is_system else "default.target"
    yield from ("", "[Install]", f"WantedBy={target}")
