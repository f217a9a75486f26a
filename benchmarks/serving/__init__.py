"""What a packaged model answers, and how fast."""
