"""What the commands say when they cannot go on."""


class StackError(Exception):
    """The stack cannot be brought into the wanted state. The message says why and what to do."""
