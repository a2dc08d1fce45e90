"""Says what users and tokens allow, by the definitions and the state that this agent has folded.

What it said is kept until the definitions are other ones: asked again it costs a look-up, however
many users and rules there are.
"""

from __future__ import annotations

from collections.abc import Callable

from rota.core.access import grants_of, rights_of, role_of
from rota.core.definitions import Definitions
from rota.core.rights import Rights, Role
from rota.core.tokens import AccessToken

#: So many answers are kept; then they are worked out anew.
MAX_KEPT = 20_000


class Judge:
    """One for each world; everybody asks the same.

    Args:
        definitions: Returns those that hold now.
    """

    def __init__(self, definitions: Callable[[], Definitions]) -> None:
        self._definitions = definitions
        self._of: Definitions | None = None
        self._users: dict[tuple[str, Role | None], Rights] = {}
        self._tokens: dict[tuple[object, ...], Rights] = {}

    def user(self, name: str, role: Role | None = None) -> Rights:
        """Return what a user may.

        Args:
            name: Of a user, or of somebody who is none.
            role: Over everything, where something else than the user's file says it: for who uses the
                agent's socket, or is a stranger.
        """
        self._look()
        key = (name, role)
        found = self._users.get(key)
        if found is None:
            now = self._definitions()
            found = self._users[key] = rights_of(now.users, now.settings, name, role)
        return found

    def token(self, token: AccessToken) -> Rights:
        """Return what a token allows whose user is there: what the user may, and no more than it says."""
        self._look()
        key = (token.user, token.role, token.jobs, token.groups)
        found = self._tokens.get(key)
        if found is None:
            users, settings = self._definitions().users, self._definitions().settings
            found = self._tokens[key] = Rights(
                max(role_of(users, token.user), self._role_of_groups(token.groups)),
                grants_of(users, settings, token.user),
                cap=token.cap,
                within=token.jobs,
            )
        return found

    def is_there(self, name: str) -> bool:
        """Whether there is a user of that name."""
        return name in self._definitions().users

    def _role_of_groups(self, groups: tuple[str, ...]) -> Role:
        """Return the highest role that the settings give to groups of the provider of identities."""
        roles = self._definitions().settings.oidc.roles
        return max((Role[roles[it].upper()] for it in groups if it in roles), default=Role.NONE)

    def _look(self) -> None:
        """Forget what was said by other definitions."""
        is_full = len(self._users) >= MAX_KEPT or len(self._tokens) >= MAX_KEPT
        now = self._definitions()
        if self._of is not now or is_full:
            self._of = now
            self._users.clear()
            self._tokens.clear()
