"""Several of everything on one machine, behind one address."""
