"""The pure core: data in, data out.

No input or output, no clock, no chance: what happens here depends on the arguments alone, so a
build's whole life can be read, replayed and simulated from this folder.
"""
