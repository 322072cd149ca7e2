"""A drill: the database is destroyed under load and comes back from a back-up, and the money is brought in order."""
