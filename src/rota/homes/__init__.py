"""What all executors do alike with an attempt's home, and have in it in the same form."""
