"""Takes payments: charges cards, gives money back, and keeps the money ledger."""
