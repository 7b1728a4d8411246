"""PySlowFast's YAML files as descriptions of networks."""
