"""Renews a saved login that has ended, where its provider gave by what: nobody is asked.

It is done when an agent turns the token away, whatever this machine's clock says. Commands that find
it at the same time take turns: the provider may take what renews a login once only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from rota.client.login import read_login, save_login, turn
from rota.client.place import Place, parse_place, with_credentials
from rota.client.rest import Rest
from rota.errors import DeniedError, UnavailableError


def renewed(
    shown: str, env: Mapping[str, str], client: Callable[[Place, Collection[str]], Rest]
) -> str | None:
    """Return a token in place of one that was turned away; None if the saved login cannot be renewed.

    Args:
        shown: The token that was turned away.
        env: Says where the login is saved.
        client: Makes one, given an agent and the URLs of others.

    Raises:
        DeniedError: the provider vouches no more, or somebody ended the login; it is not tried again.
        InputError: the login cannot be read or saved.
        UnavailableError: no agent answers, or not the provider.
    """
    with turn(env):
        login = read_login(env)
        if login is None or not login.token:
            return None
        if login.token != shown:
            return login.token  # another command was first
        if not login.refresh:
            return None
        place = with_credentials(parse_place(login.url, "the saved login"), {**env, **_NONE})
        asked = client(place._replace(token=""), login.agents)
        try:
            made = asked.call("login_renew", token=shown, refresh=login.refresh).json()
        except DeniedError as error:
            save_login(login._replace(refresh=""), env)
            raise DeniedError(
                f"the login at {login.url} has ended: {error.message}",
                known=True,
                hint=f"log in again: rota login {login.url}",
            ) from error
        except UnavailableError as error:
            raise type(error)(
                f"the login at {login.url} has ended, and is not renewed now: {error.message}",
                hint=error.hint,
            ) from error
        save_login(login._replace(token=made["token"], refresh=made["refresh"]), env)
        return str(made["token"])


#: The login is renewed as it is saved, whatever else is shown meanwhile.
_NONE = {"ROTA_TOKEN": ""}
