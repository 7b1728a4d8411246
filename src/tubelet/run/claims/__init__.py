"""Who works on what, when several runs share one output."""
