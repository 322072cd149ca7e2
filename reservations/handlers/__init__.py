"""What reservations does, one use case a file: lock, decide and write in one transaction, then publish and answer."""
