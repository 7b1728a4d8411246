"""Key names of every released layout, mapped to ours."""
