"""The run directory: atomic files, typed events, fingerprints, the ledger of questions and answers."""
