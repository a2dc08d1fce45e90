"""What all kinds of executors have in an attempt's home, in the same form."""
