"""How real new slices are: their features, their variety, how close they come to training slices."""
