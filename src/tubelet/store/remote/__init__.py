"""Output folders on object stores."""
