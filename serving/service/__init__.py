"""The scorer over HTTP: `python -m serving.service`."""
