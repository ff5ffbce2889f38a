"""One update of the weights: loss, gradients, optimisers, rates and averages."""
