"""Which part of the inputs a run takes, and how long they are."""
