"""Reading rows of any format, checking each, splitting without leaks, sealing the test."""
