"""However the network cuts the bytes up, the wire hands on the same messages."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.adapters.nats.wire import Message, Wire

WORDS = st.sampled_from([b"rota.journal.build.x", b"a", b"_INBOX.q.1"])
MESSAGES = st.builds(
    Message,
    subject=WORDS,
    reply=st.sampled_from([b"", b"reply.to"]),
    headers=st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"NATS/1.0 404 No\r\n\r\n"]),
    data=st.binary(max_size=40) | st.sampled_from([b"\r\n", b"MSG a 1 3\r\n", b"PING\r\n"]),
)


def as_sent(message: Message) -> bytes:
    words = [message.subject, b"7", *([message.reply] if message.reply else [])]
    size = len(message.headers)
    if size:
        words.append(b"%d" % size)
    words.append(b"%d" % (size + len(message.data)))
    kind = b"HMSG " if size else b"MSG "
    return kind + b" ".join(words) + b"\r\n" + message.headers + message.data + b"\r\n"


@settings(deadline=None, max_examples=200)
@given(
    messages=st.lists(MESSAGES, max_size=6),
    between=st.sampled_from([b"", b"PING\r\n", b"+OK\r\n", b"-ERR 'Slow'\r\n", b"PONG\r\n"]),
    data=st.data(),
)
def test_messages_come_out_whole_in_order(
    messages: list[Message], between: bytes, data: st.DataObject
) -> None:
    sent = b"".join(as_sent(message) + between for message in messages)
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=12).map(sorted))
    assert asyncio.run(receive(sent, [0, *cuts, len(sent)])) == messages


async def receive(sent: bytes, cuts: list[int]) -> list[Message]:
    got: list[Message] = []
    wire = Wire({b"7": got.append})
    for start, stop in itertools.pairwise(cuts):
        wire.data_received(sent[start:stop])
    return got
