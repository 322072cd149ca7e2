"""How TicketRush is brought up: the table of its services, the local stack, database roles and migrations."""
