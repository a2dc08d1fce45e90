"""What makes an agent a daemon: its folder, its sockets, and who waits for it to be ready."""
