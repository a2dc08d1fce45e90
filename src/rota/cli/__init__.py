"""The command line: a client of REST, and the way to start an agent.

``table`` says what commands there are, ``commands/`` carries them out through :mod:`rota.client`, and
``render``, ``screen`` and ``logview`` show what it said.
"""
