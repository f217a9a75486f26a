"""Speed and memory of single parts beside the plain way to do the same; see README.md."""
