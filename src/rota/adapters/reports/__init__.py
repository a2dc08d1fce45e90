"""Reports read by a process of their own, which bounds what hostile ones can cost."""
