"""`ticketrush forget-buyer`: the person goes, the history of tickets and money stays."""
