"""`ticketrush fsck`: the seven invariants against a live system, in one snapshot of both schemas."""
