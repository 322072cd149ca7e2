"""Holds, sells and releases tickets: the owner of events, tickets, reservations and what payments are to them."""
