"""Training engines. Each one wraps a framework; none imports another."""
