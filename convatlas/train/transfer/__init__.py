"""What a trained network knows for other tasks: features of a layer, and a linear probe on them."""
