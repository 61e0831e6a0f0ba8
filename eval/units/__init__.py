"""Single units of a layer beside other directions of its space: bases, measures and the probes that take them."""
