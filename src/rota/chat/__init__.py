"""The bot: the process that speaks on chat networks for the cluster (ADR 42)."""
