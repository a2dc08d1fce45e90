"""What a build used of its machine, and what it may use, for people."""

from __future__ import annotations

from typing import Any

from rota.cli.render import clean, duration, size


def usage_text(build: dict[str, Any]) -> str:
    """Return what the last attempt used; empty where nothing is known."""
    usage = build.get("usage") or {}
    most = (build.get("spec") or {}).get("resources") or {}
    cpu_s = usage.get("user_s", 0.0) + usage.get("system_s", 0.0)
    parts = [f"{duration(cpu_s)} of CPU"] if cpu_s else []
    if usage.get("throttled_s"):
        parts.append(f"kept from it for {duration(usage['throttled_s'])} by the limit")
    if usage.get("memory_bytes"):
        of = f" of {size(most['memory_bytes'])}" if most.get("memory_bytes") else ""
        parts.append(f"{size(usage['memory_bytes'])}{of} of memory")
    elif usage.get("max_rss_bytes"):
        parts.append(f"largest process {size(usage['max_rss_bytes'])}")
    if usage.get("oom_kills"):
        parts.append(f"{_some(usage['oom_kills'], 'process', 'es')} ended for want of memory")
    if usage.get("refused_forks"):
        parts.append(f"{_some(usage['refused_forks'], 'fork')} refused for the limit of pids")
    return ", ".join(parts)


def confinement_text(spec: dict[str, Any]) -> str:
    """Return to what a job's own header confines it; empty if to nothing."""
    most, kept = spec.get("resources") or {}, spec.get("isolation") or {}
    parts = [f"{most['cpus']:g} cpus"] if most.get("cpus") else []
    if most.get("memory_bytes"):
        parts.append(f"{size(most['memory_bytes'])} of memory")
    if most.get("pids"):
        parts.append(f"{most['pids']} pids")
    if spec.get("user"):
        parts.append(f"user {spec['user']}")
    if spec.get("network"):
        parts.append(f"network {spec['network']}")
    if kept.get("no_new_privs"):
        parts.append("no new privileges")
    if kept.get("private_tmp"):
        parts.append("private /tmp")
    if kept.get("private_pids"):
        parts.append("private processes")
    return clean(", ".join(parts))


def _some(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}"
