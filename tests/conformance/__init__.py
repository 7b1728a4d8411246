"""The reference's numbers (tests/data/conformance) and the recipe of weights and inputs."""
