"""Stage 3: systems side by side on the sealed test split: scores with intervals, latency, memory."""
