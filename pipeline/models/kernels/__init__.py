"""Fast paths of the network, each equal to its readable definition within rounding; ``dispatch`` chooses between the two."""
