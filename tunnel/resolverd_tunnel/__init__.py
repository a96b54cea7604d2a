"""The data plane: a TUN device, the private namespace that ends its flows, and the way into the cluster."""
