"""Whether every promise was kept: pure functions over the clients' record, the books and the processor's statement.

It shares no code with the services and none with their own checks: what it takes to be true it takes from
docs/states.md and the comments of the public contract.
"""
