"""Stage 5: what a run came to, for people and for programs: JSON, one HTML page, a model card, a manifest."""
