"""`ticketrush parked`: messages that wait for a person, listed, shown, sent again or given up."""
