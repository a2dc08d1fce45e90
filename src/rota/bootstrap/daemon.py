"""One agent as a daemon: its ports, its sockets, its door."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from aiohttp import web
from msgspec.structs import replace

import rota
from rota.adapters.age import seal
from rota.adapters.blob_files import FileBlobs
from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.adapters.clouds import LibcloudProviders
from rota.adapters.disk import SystemDisk
from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.engine import Engine as ContainerEngine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.docker.found import found_engine, watch_engine
from rota.adapters.forges import HttpForges
from rota.adapters.git import GitCheckout, GitService, GitStore
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.inspector import ProgramInspector
from rota.adapters.nats import Bus, Engine
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.engine import NO_QUORUM
from rota.adapters.nats.ensemble import NatsEnsemble
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.lease import NatsLease
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.nats.presence import NatsPresence
from rota.adapters.nats.sizes import stream_sizes
from rota.adapters.oidc import OidcIdentity
from rota.adapters.otlp import HttpCollector
from rota.adapters.peers import HttpsPeers, own_address, server_context
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import Confiner, confiner_of
from rota.adapters.process.forks import Forks
from rota.adapters.programs import SystemPrograms
from rota.adapters.reports.reader import ReportReader
from rota.adapters.restored_logs import FOLDER as RESTORED
from rota.adapters.restored_logs import bring_back
from rota.adapters.sqlite.cases import SqliteCases
from rota.adapters.sqlite.index import SqliteIndex
from rota.adapters.tmpfs import TmpfsFiles
from rota.adapters.tools import known_tools, watch_tools
from rota.agent.agent import Agent
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.certificates import Certificates
from rota.agent.confining import uids
from rota.agent.group import background
from rota.agent.health import run_health
from rota.agent.joining import SNAPSHOT, fetch_snapshot, read_known, write_known
from rota.agent.keys import KeyChange
from rota.agent.ports import Ports
from rota.agent.timeline import SURE_S, has_parted
from rota.bootstrap.blobs import BLOB_STORES
from rota.bootstrap.chat import make_chat
from rota.bootstrap.executors import Executors
from rota.bootstrap.machine import Machine, labels_of, log_bytes
from rota.bootstrap.member import Member
from rota.bootstrap.options import AgentOptions
from rota.bootstrap.probes import DaemonProbes
from rota.bootstrap.reloading import Reloading
from rota.core.address import Address
from rota.core.agent_file import MAX_SLOTS, limited
from rota.core.cluster import Picture, decode_picture
from rota.core.confinement import BUILDS_DOOR
from rota.core.events import ClusterRaised, kind_of
from rota.core.levels import parse_level
from rota.core.settings import Settings
from rota.daemon.folder import DataFolder, digest
from rota.daemon.nameplate import FILE, Nameplate
