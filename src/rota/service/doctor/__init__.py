"""`rota doctor`: looks for what is wrong, or will be, on every agent, and says what to do about it.

Each check is a row of a table: :data:`~rota.service.doctor.member.CHECKS` of one agent and its
machine, :data:`~rota.service.doctor.whole.CHECKS` of the cluster. A check looks, and yields findings.
"""
