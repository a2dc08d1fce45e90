"""What users may, by their files and by the rules of the settings."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.rights import Grant, Rights, Role
from rota.core.settings import Settings
from rota.core.users import User


def role_of(users: Mapping[str, User], name: str) -> Role:
    """Return somebody's role over everything; who is no user has none."""
    user = users.get(name)
    return Role[user.role.upper()] if user is not None else Role.NONE


def grants_of(users: Mapping[str, User], settings: Settings, name: str) -> tuple[Grant, ...]:
    """Return what rules give to a user. Cost: a look at each rule and group."""
    if name not in users or not settings.access:
        return ()
    groups = frozenset(f"@{group}" for group, members in settings.groups.items() if name in members)
    return tuple(rule.grant for rule in settings.access if rule.gives(name, groups))


def rights_of(
    users: Mapping[str, User], settings: Settings, name: str, role: Role | None = None
) -> Rights:
    """Return what somebody may; ``role`` is over everything, where the file does not say it."""
    base = role_of(users, name) if role is None else role
    return Rights(base, grants_of(users, settings, name))
