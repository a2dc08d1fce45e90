"""What is kept in SQLite files: copies of what the journal, ``history`` and artifacts say."""
