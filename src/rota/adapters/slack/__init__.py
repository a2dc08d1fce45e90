"""Slack: channels, threads and direct messages, on slack-sdk (ADR 44)."""

from rota.adapters.slack.network import SlackNetwork

__all__ = ["SlackNetwork"]
