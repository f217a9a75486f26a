"""Pictures of a finished run, for people."""
