"""Stage 1: the teacher answers each prompt into the ledger, gates keep or drop, and what is kept is the training set."""
