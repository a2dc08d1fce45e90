"""A thousand callers who are slow on purpose, and what others wait for the same answer meanwhile.

A quarter of them sends nothing, one half a head, one follows events and reads none, one asks for a large log
and reads none of it (of these two a hundred are answered, the others are refused). They come from five addresses,
since one has no more than 256 connections.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import time
from collections.abc import Iterator

from bench import usage
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases import text
from bench.figure import Figure
from bench.rest import Connection

ADDRESSES = 5
ASKS = 300


def run(setting: Setting) -> Result:
    """Measure memory and latency with and without them."""
    count, size = setting.size(1000, 100), setting.size(50, 5) * 1_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    source = setting.folder / "text"
    text.write(source, size)
    with running(setting.data()) as agent, agent.connect() as connection:
        connection.put("large", f"#!/bin/sh\nexec cat {source}\n")
        build = connection.run("large")["id"]
        connection.wait(build)
        agent.settle()
        before, alone = usage.pss_mb(agent.daemon), _latency(connection)
        with _slow(agent, count, build):
            time.sleep(5.0)  # until all that fits into the sockets stands in them
            during, among = usage.pss_mb(agent.daemon), _latency(connection)
    name = f"{count} slow callers"
    return Result(
        figures=[
            Figure(
                what=f"{name}: an answer to another, p50",
                value=among[0],
                unit="ms",
                reach=2 * alone[0],
                floor=alone[0],
                floor_name="alone",
            ),
            Figure(
                what=f"{name}: p99",
                value=among[1],
                unit="ms",
                floor=alone[1],
                floor_name="alone",
            ),
            Figure(
                what=f"{name}: PSS of the daemon, each",
                value=(during - before) * 1000 / count,
                unit="kB",
                reach=300,
            ),
        ],
        notes=[f"PSS {before:.0f} MB before, {during:.0f} MB with them"],
    )


def _latency(connection: Connection) -> tuple[float, float]:
    """Return the median and the 99th percentile of a small question, in ms."""
    took = []
    for _ in range(ASKS):
        began = time.perf_counter()
        connection.call("GET", "/v1/status")
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


@contextlib.contextmanager
def _slow(agent: Agent, count: int, build: str) -> Iterator[None]:
    token = (agent.data / "token").read_text().strip()
    host, _, port = (agent.data / "listen").read_text().strip().rpartition(":")
    authorized = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    said = (
        "",
        f"GET /v1/status{authorized}X-Slow: ",
        f"GET /v1/events?follow=true&after=0{authorized}\r\n",
        f"GET /v1/builds/{build}/log{authorized}\r\n",
    )
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sock = stack.enter_context(socket.socket())
            # What the kernel takes in is not the daemon's: let it be little.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind((f"127.0.0.{1 + number % ADDRESSES}", 0))
            sock.connect((host, int(port)))
            sock.sendall(said[number % len(said)].encode())
        yield
