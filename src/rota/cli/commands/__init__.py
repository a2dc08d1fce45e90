"""What the commands do: each a function of its arguments and the screen, returning a status."""
