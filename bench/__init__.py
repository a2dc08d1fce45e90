"""The benches: what rota costs, measured as a user would meet it, beside a floor of this machine.

Nothing here gates. Each figure stands with what it is meant to reach and with a floor that was
measured in the same run, because a number without its machine says nothing.
"""
