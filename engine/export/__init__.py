"""Export: a trained network as a file for other programs, checked against the engine."""
