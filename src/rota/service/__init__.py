"""What a person or program can ask of rota: one table of verbs, and what each does.

:mod:`~rota.service.verbs` is the table: the CLI, REST and its OpenAPI document are made from it.
The other modules carry the verbs out on the live picture of the cluster and the ports.
"""
