"""Jobs that build what lies in a folder: what is there, and the template that fits it."""
