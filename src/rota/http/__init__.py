"""REST, server-sent events and git over HTTP: a thin edge over the service."""
