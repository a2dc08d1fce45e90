from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rota.adapters.slack import messages
from rota.ports.networks import Saying

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("type", "subtype", "text", "user", "ts", "thread_ts", "metadata", "bot_id", "hidden")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)))
def test_whatever_slack_sends_is_a_message_or_none(message: Any) -> None:
    assert isinstance(messages.text_of(message, "UBOT", "rota"), str | None)
    assert isinstance(messages.said_id(message), str)
    assert isinstance(messages.thread_of(message), str)
    assert isinstance(messages.nick_of({"profile": message}), str)
    assert messages.instant(str(message.get("ts"))).tzinfo is not None


@given(st.text())
def test_what_people_see_is_what_is_heard(text: str) -> None:
    """Slack escapes three signs, and nothing of what people write becomes markup by that."""
    message = {"type": "message", "user": "UANN", "ts": "1.0", "text": messages.escaped(text)}
    assert messages.text_of(message, "UBOT", "rota") == text


def test_nothing_that_is_said_is_markup() -> None:
    saying = Saying(
        id="n-1", room="#web", text="*web#7* <!here> & more\nsecond", code="a  b ```", tone="bad"
    )
    body = messages.body_of(saying)
    assert body["text"] == "*web#7* &lt;!here&gt; &amp; more"
    assert body["blocks"] == [
        {
            "type": "rich_text",
            "elements": [
                {
                    "type": "rich_text_section",
                    "elements": [
                        {"type": "emoji", "name": "x"},
                        {"type": "text", "text": " "},
                        {"type": "text", "text": "*web#7* <!here> & more\nsecond"},
                    ],
                },
                {
                    "type": "rich_text_preformatted",
                    "elements": [{"type": "text", "text": "a  b ```"}],
                },
            ],
        }
    ]
    assert messages.said_id(body) == "n-1"
