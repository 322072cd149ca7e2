"""How any TicketRush service starts, stops, stores and speaks. No business word in it."""
