"""`ticketrush payments reconcile`: what the card processor did and the books, restored from the past, do not know."""
