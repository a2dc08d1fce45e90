"""Which repository a URL means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.repository import repo_key


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/web/shop.git",
        "https://git.example/web/shop/",
        "https://Git.Example:443/web/shop.git",
        "http://ann:secret@git.example/web/shop",
        "ssh://git@git.example:22/web/shop.git",
        "git@git.example:web/shop.git",
        "git@git.example:/web/shop.git",
        " git://git.example/web/shop.git/ ",
    ],
)
def test_all_urls_of_a_repository_come_to_one(url: str) -> None:
    assert repo_key(url) == "git.example/web/shop"


def test_what_differs_stays_so() -> None:
    assert repo_key("https://git.example:8443/web.git") == "git.example:8443/web"
    assert repo_key("https://git.example/Web.git") != repo_key("https://git.example/web.git")
    assert repo_key("file:///srv/git/web.git") == repo_key("/srv/git/web.git") == "/srv/git/web"
    assert repo_key("../web.git") == "../web"


@given(st.text())
def test_any_text_comes_to_something_and_no_password_stays(text: str) -> None:
    repo_key(text)
    assert "@" not in repo_key(f"https://a:b{text.replace('/', '')}@git.example/x").split("/")[0]
