"""Stage 2: the student is made, and trained to be like its teacher."""
