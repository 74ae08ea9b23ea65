"""Ask a model: an endpoint, local weights, or the shipped fake; and the catalogue of the usual ones."""
