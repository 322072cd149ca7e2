"""All SQL of reservations, by noun; one function per statement."""
