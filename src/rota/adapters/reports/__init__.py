"""Reports read by a process of their own, which bounds what hostile ones can cost."""

from rota.adapters.reports.reader import ReportReader

__all__ = ["ReportReader"]
