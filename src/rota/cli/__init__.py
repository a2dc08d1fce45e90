"""The command line: a client of REST, and the way to start an agent.

``table`` says what commands there are, ``commands/`` carries them out, ``place`` finds the agent,
``client`` and ``follow`` speak to it, ``render``, ``screen`` and ``logview`` show what it said.
"""
