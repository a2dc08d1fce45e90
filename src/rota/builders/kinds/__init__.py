"""One module for each family of projects: what tells that one is there, and what it asks for."""
