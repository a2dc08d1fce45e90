"""Runs attempts in containers, through the API that Docker and Podman both serve.

A container's first process is ``contain.sh``, run by a ``sh`` that rota brings along with its loader
and libraries, so that an image need have none. It writes the script's output straight to the log
file, and how it ended to a file of the attempt's home, which is mounted at its own path: so all is
as for processes, and any later daemon can adopt it. ADR 30 says why it is so.
"""
