"""The fast paths of the network, each equal to its readable definition within rounding."""
