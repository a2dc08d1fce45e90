"""Runs attempts in containers, through the API that Docker and Podman both serve.

A container's first process is ``contain.sh``, run by a ``sh`` that rota brings along with its loader
and libraries, so that an image need have none. The script prints into the pipe of the attempt's home
(ADR 38), and how it ended stands in a file there, each mounted at its own path: so all is as for
processes, and any later daemon can adopt it. ADR 30 says why it is so.
"""
