"""The command `ticketrush`: TicketRush from a terminal, through the public gRPC API."""
