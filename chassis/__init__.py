"""How any TicketRush service starts, stops, stores and speaks. No business word in it."""

import os

# gRPC's core writes lines of its own past every logger, one for each header that it finds too long: in a log of JSON
# objects, at anybody's wish. It looks here when it is imported. What it has to say of calls, it says in their statuses.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
