"""Asking from several processes, on one machine or many: shares of rows, rates and budget, a ledger each, merged by key."""
