"""What the agent needs from the world, as protocols.

Each says the order of calls, what may run at the same time, what is safe to call twice, and what
cancellation leaves behind. Each has an in-memory twin under ``adapters/`` that passes the same
contract tests.
"""
